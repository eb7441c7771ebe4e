"""A pod whose vGPUs must share a GPU or must not: every decision about it keeps to that."""

from __future__ import annotations

import time

import msgspec
import pytest

from extender.ledger import Ledger, Planned
from extender.packing.choose import Choice, Placed
from extender.packing.spread import Spread
from extender.planning.joint import Limits, Waiting, joint_plan
from extender.request import Request
from extender.service.refusals import Refusals
from extender.snapshot import NodeView
from extender.verbs.bind import place
from extender.verbs.filter import filter
from extender.verbs.fleet import Fleet
from extender.verbs.inherit import inherited
from extender.verbs.planned import planned
from extender.verbs.preempt import sufficient
from extender.verbs.prioritize import prioritize
from extender.verbs.verdicts import Code, Refused, verdict
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Gpu, Mode, OwnerRef
from tests.builders import VGPU, assignment, gpu, gpu_node, instance, request, view

HALF = VGPU + "3-40C"
HALVES = ("3-40C", "3-40C")
SAME = request(*HALVES, spread=Spread.SAME)
DISTINCT = request(*HALVES, spread=Spread.DISTINCT)
OWNER = OwnerRef("VirtualMachineInstance", "default", "vm")


def half_used(*indices: int) -> list[Gpu]:
    """GPUs on which one half is taken."""
    return [gpu(index, instances=(instance(9, 0),)) for index in indices]


def on_gpus(choice: object) -> int:
    assert isinstance(choice, Choice)
    assert len(choice.placed) == 2
    return len({each.uuid for each in choice.placed})


def two_halves(first: str, second: str) -> tuple[Placed, ...]:
    index = {"GPU-0": 0, "GPU-1": 1}
    return (
        Placed(HALF, index[first], first, 9, Placement(0, 4)),
        Placed(HALF, index[second], second, 9, Placement(4, 4)),
    )


@pytest.fixture
def fleet() -> Fleet:
    """A node with an empty GPU, and one with two halves on different GPUs."""
    return Fleet(
        {"whole": view(gpu_node("whole")), "halves": view(gpu_node("halves", gpus=half_used(0, 1)))}
    )


@pytest.mark.parametrize(
    ("asked", "fits", "why_not"),
    [
        (SAME, "whole", f"2 x {HALF} on one GPU, as tangram.dev/spread asks"),
        (DISTINCT, "halves", f"2 x {HALF} on distinct GPUs, as tangram.dev/spread asks"),
    ],
)
def test_a_node_without_such_gpus_is_refused_and_the_other_one_wins(
    fleet: Fleet, asked: Request, fits: str, why_not: str
) -> None:
    names = ("whole", "halves")

    answer = filter(fleet, Ledger(), asked, names)
    ranked = prioritize(fleet, Ledger(), asked, names)

    assert answer.passed == (fits,)
    assert list(answer.refused.values()) == [f"vGPU: no free placement for {why_not}"]
    assert answer.codes == {Code.NO_ROOM}
    assert ranked.winner == fits
    assert answer.only == ranked.choice


def test_pods_that_want_the_same_but_lie_otherwise_are_told_apart(fleet: Fleet) -> None:
    assert filter(fleet, Ledger(), SAME, ["whole"]).passed == ("whole",)
    assert filter(fleet, Ledger(), request(*HALVES), ["halves"]).passed == ("halves",)
    assert filter(fleet, Ledger(), DISTINCT, ["whole"]).passed == ()


@pytest.mark.parametrize(("asked", "gpus"), [(SAME, 1), (DISTINCT, 2)])
def test_bind_gives_what_filter_let_pass(asked: Request, gpus: int) -> None:
    node = view(gpu_node("n", gpus=2))

    assert on_gpus(place(node, Ledger(), asked)) == gpus


