"""What was done to the node and to Harvester's objects, by whom, in order; and what was a trap."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from tests.fakes.pcidevices.names import device_name

AGENT: Final = "agent"
"""Who an agent is among the actors."""

SRIOV: Final = "sriov-manage"
MIG_MODE: Final = "nvidia-smi -mig 1"
CREATE_INSTANCE: Final = "nvidia-smi mig -cgi"
DESTROY_INSTANCE: Final = "nvidia-smi mig -dgi"
CREATE_VGPU: Final = "create vGPU"
REMOVE_VGPU: Final = "remove vGPU"
HOT_REMOVE: Final = "PCI hot-remove"
WRITE: Final = "write"
REFUSED: Final = "refused"
"""By a webhook; or a launcher by its kubelet, which is then who did it."""
BLIND: Final = "disabled a VGPUDevice that has no uuid"
"""By the state that the write names: whatever the controller finds when it comes."""
FROZEN: Final = "disabled a MigConfiguration whose counts stay frozen"
"""Its GPU was empty by then, so Harvester deletes nothing, and never says that it is disabled."""
NAMED: Final = "named by a VM"
"""A VM's annotation comes to name a device; ``detail`` is the VM."""
ENDED: Final = "ended"
"""The controller of a node, and its device plugins with it."""
BLOCKED: Final = "sriov-manage blocked"
"""Or ``nvidia-smi -mig 1``, on a GPU that somebody has open."""

# What agents do by themselves.
NVML_CREATE: Final = "create GPU instance"
NVML_CREATE_ANYWHERE: Final = "create GPU instance anywhere"
NVML_DESTROY: Final = "destroy GPU instance"
NVML_FILL: Final = "create or destroy compute instance"
SET_MIG_MODE: Final = "set MIG mode"
KERNEL_WRITE: Final = "write the kernel's file of a vGPU"

_IN_USE = 19  # NVML's code
_REQUESTED = re.compile(r'"requested": ?[1-9]')
_ENABLED = re.compile(r'"enabled": ?(true|false)')
_HARVESTERS = ("sriovgpudevices ", "vgpudevices ", "migconfigurations ")


class Entry(msgspec.Struct, frozen=True):
    """One deed. ``actor`` is the controller's node, or the client of the API server.

    ``lost`` is how many GPU instances ended by it that nobody had asked to end, ``candidates`` how
    many free ones the driver could choose of, ``declared`` whether an object had asked for it.
    ``code`` is NVML's answer, or an errno, 0 if it was done.
    """

    at: float
    actor: str
    action: str
    subject: str
    detail: str = ""
    lost: int = 0
    candidates: int = 1
    declared: bool = True
    code: int = 0


class Source(Protocol):
    """Deeds that are noted elsewhere."""

    def fresh(self, at: float) -> Iterator[Entry]:
        """Yield those since the last time, dated *at* unless it is known when they were done."""


class Log:
    """The deeds of a test's cluster, dated by *clock*."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: list[Entry] = []
        self._sources: list[Source] = []

    @property
    def entries(self) -> Sequence[Entry]:
        """All of them, in order: what is noted elsewhere comes before what is noted here next."""
        for source in self._sources:
            self._entries += source.fresh(self._clock())
        return self._entries

    def include(self, source: Source) -> None:
        """Take in what *source* notes."""
        self._sources.append(source)

    def add(
        self,
        actor: str,
        action: str,
        subject: str,
        detail: str = "",
        *,
        lost: int = 0,
        candidates: int = 1,
        declared: bool = True,
    ) -> None:
        """Note a deed."""
        entry = Entry(self._clock(), actor, action, subject, detail, lost, candidates, declared)
        assert self.entries is self._entries  # with what was noted elsewhere
        self._entries.append(entry)

    def of(self, action: str) -> list[Entry]:
        """Return the deeds of a kind."""
        return [each for each in self.entries if each.action == action]


def traps(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield each deed that no agent may ever bring about, or do.

    Where an agent cuts the GPUs, a MigConfiguration that has the controller create or destroy GPU
    instances is one of them. That ``sriov-manage`` finds a GPU open is one where an agent has asked
    for it: an administrator may be faster than an agent can hear of it. So is that an agent enables
    what somebody else has disabled. What is noted elsewhere may have been read late, so the order
    is that of the dates.
    """
    askers: dict[str, str] = {}
    turned_off: set[str] = set()
    for each in sorted(entries, key=lambda entry: entry.at):
        yield from _brought_about(each)
        yield from _done(each)
        kind, _, name = each.subject.partition(" ")
        if each.action == WRITE and kind == "sriovgpudevices":
            if said := _ENABLED.search(each.detail):
                askers[name] = each.actor
                if said[1] == "true":
                    if each.actor == AGENT and name in turned_off:
                        yield f"{each.subject}: an agent enabled what somebody has disabled"
                    turned_off.discard(name)
                elif not each.detail.startswith("create "):
                    turned_off.add(name)
        elif each.action == BLOCKED and askers.get(device_name(kind, name)) == AGENT:
            yield f"{each.subject}: an agent had it open for whom functions were to be enabled"


def _brought_about(each: Entry) -> Iterator[str]:
    match each.action:
        case "PCI hot-remove":
            yield f"{each.subject}: torn off the bus, for its VGPUDevice had no uuid"
        case "sriov-manage" if each.lost:
            yield f"{each.subject}: sriov-manage ended {each.lost} GPU instances"
        case "nvidia-smi mig -cgi":
            yield f"{each.subject}: the controller made a GPU instance where the driver chose"
        case "nvidia-smi mig -dgi":
            yield f"{each.subject}: the controller destroyed GPU instance {each.detail}"
        case "create vGPU" if each.candidates != 1:
            yield f"{each.subject}: the driver had {each.candidates} GPU instances to choose of"
        case "remove vGPU" if not each.declared:
            yield f"{each.subject}: a vGPU that no VGPUDevice had declared was removed"


def _done(each: Entry) -> Iterator[str]:
    match each.action:
        case "write the kernel's file of a vGPU":
            yield f"{each.subject}: an agent wrote a file of the kernel's: {each.detail}"
        case "set MIG mode":
            yield f"{each.subject}: an agent set MIG mode, which is Harvester's to do"
        case "create or destroy compute instance":
            # Inferred, as is that a vGPU needs none of the host's: NVIDIA says for release 6 that
            # none is to be made beside a running VM, and for 4.9 that they are required.
            yield f"{each.subject}: an agent made or ended a compute instance, which is the guest's"
        case "create GPU instance anywhere":
            yield f"{each.subject}: an agent made a GPU instance where the driver chose"
        case "destroy GPU instance" if each.code == _IN_USE:
            yield f"{each.subject}: an agent would have destroyed a GPU instance that was used"
        case "disabled a VGPUDevice that has no uuid" if each.actor == AGENT:
            yield f"{each.subject}: an agent disabled it while it had no uuid"
        case "disabled a MigConfiguration whose counts stay frozen" if each.actor == AGENT:
            yield f"{each.subject}: an agent disabled it while its GPU was empty: nobody can cut it"
        case "write" if each.actor == AGENT and each.subject.startswith(_HARVESTERS):
            if '"resourceVersion"' not in each.detail:
                yield f"{each.subject}: an agent wrote over whatever was there: {each.detail}"
            if _REQUESTED.search(each.detail):
                yield f"{each.subject}: an agent asked for GPU instances: {each.detail}"
            if each.subject.startswith("sriovgpudevices ") and "false" in each.detail:
                yield f"{each.subject}: an agent disabled virtual functions"
