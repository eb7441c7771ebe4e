"""Which refusals nobody could have spared, and that all others are somebody's fault."""

from __future__ import annotations

import pytest

from tests.e2e.harvester.excused import AGAIN_SECONDS, HEARD_SECONDS, unexcused
from tests.e2e.harvester.writes import AGENTS_ACCOUNT
from tests.fakes.kubevirt.nodes import KUBELET
from tests.fakes.pcidevices.log import ENDED, NAMED, REFUSED, Entry

CLOSING = "rpc error: code = Canceled desc = grpc: the client connection is closing"


def sent_away(at: float = 1.0, reason: str = CLOSING, node: str = "node-1") -> Entry:
    return Entry(at, KUBELET, REFUSED, "pods virt-launcher-vm-1-x", f"{node}: {reason}")


def not_disabled(
    at: float = 1.0, actor: str = AGENTS_ACCOUNT, device: str = "n1-4", vm: str = "vm-1"
) -> Entry:
    told = f"device {device} is in use with VM {vm} in namespace default"
    return Entry(at, actor, REFUSED, f"vgpudevices {device}", told)


CONTROLLER_ENDED = Entry(0.5, "node-1", ENDED, "controller")
VM_NAMED_IT = Entry(0.5, "controller", NAMED, "vgpudevices n1-4", "vm-1")


@pytest.mark.parametrize(
    "reason",
    [
        CLOSING,
        "rpc error: code = UNAVAILABLE desc = Socket closed",
        "endpoint of nvidia.com/A has been stopped",
        "no healthy devices present; cannot allocate nvidia.com/A",
        "requested number of devices unavailable for nvidia.com/A",
    ],
)
def test_who_comes_as_a_controller_has_ended_is_sent_away_once(reason: str) -> None:
    first, second = sent_away(1.0, reason), sent_away(2.0, reason)

    assert list(unexcused([first])) == [first]
    assert list(unexcused([CONTROLLER_ENDED, first])) == []
    assert list(unexcused([CONTROLLER_ENDED, first, second])) == [second]


@pytest.mark.parametrize(
    "refusal",
    [
        sent_away(node="node-2"),
        sent_away(0.4),
        sent_away(CONTROLLER_ENDED.at + AGAIN_SECONDS + 0.1),
        sent_away(reason="vm-1 has changed its request for nvidia.com/A"),
        Entry(1.0, "virt-launcher", REFUSED, "pods x", f"node-1: {CLOSING}"),
        not_disabled(),
    ],
)
def test_a_controllers_end_excuses_nothing_else(refusal: Entry) -> None:
    assert list(unexcused([CONTROLLER_ENDED, refusal])) == [refusal]


def test_an_agent_may_come_too_late_to_hear_that_a_vm_names_a_device_but_not_twice() -> None:
    first, second = not_disabled(1.0), not_disabled(3.0)

    assert list(unexcused([VM_NAMED_IT, first])) == []
    assert list(unexcused([VM_NAMED_IT, first, second])) == [second]


@pytest.mark.parametrize(
    "refusal",
    [
        not_disabled(0.4),
        not_disabled(VM_NAMED_IT.at + HEARD_SECONDS + 0.1),
        not_disabled(vm="vm-2"),
        not_disabled(device="n1-5"),
        not_disabled(actor="admin"),
        sent_away(),
    ],
)
def test_what_a_vm_names_excuses_nothing_else(refusal: Entry) -> None:
    assert list(unexcused([VM_NAMED_IT, refusal])) == [refusal]
