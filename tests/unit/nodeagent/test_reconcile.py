from __future__ import annotations

import pytest

from nodeagent.api.geometry import Placement
from nodeagent.ownership import Observed
from nodeagent.reconcile import (
    Blocked,
    Create,
    Destroy,
    Impossible,
    Waiting,
    Wanted,
    refusal,
    steps,
)
from tests.unit.nodeagent.builders import DEVICE, SEVEN, THREE, assignment, hardware

LEFT, WHOLE = Placement(0, 4), Placement(0, 8)


def test_what_is_as_planned_is_left_alone() -> None:
    observed = [Observed(1, THREE, LEFT, "a", held="in use", device=DEVICE)]

    assert list(steps(observed, {"a": Wanted(THREE, LEFT)})) == []


@pytest.mark.parametrize(
    ("held", "expected"),
    [("", [Destroy(1, "a"), Create("a", THREE, LEFT, "r")]), ("claimed by a pod", [])],
)
def test_one_without_its_device_is_made_anew_unless_a_pod_holds_it(
    held: str, expected: list[object]
) -> None:
    observed = [Observed(1, THREE, LEFT, "a", held=held)]

    assert list(steps(observed, {"a": Wanted(THREE, LEFT, "r")})) == expected


def test_what_must_go_goes_before_anything_comes() -> None:
    observed = [Observed(1, THREE, LEFT, "a", device=DEVICE)]

    assert list(steps(observed, {"b": Wanted(SEVEN, WHOLE)})) == [
        Destroy(1, "a"),
        Create("b", SEVEN, WHOLE),
    ]


def test_the_instance_of_another_assignment_is_never_handed_on() -> None:
    observed = [Observed(1, THREE, LEFT, "a", device=DEVICE)]

    assert list(steps(observed, {"b": Wanted(THREE, LEFT)})) == [
        Destroy(1, "a"),
        Create("b", THREE, LEFT),
    ]


def test_an_instance_in_use_blocks_and_what_wants_its_place_waits() -> None:
    observed = [Observed(1, THREE, LEFT, "a", held="in use by a client", device=DEVICE)]

    assert list(steps(observed, {"b": Wanted(SEVEN, WHOLE)})) == [
        Blocked(1, "a", "in use by a client"),
        Waiting("b", 1),
    ]


def test_a_foreign_instance_stays_and_what_overlaps_it_is_impossible() -> None:
    observed = [Observed(1, THREE, LEFT, device=DEVICE)]

    (step,) = steps(observed, {"b": Wanted(SEVEN, WHOLE)})

    assert isinstance(step, Impossible)
    assert "did not create" in step.reason


def test_of_two_overlapping_assignments_the_second_is_impossible() -> None:
    desired = {"a": Wanted(THREE, LEFT), "b": Wanted(SEVEN, WHOLE)}

    first, second = steps([], desired)

    assert first == Create("a", THREE, LEFT)
    assert second == Impossible("b", "the placement overlaps that of assignment a")


def test_a_closed_gpu_keeps_what_it_has_and_takes_nothing_new() -> None:
    observed = [Observed(1, THREE, LEFT, "a", device=DEVICE)]
    desired = {"a": Wanted(THREE, LEFT), "b": Wanted(THREE, Placement(4, 4))}

    assert list(steps(observed, desired, closed="MIG mode is off")) == [
        Impossible("b", "MIG mode is off")
    ]


HOST = hardware().host()
GPU = HOST.gpus[0]


@pytest.mark.parametrize(
    ("planned", "reason"),
    [
        (assignment("a", "GPU-nowhere"), "the node has no GPU GPU-nowhere"),
        (assignment("a", GPU.uuid, profile=99), "the GPU has no profile 99"),
        (assignment("a", GPU.uuid, start=7), "profile 1g.10gb has no placement {7}:1"),
        (
            assignment("a", GPU.uuid, resource="nvidia.com/mig-1g.10gb"),
            "the GPU does not serve nvidia.com/mig-1g.10gb by profile 1g.10gb",
        ),
        (assignment("a", GPU.uuid), ""),
    ],
)
def test_a_plan_the_node_cannot_follow_is_refused_with_a_reason(
    planned: object, reason: str
) -> None:
    assert refusal(planned, HOST) == reason  # type: ignore[arg-type]
