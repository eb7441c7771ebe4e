from __future__ import annotations

import msgspec
import pytest

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import PodRef
from nodeagent.driver import Host, LiveInstance
from nodeagent.journal import Made
from nodeagent.kubelet import Holder
from nodeagent.ownership import observe, remembered
from tests.unit.nodeagent.builders import BY_PROFILE, ONE, hardware


def host_with(*instances: LiveInstance) -> Host:
    machine = hardware()
    for each in instances:
        machine.gpus[0].create(each.profile_id, each.placement)
    return machine.host()


HOST = host_with(LiveInstance(1, ONE, Placement(3, 1)))
GPU = HOST.gpus[0]
MADE = Made("a", GPU.uuid, ONE, Placement(3, 1), HOST.boot_id)


def test_an_instance_is_ours_if_the_journal_has_it_of_this_boot() -> None:
    (seen,) = observe(GPU, [MADE], HOST)

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
    (seen,) = observe(GPU, [other], HOST)

    assert seen.assignment == ""


def test_a_claimed_instance_is_held_though_nobody_has_opened_it_yet() -> None:
    (seen,) = observe(GPU, [MADE], HOST, claimed={"a"})

    assert seen.held


def test_of_what_was_made_for_a_pod_no_other_is_told_though_another_plugin_gave_it_away() -> None:
    """It would be written to the plan for that pod, and offered as a slot once more."""
    (live,) = GPU.instances
    assert live.device is not None
    given = Holder(BY_PROFILE[ONE], live.device.id, PodRef("default", "other", "uid-2"))

    (foreign,) = observe(GPU, [], HOST, holders=[given])
    (ours,) = observe(GPU, [MADE], HOST, holders=[given])
    (lost,) = observe(GPU, [MADE], HOST, unplanned=[given])

    assert (foreign.holder, ours.holder, lost.holder) == (given, None, given)


def test_the_journal_forgets_what_a_reboot_or_somebody_else_has_removed() -> None:
    gone = Made("b", GPU.uuid, ONE, Placement(0, 1), HOST.boot_id)
    before = Made("a", GPU.uuid, ONE, Placement(3, 1), "an earlier boot")

    assert remembered([MADE, gone, before], HOST) == (MADE,)


def test_the_journal_keeps_what_was_never_answered_until_it_is_seen_or_the_node_reboots() -> None:
    unseen = Made("b", GPU.uuid, ONE, Placement(0, 1), HOST.boot_id, unanswered=True)
    seen = msgspec.structs.replace(MADE, unanswered=True)
    before = msgspec.structs.replace(unseen, boot_id="an earlier boot")

    assert remembered([seen, unseen, before], HOST) == (MADE, unseen)


def test_the_journal_keeps_what_a_lost_gpu_may_still_hold() -> None:
    machine = hardware()
    machine.gpus[0].lost = True
    host = machine.host()
    unseen = Made("a", machine.gpus[0].uuid, ONE, Placement(3, 1), host.boot_id)

    assert remembered([unseen], host) == (unseen,)
