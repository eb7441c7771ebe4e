"""However nodes change, a class of requests stands to each of them as if it were asked anew."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger, Promise
from extender.snapshot import NodeView, Taken
from extender.verbs import filter as filter_module
from extender.verbs import fleet as fleet_module
from extender.verbs.filter import filter
from extender.verbs.fleet import EquivalenceClass, Fleet, rank
from extender.verbs.prioritize import prioritize
from extender.verbs.verdicts import UNREPORTED, Fits, Refused, best, verdict
from nodeagent.api.geometry import Placement
from tests.builders import gpu, gpu_node, instance, request, view

NAMES = ("a", "b", "c", "d")
SHAPES = (("1-10C",), ("3-40C",), ("7-80C",), ("3-40C", "3-40C"), ("9-90C",))

gpus = st.lists(
    st.sampled_from([(), ((0, 0),), ((5, 0),), ((19, 6),), ((5, 0), (19, 4))]), max_size=2
)
nodes = st.builds(
    lambda held, stale, cordoned: (
        [gpu(i, instances=tuple(instance(*at) for at in each)) for i, each in enumerate(held)],
        {"stale": stale, "cordoned": cordoned},
    ),
    gpus,
    st.sampled_from([False, False, False, True]),
    st.sampled_from([False, False, False, True]),
)
changes = st.lists(st.tuples(st.sampled_from(NAMES), st.none() | nodes), max_size=12)
shapes = st.sampled_from(SHAPES)


def made(name: str, node: tuple[list[object], dict[str, bool]]) -> NodeView:
    held, fields = node
    return view(gpu_node(name, gpus=held), **fields)  # type: ignore[arg-type]


@given(changes, st.lists(shapes, min_size=1), st.lists(st.integers(0, 3), max_size=12), shapes)
def test_what_was_kept_up_is_what_would_be_found_anew(
    changed: list[tuple[str, tuple[list[object], dict[str, bool]] | None]],
    asked: list[tuple[str, ...]],
    turns: list[int],
    finally_asked: tuple[str, ...],
) -> None:
    views: dict[str, NodeView] = {}
    fleet = Fleet(views)
    for each in asked:
        fleet.to(request(*each).wanted)
    for at, (name, node) in enumerate(changed):
        before = views.pop(name, None)
        if node is not None:
            views[name] = made(name, node)
        fleet.changed(name, before)
        if at < len(turns):  # the background gets as far as it gets
            for _ in zip(range(turns[at]), fleet.catching_up(at_once=1), strict=False):
                pass

    for each in (*asked, finally_asked):
        for names in (sorted(views), [*sorted(views)[:-1], "gone"], sorted(views)[1:]):
            answer = filter(fleet, Ledger(), request(*each), names)
            reported = UNREPORTED.reason not in answer.refused.values()
            assert answer.everywhere == (reported and set(names) == views.keys())
        wanted = request(*each).wanted
        kept, anew = fleet.to(wanted), EquivalenceClass(wanted, views)
        anew.catch_up()
        assert kept.refusals == anew.refusals
        assert kept.order == anew.order
        verdicts = {name: verdict(view, wanted) for name, view in views.items()}
        fits = {name: v.choice for name, v in verdicts.items() if isinstance(v, Fits)}
        assert {name: why for name, why in kept.refusals.items() if why} == {
            name: v.reason for name, v in verdicts.items() if not isinstance(v, Fits)
        }
        assert kept.order == sorted(rank(views[name], choice) for name, choice in fits.items())
        assert {kept.codes[why] for why in kept.refusals.values() if why} == {
            anew.codes[why] for why in anew.refusals.values() if why
        }


@given(changes, shapes, st.lists(st.sets(st.sampled_from(NAMES)), max_size=12))
def test_of_many_nodes_those_asked_about_stand_as_if_all_had_been_judged(
    changed: list[tuple[str, tuple[list[object], dict[str, bool]] | None]],
    shape: tuple[str, ...],
    asked: list[set[str]],
) -> None:
    views: dict[str, NodeView] = {}
    fleet, wanted = Fleet(views), request(*shape).wanted
    with patch.object(fleet_module, "FEW", 0):
        for (name, node), names in zip(changed, asked, strict=False):
            before = views.pop(name, None)
            if node is not None:
                views[name] = made(name, node)
            fleet.changed(name, before)

            kept, anew = fleet.to(wanted, among=names), EquivalenceClass(wanted, views)
            anew.catch_up()

            answer = filter(fleet, Ledger(), request(*shape), sorted(names))
            assert fleet.names == views.keys()
            assert not answer.everywhere or names == views.keys()
            for each in names:
                assert kept.refusals.get(each) == anew.refusals.get(each)
            assert [it for it in kept.order if it[-1] in names] == [
                it for it in anew.order if it[-1] in names
            ]


def test_what_nodes_offer_is_judged_before_anybody_asks() -> None:
    full = gpu(0, instances=(instance(0, 0),))
    views = {"a": made("a", ([gpu(0)], {})), "b": made("b", ([full], {}))}
    fleet = Fleet(views)

    for _ in fleet.catching_up(at_once=1):
        pass

    wanted = request("7-80C").wanted
    begun, anew = fleet.classes[wanted], EquivalenceClass(wanted, views)
    anew.catch_up()
    assert (begun.refusals, begun.order) == (anew.refusals, anew.order)
    assert len(fleet.classes) <= fleet_module.KEPT_UP


@given(
    st.dictionaries(st.sampled_from(NAMES), nodes, min_size=1),
    shapes,
    st.lists(st.sampled_from((*NAMES, "unknown")), unique=True),
    st.sampled_from([0, 1, 64]),
    st.data(),
)
def test_filter_judges_each_node_asked_about_by_what_is_promised_there(
    there: dict[str, tuple[list[object], dict[str, bool]]],
    shape: tuple[str, ...],
    names: list[str],
    names_a_verdict: int,
    data: st.DataObject,
) -> None:
    views = {name: made(name, node) for name, node in there.items()}
    ledger = Ledger()
    for name in data.draw(st.sets(st.sampled_from(sorted(there)))):
        taken = data.draw(st.sampled_from([Placement(0, 8), Placement(4, 4), Placement(6, 1)]))
        ledger = ledger.assume(f"on {name}", Promise(name, (Taken("GPU-0", 0, taken),)))

    with patch.object(filter_module, "NAMES_A_VERDICT", names_a_verdict):
        answer = filter(Fleet(views), ledger, request(*shape), names)

    expected = {
        name: verdict(views[name], request(*shape).wanted, ledger.assumed_on(name))
        if name in views
        else UNREPORTED
        for name in names
    }
    why_not = {name: why for name, why in expected.items() if isinstance(why, Refused)}
    assert answer.passed == tuple(name for name in names if name not in why_not)
    assert answer.refused == {name: why.reason for name, why in why_not.items()}
    assert answer.codes == {why.code for why in why_not.values()}


@given(st.dictionaries(st.sampled_from(NAMES), nodes, min_size=1), shapes, st.data())
def test_prioritize_chooses_among_what_filter_lets_pass(
    there: dict[str, tuple[list[object], dict[str, bool]]],
    shape: tuple[str, ...],
    data: st.DataObject,
) -> None:
    fleet = Fleet({name: made(name, node) for name, node in there.items()})
    whole = Taken("GPU-0", 0, Placement(0, 8))
    ledger = Ledger()
    for name in data.draw(st.sets(st.sampled_from(sorted(there)))):
        ledger = ledger.assume(f"pod on {name}", Promise(name, (whole,)))
    for name in data.draw(st.sets(st.sampled_from(sorted(there)))):
        ledger = ledger.presume(f"maybe on {name}", Promise(name, (whole,)), until=1.0)

    passed = filter(fleet, ledger, request(*shape), NAMES)
    ranked = prioritize(fleet, ledger, request(*shape), passed.passed)

    assert set(passed.passed) | set(passed.refused) == set(NAMES)
    assert bool(passed.passed) == bool(ranked.winner)
    assert set(ranked.scores) == set(passed.passed)
    contested = {n: best(fleet.views[n], ledger, request(*shape)).contested for n in passed.passed}
    if not all(contested.values()):
        assert not contested[ranked.winner], "what is presumed for others is avoided"
