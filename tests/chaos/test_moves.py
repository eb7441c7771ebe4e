"""What the judge says of orders of moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from extender.moving import Admitted, Departure, Kind, Leg, Made, Order, Outcome, Seat
from extender.policy.moving import Mode
from extender.policy.moving import Moving as Rules
from nodeagent.api.gpunode import Assignment, GpuNode, OwnerRef, PodRef
from tests.builders import VGPU, assignment, gpu_node
from tests.chaos.moves import LATE_SECONDS, Moves, Running
from tests.chaos.pods import Pod

SMALL, SIZE = 19, 1
OWNER = OwnerRef("VirtualMachineInstance", "default", "vm")
LAST = PodRef("default", "vm", "last")
SOURCE = Seat("node-1", "GPU-0", SMALL, 0, SIZE)
TARGET = Seat("node-2", "GPU-9", SMALL, 3, SIZE)
LEG = Leg(OWNER, LAST, VGPU + "1-10C", SOURCE, TARGET)
ORDER = Order("0123456789ab", "digest", "now", ("a goal",), (LEG,))
LEAVES = msgspec.structs.replace(ORDER, departed=Departure(LAST, Kind.EVICTION))
MADE = msgspec.structs.replace(ORDER, made=(Made("eviction"),))
APPLY = Rules(mode=Mode.APPLY)


class Judged:
    """What was kept and planned, second after second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pods = {"last": Pod("vm", "last", node="node-1", vm="vm", runs="instance")}
        self.plans: dict[str, GpuNode] = {}
        self.moves = Moves(self.pods, self.plans, lambda: self.now)
        self.plan("node-1", self.of("last", SOURCE))
        self.plan("node-2")

    def of(self, uid: str, seat: Seat) -> Assignment:
        return assignment(f"of-{uid}", SMALL, seat.start, gpu=seat.gpu, pod=uid, owner=OWNER)

    def keep(self, order: Order) -> Sequence[str]:
        self.now += 1.0
        raw = msgspec.json.encode({"data": {"order.json": msgspec.json.encode(order).decode()}})
        return [*self.moves.kept(raw, self.now)]

    def plan(self, node: str, *entries: Assignment) -> Sequence[str]:
        self.now += 1.0
        before = self.plans.get(node)
        self.plans[node] = after = gpu_node(node, plan=entries)
        return [*self.moves.wrote(before, after, self.now)]

    def evict(self, *, sent: float | None = None) -> Sequence[str]:
        self.now += 1.0
        told = [*self.moves.departs(LAST, "eviction", "a_1", self.now if sent is None else sent)]
        return told

    def stop(self, instance: str) -> Sequence[str]:
        self.now += 1.0
        return [*self.moves.departs(Running("vm", instance), "restart", "a_1", self.now)]

    def gone(self) -> None:
        self.now += 1.0
        self.moves.ended(self.pods.pop("last"))

    def come(self, node: str = "node-2", *, ready: bool = True) -> None:
        self.pods["next"] = Pod("vm", "next", node=node, vm="vm", ready=ready)


@pytest.fixture
def judged() -> Judged:
    """An order was given, and holds the place where its VM is to go."""
    made = Judged()
    assert made.keep(ORDER) == []
    assert made.plan("node-2", ORDER.hold(0)) == []
    return made


def said(told: Sequence[str], what: str) -> bool:
    return len(told) == 1 and told[0].startswith(what)


def test_a_move_from_its_beginning_to_its_end_is_as_it_should_be(judged: Judged) -> None:
    assert judged.keep(LEAVES) == []
    assert judged.evict() == []
    judged.gone()
    assert judged.plan("node-2", judged.of("next", TARGET)) == []
    judged.come()
    assert judged.keep(MADE) == []
    assert judged.keep(msgspec.structs.replace(MADE, ending=Outcome.DONE)) == []
    assert judged.keep(msgspec.structs.replace(MADE, ending=Outcome.DONE, over=True)) == []
    assert (judged.moves.orders, judged.moves.made) == (1, 1)


def test_nobody_leaves_of_whom_that_is_not_kept(judged: Judged) -> None:
    assert said(judged.evict(), "wrong move")


