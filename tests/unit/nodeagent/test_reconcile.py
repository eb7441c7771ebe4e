from __future__ import annotations

import pytest

from nodeagent.api.geometry import Placement
from nodeagent.driver import Host, LiveInstance
from nodeagent.reconcile import (
    Blocked,
    Create,
    Destroy,
    Impossible,
    Made,
    Observed,
    Waiting,
    Wanted,
    observe,
    refusal,
    remembered,
    steps,
)
from tests.unit.nodeagent.builders import ONE, SEVEN, THREE, assignment, hardware

LEFT, WHOLE = Placement(0, 4), Placement(0, 8)


def test_what_is_as_planned_is_left_alone() -> None:
    observed = [Observed(1, THREE, LEFT, "a", held="in use")]

    assert list(steps(observed, {"a": Wanted(THREE, LEFT)})) == []


def test_what_must_go_goes_before_anything_comes() -> None:
    observed = [Observed(1, THREE, LEFT, "a")]

    assert list(steps(observed, {"b": Wanted(SEVEN, WHOLE)})) == [
        Destroy(1, "a"),
        Create("b", SEVEN, WHOLE),
    ]


def test_the_instance_of_another_assignment_is_never_handed_on() -> None:
    observed = [Observed(1, THREE, LEFT, "a")]

    assert list(steps(observed, {"b": Wanted(THREE, LEFT)})) == [
        Destroy(1, "a"),
        Create("b", THREE, LEFT),
    ]


def test_an_instance_in_use_blocks_and_what_wants_its_place_waits() -> None:
    observed = [Observed(1, THREE, LEFT, "a", held="in use by a client")]

    assert list(steps(observed, {"b": Wanted(SEVEN, WHOLE)})) == [
        Blocked(1, "a", "in use by a client"),
        Waiting("b", 1),
    ]


def test_a_foreign_instance_stays_and_what_overlaps_it_is_impossible() -> None:
    observed = [Observed(1, THREE, LEFT)]

    (step,) = steps(observed, {"b": Wanted(SEVEN, WHOLE)})

    assert isinstance(step, Impossible)
    assert "did not create" in step.reason


def test_of_two_overlapping_assignments_the_second_is_impossible() -> None:
    desired = {"a": Wanted(THREE, LEFT), "b": Wanted(SEVEN, WHOLE)}

    first, second = steps([], desired)

    assert first == Create("a", THREE, LEFT)
    assert second == Impossible("b", "the placement overlaps that of assignment a")


def test_a_closed_gpu_keeps_what_it_has_and_takes_nothing_new() -> None:
    observed = [Observed(1, THREE, LEFT, "a")]
    desired = {"a": Wanted(THREE, LEFT), "b": Wanted(THREE, Placement(4, 4))}

    assert list(steps(observed, desired, closed="MIG mode is off")) == [
        Impossible("b", "MIG mode is off")
    ]


def host_with(*instances: LiveInstance) -> Host:
    machine = hardware()
    for each in instances:
        machine.gpus[0].create(each.profile_id, each.placement)
    return machine.host()


HOST = host_with(LiveInstance(1, ONE, Placement(3, 1)))
GPU = HOST.gpus[0]
MADE = Made("a", GPU.uuid, ONE, Placement(3, 1), HOST.boot_id)


def test_an_instance_is_ours_if_the_journal_has_it_of_this_boot() -> None:
    (seen,) = observe(GPU, [MADE], boot_id=HOST.boot_id)

    assert (seen.assignment, seen.held) == ("a", "")


@pytest.mark.parametrize(
    "other",
    [
        Made("a", GPU.uuid, ONE, Placement(3, 1), "an earlier boot"),
        Made("a", GPU.uuid, ONE, Placement(4, 1), HOST.boot_id),
        Made("a", GPU.uuid, 20, Placement(3, 1), HOST.boot_id),
        Made("a", "another GPU", ONE, Placement(3, 1), HOST.boot_id),
    ],
)
def test_an_instance_the_journal_does_not_describe_exactly_is_foreign(other: Made) -> None:
    (seen,) = observe(GPU, [other], boot_id=HOST.boot_id)

    assert seen.assignment == ""


def test_a_claimed_instance_is_held_though_nobody_has_opened_it_yet() -> None:
    (seen,) = observe(GPU, [MADE], boot_id=HOST.boot_id, claimed={"a"})

    assert seen.held


def test_the_journal_forgets_what_a_reboot_or_somebody_else_has_removed() -> None:
    gone = Made("b", GPU.uuid, ONE, Placement(0, 1), HOST.boot_id)
    before = Made("a", GPU.uuid, ONE, Placement(3, 1), "an earlier boot")

    assert remembered([MADE, gone, before], HOST) == (MADE,)


def test_the_journal_keeps_what_a_lost_gpu_may_still_hold() -> None:
    machine = hardware()
    machine.gpus[0].lost = True
    host = machine.host()
    unseen = Made("a", machine.gpus[0].uuid, ONE, Placement(3, 1), host.boot_id)

    assert remembered([unseen], host) == (unseen,)


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
