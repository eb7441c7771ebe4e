"""Who watches a Harvester cluster tells kept devices from all others."""

from __future__ import annotations

from collections import Counter

import pytest

from nodeagent.apiserver.memory import InMemoryApi
from tests.e2e.harvester.place import Place
from tests.e2e.harvester.witness import Launcher, Witness

KEPT, MADE, FREE = (("GPU-1", 19, start) for start in (6, 3, 0))


@pytest.fixture
def witness() -> Witness:
    return Witness(InMemoryApi(), lambda node, devices, uid: frozenset())


def launcher(
    name: str, *, decided: Place, planned: Place, node: str = "node-1", kept: Place | None = None
) -> Launcher:
    return Launcher(
        name, node, frozenset([kept] if kept else ()), Counter([decided]), Counter([planned])
    )


def test_who_is_where_it_was_decided_is_well(witness: Witness) -> None:
    witness.launchers["a"] = launcher("vm-a", decided=MADE, planned=MADE)

    assert witness.rewritten == []
    assert list(witness.unfounded()) == []


def test_a_plan_may_be_rewritten_to_a_kept_device(witness: Witness) -> None:
    witness.launchers["a"] = launcher("vm-a", decided=MADE, planned=KEPT, kept=KEPT)

    assert witness.rewritten == ["vm-a"]
    assert list(witness.unfounded()) == []


def test_a_plan_that_is_rewritten_to_any_other_place_is_noticed(witness: Witness) -> None:
    witness.launchers["a"] = launcher("vm-a", decided=MADE, planned=FREE, kept=KEPT)

    (said,) = witness.unfounded()
    assert "vm-a: decided to be at" in said


def test_who_was_given_anothers_kept_device_leaves_its_own_to_that_one(witness: Witness) -> None:
    witness.launchers["a"] = launcher("vm-a", decided=MADE, planned=KEPT, kept=KEPT)
    witness.launchers["b"] = launcher("vm-b", decided=KEPT, planned=MADE)

    assert list(witness.unfounded()) == []
    assert set(witness.may_have("b")) == {MADE}


def test_two_that_change_places_without_a_kept_device_are_noticed(witness: Witness) -> None:
    witness.launchers["a"] = launcher("vm-a", decided=MADE, planned=FREE)
    witness.launchers["b"] = launcher("vm-b", decided=FREE, planned=MADE)

    assert len(list(witness.unfounded())) == 2


def test_what_is_kept_on_one_node_excuses_nobody_on_another(witness: Witness) -> None:
    witness.launchers["a"] = launcher("vm-a", decided=MADE, planned=KEPT, kept=KEPT)
    witness.launchers["b"] = launcher("vm-b", decided=KEPT, planned=MADE, node="node-2")

    assert len(list(witness.unfounded())) == 1
