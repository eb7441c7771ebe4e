"""Which node has a place for a pod: none is lost sight of, however many there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.service import Service
from extender.service.assigned import Assigned
from tests.builders import assignment, gpu_node


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_node_seen_last_is_the_one(clock: Clock) -> None:
    assigned = Assigned(clock)
    assigned.planned("node-1", ["vm"])
    assigned.planned("node-2", ["vm"])

    assert assigned["vm"] == "node-2"
    assert assigned.nodes_of("vm") == ("node-2", "node-1")


def test_a_place_is_as_old_as_it_was_first_seen(clock: Clock) -> None:
    assigned = Assigned(clock)
    assigned.planned("node-1", ["vm"])
    clock.now = 3.0
    assigned.planned("node-1", ["vm", "other"])
    clock.now = 5.0

    assert assigned.seconds("vm") == 5.0
    assert assigned.seconds("other") == 2.0
    assert assigned.seconds("neither") == 0.0


def test_when_one_of_two_places_goes_the_other_is_still_known_and_grows_old(clock: Clock) -> None:
    assigned = Assigned(clock)
    assigned.planned("node-1", ["vm"])
    clock.now = 1.0
    assigned.planned("node-2", ["vm"])
    assigned.planned("node-2", [])
    clock.now = 4.0

    assert assigned["vm"] == "node-1"
    assert assigned.seconds("vm") == 4.0


async def test_a_reservation_ends_on_every_node_that_has_one(service: Service) -> None:
    knowledge, clock = service.knowledge, Clock()
    knowledge.clock = clock
    for name in ("node-1", "node-2"):
        plan = [assignment(f"at-{name}", 19, 0, pod="pod-1")]
        knowledge.gpu_node(gpu_node(name, plan=plan, generation=2, version=2, uid=name))
    (uid,) = knowledge.assigned
    knowledge.gpu_node(gpu_node("node-2", generation=3, version=3, uid="node-2"))
    clock.now = knowledge.settings.reservation_seconds + 1

    assert knowledge.reservation_over(uid)


NODES = st.sampled_from(["node-1", "node-2", "node-3"])
PODS = st.sets(st.sampled_from(["a", "b", "c"]))


@given(st.lists(st.tuples(NODES, PODS)))
def test_it_is_what_the_plans_say(plans: list[tuple[str, set[str]]]) -> None:
    assigned, now = Assigned(Clock()), dict(plans)
    for node, pods in plans:
        assigned.planned(node, pods)

    assert {uid: {*assigned.nodes_of(uid)} for uid in assigned} == {
        uid: {node for node, pods in now.items() if uid in pods}
        for uid in set().union(*now.values())
    }
