"""A node as people see it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.claims import claimant
from extender.overview import Sight, drawn
from extender.overview.documents import GpuState, Instance, Occupied
from extender.overview.pending import MEANING
from extender.snapshot import Releasing, Taken
from extender.verbs.reasons import Code
from nodeagent.api import gpunode
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Failed, Layout, OwnerRef, PodRef, Realized
from tests.builders import assignment, gpu, gpu_node, instance, view

OWNER = OwnerRef("VirtualMachineInstance", "default", "vm-1")


def nobodys(_: str) -> str:
    return ""


def states(*instances: Instance) -> list[tuple[int, Occupied]]:
    return [(each.start, each.state) for each in instances]


def test_an_instance_tells_its_profile_its_slices_and_whose_it_is() -> None:
    node = drawn(
        view(
            gpus=[gpu(instances=[instance(9, 4, assignment="a")])],
            plan=[assignment("a", 9, 4, owner=OWNER)],
            realized=[Realized("a", "slot")],
        ),
        {"default": "ml"}.__getitem__,
    )

    assert node.gpus[0].instances == (
        Instance(
            "3g.40gb", 4, 4, Occupied.RUNNING, "default", vm="vm-1", pod="name-pod-1", tenant="ml"
        ),
    )
    assert node.gpus[0].free == (0, 1, 2, 3)


def test_what_is_planned_is_told_by_what_became_of_it() -> None:
    node = drawn(
        view(
            gpus=[gpu(instances=[instance(19, 0, assignment="a")])],
            plan=[
                assignment("a", 19, 0),
                assignment("b", 19, 1, pod="pod-2"),
                assignment("c", 19, 2, pod="pod-3"),
                assignment("d", 19, 3, pod=None, owner=OWNER),
            ],
            realized=[Realized("a")],
            failed=[Failed("c", "insufficient resources")],
        ),
        nobodys,
    )

    assert states(*node.gpus[0].instances) == [
        (0, Occupied.RUNNING),
        (1, Occupied.STARTING),
        (2, Occupied.FAILED),
        (3, Occupied.RESERVED),
    ]


def test_what_nothing_is_planned_for_is_told_by_whose_it_was() -> None:
    holder = PodRef("default", "before-us", "uid")
    there = view(
        gpus=[
            gpu(
                instances=[
                    instance(19, 0, assignment="gone"),
                    instance(19, 1),
                    instance(19, 2, holder=holder),
                    instance(19, 3, standing=True),
                    instance(19, 4, assignment="late"),
                ]
            )
        ]
    )
    late = Releasing(Taken("GPU-0", 19, Placement(4, 1)), 2, "default")
    unmade = Releasing(Taken("GPU-0", 19, Placement(5, 1)), 2, "default")

    node = drawn(msgspec.structs.replace(there, releasing=(late, unmade)), nobodys)

    assert states(*node.gpus[0].instances) == [
        (0, Occupied.RELEASING),
        (1, Occupied.FOREIGN),
        (2, Occupied.RUNNING),
        (3, Occupied.STANDING),
        (4, Occupied.RELEASING),
        (5, Occupied.RELEASING),
    ]


def test_a_reservation_whose_time_is_over_is_not_there() -> None:
    node = drawn(view(plan=[assignment("a", 19, 0, pod=None, owner=OWNER)], lapsed=["a"]), nobodys)

    assert node.gpus[0].instances == ()
    assert node.gpus[0].free == tuple(range(8))


def test_the_slice_that_seven_small_instances_leave_is_unusable() -> None:
    small = [instance(19, start, gi_id=start) for start in range(7)]
    node = drawn(view(gpus=[gpu(instances=small)]), nobodys)

    assert (node.gpus[0].free, node.gpus[0].unusable) == ((), (7,))
    assert node.fits == ()


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"unhealthy": "XID 79"}, GpuState.UNHEALTHY),
        ({"mig_enabled": False}, GpuState.MIG_DISABLED),
        ({"layout": Layout.STATIC}, GpuState.STATIC),
        ({"layout": Layout.UNMANAGED}, GpuState.UNMANAGED),
        ({"geometry": "unheard-of"}, GpuState.UNREADABLE),
    ],
)
def test_a_gpu_that_nothing_is_placed_on_says_so(fields: dict[str, Any], state: str) -> None:
    found = drawn(view(gpus=[gpu(**fields), gpu(1)]), nobodys).gpus[0]

    assert (found.state, found.free) == (state, ())
    assert found.why


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "ready"),
        ({"stale": True}, "stale"),
        ({"cordoned": True}, "cordoned"),
        ({"failing": True}, "agent-failing"),
        ({"unanswered": 9}, "unsettled"),
        ({"reported": False}, "no-inventory"),
    ],
)
def test_a_node_says_why_it_takes_nothing_new(fields: dict[str, object], state: str) -> None:
    node = drawn(view(**fields), nobodys)  # type: ignore[arg-type]

    assert node.state == state
    assert bool(node.why) == (state != "ready")
    assert bool(node.fits) == (state == "ready")


@given(st.sampled_from(sorted(MODELS)), st.data())
def test_every_slice_is_in_an_instance_free_or_unusable_and_the_free_are_those_some_profile_covers(
    model: str, data: st.DataObject
) -> None:
    geometry = MODELS[model].geometry
    occupancy, there = geometry.empty, list[gpunode.Instance]()
    for _ in range(data.draw(st.integers(0, 7))):
        legal = [(p, each) for p in geometry.profiles for each in geometry.legal(occupancy, p)]
        if not legal:
            break
        profile, place = data.draw(st.sampled_from(legal))
        occupancy = geometry.occupied(occupancy, profile.id, place)
        there.append(instance(profile.id, place.start, model=model, gi_id=len(there)))

    found = drawn(
        view(gpu_node(model=model, gpus=[gpu(model=model, instances=there)])), nobodys
    ).gpus[0]

    covered = [at for each in found.instances for at in range(each.start, each.start + each.size)]
    assert sorted((*covered, *found.free, *found.unusable)) == list(range(found.slices))
    placeable = {
        at
        for profile in geometry.profiles
        for place in geometry.legal(occupancy, profile)
        for at in range(place.start, place.end)
    }
    assert set(found.free) == placeable


def test_a_tenant_sees_that_slices_are_in_use_and_not_by_whom() -> None:
    other = msgspec.structs.replace(
        assignment("b", 9, 4, pod="pod-2", owner=OwnerRef("V", "secret", "secret-vm")),
        pod=PodRef("secret", "secret-pod", "uid"),
    )
    node = drawn(
        view(
            gpus=[gpu(instances=[instance(19, 3)])],
            plan=[assignment("a", 19, 0), other],
            failed=[Failed("b", "no room for secret-vm")],
        ),
        lambda namespace: f"tenant-of-{namespace}",
    )

    seen = Sight(frozenset({"default"})).of(node)

    assert b"secret" in msgspec.json.encode(node)
    assert b"secret" not in msgspec.json.encode(seen)
    assert states(*seen.gpus[0].instances) == [
        (0, Occupied.STARTING),
        (3, Occupied.FOREIGN),
        (4, Occupied.HIDDEN),
    ]
    assert seen.gpus[0].free == node.gpus[0].free


def test_every_code_of_a_refusal_has_a_meaning() -> None:
    assert set(MEANING) == set(Code)


def test_a_place_that_is_waited_for_is_drawn_once_nobody_else_is_there() -> None:
    claim = assignment("c", 9, 4, pod=None, owner=claimant(PodRef("default", "high", "uid-9")))
    victim = assignment("v", 19, 5)
    waits = drawn(view(plan=[victim, claim]), nobodys)
    alone = drawn(view(plan=[claim]), nobodys)

    assert states(*waits.gpus[0].instances) == [(5, Occupied.STARTING)]
    assert states(*alone.gpus[0].instances) == [(4, Occupied.RESERVED)]