@pytest.mark.parametrize("fields", [{"stopping": "somebody"}, {"ending": Outcome.STOPPED}], ids=str)
def test_nobody_is_told_to_leave_once_the_order_is_stopped(
    judged: Judged, fields: dict[str, Any]
) -> None:
    judged.keep(LEAVES)
    before = judged.now + 0.5
    judged.keep(msgspec.structs.replace(LEAVES, **fields))

    assert judged.evict(sent=before) == [], "it was long on its way"
    judged.now += 1.0
    assert said(judged.evict(), "wrong move")


@pytest.mark.parametrize("rules", [Rules(), Rules(mode=Mode.APPLY, paused=True)], ids=str)
def test_nobody_is_told_to_leave_by_who_goes_by_a_policy_that_forbids_it(
    judged: Judged, rules: Rules
) -> None:
    judged.moves.adopted("a_1", APPLY)
    judged.keep(LEAVES)
    assert judged.evict() == []
    judged.now += 1.0
    judged.moves.adopted("b_2", rules)
    assert judged.evict() == [], "the other has yet to read it"
    judged.moves.adopted("a_1", rules)

    assert said(judged.evict(), "wrong move")


def test_nobody_leaves_without_a_place_to_go_to(judged: Judged) -> None:
    judged.keep(LEAVES)
    judged.plan("node-2")
    assert judged.evict() == [], "it was there when that was decided"
    judged.now += LATE_SECONDS

    assert said(judged.evict(), "wrong move")


def test_a_vm_is_stopped_while_it_runs_in_the_pod_that_is_to_leave(judged: Judged) -> None:
    """By its name alone, what runs in another pod by now would be stopped, too."""
    judged.keep(msgspec.structs.replace(ORDER, departed=Departure(LAST, Kind.RESTART)))

    assert judged.stop("instance") == []
    assert said(judged.stop("another"), "wrong move")
    judged.gone()
    assert judged.stop("instance") == [], "its pod was deleted first"


def test_a_place_is_claimed_over_nothing_that_is_held_for_whom_is_still_to_come() -> None:
    judged = Judged()
    place = Admitted(PodRef("default", "waits", "waits"), LEG.resource, TARGET)
    order = msgspec.structs.replace(ORDER, legs=(LEG, LEG), places=(place,))
    other = msgspec.structs.replace(ORDER, id="another")
    judged.keep(other)
    made = msgspec.structs.replace(other, made=(Made("eviction"),), ending=Outcome.DONE)
    judged.keep(made)
    judged.keep(msgspec.structs.replace(made, over=True))
    judged.keep(order)
    judged.keep(msgspec.structs.replace(order, made=(Made("eviction"),)))
    waits_for = judged.moves.waits_for

    assert waits_for(order.claim(0), order.hold(0)), "its VM has come for it"
    assert not waits_for(order.claim(0), order.hold(1))
    assert not waits_for(order.claim(0), other.hold(0))


def test_what_leads_back_does_so_until_the_vm_has_left_that_place_again(judged: Judged) -> None:
    back, hold = LEAVES.way_back(SOURCE), ORDER.hold(0)
    leads_back = judged.moves.leads_back
    assert leads_back(back)
    assert not leads_back(hold), "that leads forth"
    judged.plan("node-1", back)

    for uid in ("next", "third"):
        assert leads_back(judged.of(uid, SOURCE))
        assert judged.plan("node-1", judged.of(uid, SOURCE)) == []
    judged.plan("node-1")
    assert not leads_back(judged.of("later", SOURCE))
    assert not leads_back(hold)


def test_what_is_held_stays_until_its_order_ends_or_its_vm_has_it(judged: Judged) -> None:
    assert said(judged.plan("node-2"), "hold broken")
    judged.plan("node-2", ORDER.hold(0))
    judged.keep(msgspec.structs.replace(ORDER, ending=Outcome.STOPPED))

    assert judged.plan("node-2") == []


def test_nothing_is_held_that_no_order_has(judged: Judged) -> None:
    elsewhere = msgspec.structs.replace(ORDER.hold(0), start=4)
    unknown = msgspec.structs.replace(ORDER, id="another").hold(0)

    for entry in (elsewhere, unknown):
        judged.plan("node-2")
        assert said(judged.plan("node-2", entry), "held for nobody")