@pytest.mark.parametrize("asked", [SAME, DISTINCT])
def test_a_plan_lays_them_as_they_ask(fleet: Fleet, asked: Request) -> None:
    waiting = Waiting(asked, frozenset(fleet.views), since=0.0)

    plan = joint_plan(fleet.views, Ledger(), [waiting], Limits(10, 5.0), clock=time.monotonic)

    node, placed = plan.places["pod-1"]
    assert node == ("whole" if asked is SAME else "halves")
    assert asked.spread.allows([each.uuid for each in placed])


@pytest.mark.parametrize(
    ("asked", "places", "kept_to"),
    [
        (SAME, two_halves("GPU-0", "GPU-0"), True),
        (SAME, two_halves("GPU-0", "GPU-1"), False),
        (DISTINCT, two_halves("GPU-0", "GPU-0"), False),
        (DISTINCT, two_halves("GPU-0", "GPU-1"), True),
    ],
)
def test_a_plan_or_a_held_place_that_lies_otherwise_is_not_followed(
    asked: Request, places: tuple[Placed, ...], kept_to: bool
) -> None:
    ledger = Ledger().plan({"pod-1": Planned("n", places, until=9.0)})
    held = [
        assignment(
            f"a{at}", 9, each.placement.start, gpu=each.uuid, pod=None, owner=OWNER, resource=HALF
        )
        for at, each in enumerate(places)
    ]
    again = msgspec.structs.replace(asked, owner=OWNER)

    assert (planned(view(gpu_node("n", gpus=2)), ledger, asked) is not None) == kept_to
    node = view(gpu_node("n", gpus=2, plan=held))
    assert (inherited(node, Ledger(), again) is not None) == kept_to


def test_victims_help_only_if_what_they_leave_lies_as_asked() -> None:
    plan = [assignment("a1", 9, 4, pod="victim", resource=HALF)]
    node = {"n": view(gpu_node("n", gpus=[*half_used(0), gpu(1)], plan=plan))}
    full = {"n": view(gpu_node("n", gpus=half_used(0), plan=plan))}

    assert sufficient(node, Ledger(), DISTINCT, {"n": ["victim"]}) == ("n",)
    assert sufficient(full, Ledger(), SAME, {"n": ["victim"]}) == ()


def test_a_refused_pod_is_woken_by_room_that_lies_as_it_asks() -> None:
    before = view(gpu_node("n", gpus=[gpu(0, instances=(instance(0, 0),)), *half_used(1)]))
    apart = view(gpu_node("n", gpus=half_used(0, 1)))
    refusals = Refusals(limit=9)
    refusals.add(SAME, {Code.NO_ROOM})

    assert not refusals.fit_now(before, apart, ())
    assert refusals.fit_now(before, view(gpu_node("n")), ())
    refusals.add(msgspec.structs.replace(DISTINCT, pod=request(pod="pod-2").pod), {Code.NO_ROOM})
    assert refusals.fit_now(before, apart, ())
    assert len(list(refusals.shapes())) == 2


def harvester(*standing: tuple[int, int]) -> NodeView:
    """A node of two GPUs with a device for the half at each (GPU, start)."""
    gpus = [
        gpu(
            index,
            instances=[
                instance(9, start, gi_id=start + 1, standing=True, resource=HALF)
                for on, start in standing
                if on == index
            ],
        )
        for index in (0, 1)
    ]
    return view(gpu_node("n", gpus=gpus, mode=Mode.HARVESTER))


def test_beside_a_device_that_stands_there_the_rest_lies_as_asked() -> None:
    assert on_gpus(place(harvester((0, 0)), Ledger(), SAME)) == 1
    assert on_gpus(place(harvester((0, 0)), Ledger(), DISTINCT)) == 2


def test_devices_that_stand_otherwise_are_no_room_as_the_kubelet_would_give_them() -> None:
    both = harvester((0, 0), (0, 4))

    assert on_gpus(place(both, Ledger(), SAME)) == 1
    refused = verdict(both, DISTINCT.wanted, spread=Spread.DISTINCT)
    assert isinstance(refused, Refused)
    assert refused.code is Code.NO_ROOM
