"""Which nodes have changed since when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extender.overview import Journal
from extender.overview import journal as module
from extender.snapshot import NodeView
from tests.builders import gpu_node, view

NAMES = ("a", "b", "c")
Steps = st.lists(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1)), max_size=12)
KINDS = {(name, kind): view(gpu_node(name, version=kind + 1)) for name in NAMES for kind in (0, 1)}


def views_of(state: dict[str, int]) -> dict[str, NodeView]:
    return {name: KINDS[name, kind] for name, kind in state.items()}


@given(Steps, st.data())
def test_a_reader_who_comes_back_at_any_time_ends_up_with_what_is_there(
    states: list[dict[str, int]], data: st.DataObject
) -> None:
    journal = Journal()
    known: dict[str, NodeView] = {}
    version = 0
    for views in map(views_of, states):
        journal.look(views)
        if data.draw(st.booleans()):
            changed = journal.since(version)
            assert changed is not None
            known.update((name, views[name]) for name in changed.nodes)
            for name in changed.gone:
                known.pop(name, None)
            version = journal.version
            assert known == views


def test_what_has_not_changed_is_not_told_again() -> None:
    journal, views = Journal(), views_of({"a": 0, "b": 0})
    journal.look(views)
    first = journal.version
    journal.look(views)
    assert journal.version == first

    journal.look(views | views_of({"b": 1}))

    changed = journal.since(first)
    assert changed is not None
    assert list(changed.nodes) == ["b"]


def test_a_version_of_another_process_is_not_known() -> None:
    assert Journal().since(1) is None
    assert Journal().since(-1) is None


def test_who_has_not_heard_of_nodes_long_gone_starts_anew(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "MOST_GONE", 1)
    journal = Journal()
    journal.look(views_of({"a": 0, "b": 0}))
    old = journal.version
    journal.look(views_of({"b": 0}))
    journal.look({})

    assert journal.since(old) is None
    latest = journal.since(journal.version - 1)
    assert latest is not None
    assert list(latest.gone) == ["b"]


def test_a_renewed_journal_tells_of_every_node_and_of_those_gone_meanwhile() -> None:
    journal = Journal()
    journal.look(views_of({"a": 0, "b": 0}))
    before = journal.version
    journal.renew()

    journal.look(views_of({"b": 0}))

    changed = journal.since(before)
    assert changed is not None
    assert (list(changed.nodes), list(changed.gone)) == (["b"], ["a"])