def test_one_order_at_a_time_is_under_way(judged: Judged) -> None:
    other = msgspec.structs.replace(ORDER, id="another")
    assert said(judged.keep(other), "order broken")
    judged.keep(msgspec.structs.replace(other, ending=Outcome.STOPPED))
    judged.keep(msgspec.structs.replace(other, ending=Outcome.STOPPED, over=True))

    assert judged.keep(ORDER) == []


def test_a_move_has_one_pod_leave(judged: Judged) -> None:
    judged.keep(LEAVES)
    other = Departure(PodRef("default", "vm", "other"), Kind.EVICTION)

    assert said(judged.keep(msgspec.structs.replace(LEAVES, departed=other)), "order broken")


@pytest.mark.parametrize("stays", [False, True])
def test_a_move_is_made_once_its_vm_has_come_and_runs_nowhere_else(
    judged: Judged, *, stays: bool
) -> None:
    judged.keep(LEAVES)
    if stays:
        judged.plan("node-2", judged.of("next", TARGET))
        judged.come()
    else:
        judged.gone()

    assert said(judged.keep(MADE), "order broken")


@pytest.mark.parametrize("unready", [False, True])
def test_a_move_is_made_once_its_vm_is_ready_unless_it_was_not_before(
    judged: Judged, *, unready: bool
) -> None:
    departed = Departure(LAST, Kind.EVICTION, unready=unready)
    judged.keep(msgspec.structs.replace(LEAVES, departed=departed))
    judged.evict()
    judged.gone()
    judged.plan("node-2", judged.of("next", TARGET))
    judged.come(ready=False)

    told = judged.keep(MADE)

    assert told == [] if unready else said(told, "order broken")


def of_order(judged: Judged, *, ready_for: float) -> Sequence[str]:
    """Have an order say that a pod is not Ready which has been for so many seconds."""
    pod = judged.pods["last"]
    pod.ready, pod.ready_at = True, judged.now - ready_for
    return judged.keep(
        msgspec.structs.replace(LEAVES, departed=Departure(LAST, Kind.EVICTION, unready=True))
    )


def test_a_move_is_passed_over_once_its_vm_is_no_more_and_not_before() -> None:
    passed_over = msgspec.structs.replace(ORDER, made=(Made("gone"),))
    there, no_more, leaving = Judged(), Judged(), Judged()
    for each in (there, no_more, leaving):
        each.keep(ORDER)
    no_more.gone()
    leaving.keep(LEAVES)
    leaving.gone()

    assert said(there.keep(passed_over), "order broken")
    assert no_more.keep(passed_over) == []
    assert said(leaving.keep(passed_over), "order broken")


def test_whether_a_pod_is_ready_that_is_to_leave_is_judged_by_the_pod_itself(
    judged: Judged,
) -> None:
    assert said(of_order(judged, ready_for=2 * LATE_SECONDS), "order broken")
    judged.gone()
    judged.plan("node-2", judged.of("next", TARGET))
    judged.come(ready=False)

    assert said(judged.keep(MADE), "order broken")


def test_a_pod_that_has_just_become_ready_may_count_as_not_being_so(judged: Judged) -> None:
    assert of_order(judged, ready_for=1.0) == []


@pytest.mark.parametrize("provided", [False, True])
def test_an_order_is_not_over_before_its_vm_that_came_nowhere_has_a_place_held_for_it(
    judged: Judged, *, provided: bool
) -> None:
    judged.keep(LEAVES)
    judged.gone()
    judged.plan("node-1")
    judged.now += LATE_SECONDS
    ending = msgspec.structs.replace(LEAVES, ending=Outcome.GIVEN_UP)
    judged.keep(ending)
    back = [LEAVES.way_back(SOURCE)] if provided else []
    assert judged.plan("node-1", *back) == []
    assert judged.plan("node-2") == []

    told = judged.keep(msgspec.structs.replace(ending, over=True))

    assert told == [] if provided else said(told, "left nowhere")
