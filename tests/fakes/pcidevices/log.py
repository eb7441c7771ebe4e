"""What was done to the node and to Harvester's objects, by whom, in order; and what was a trap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

SRIOV: Final = "sriov-manage"
MIG_MODE: Final = "nvidia-smi -mig 1"
CREATE_INSTANCE: Final = "nvidia-smi mig -cgi"
DESTROY_INSTANCE: Final = "nvidia-smi mig -dgi"
CREATE_VGPU: Final = "create vGPU"
REMOVE_VGPU: Final = "remove vGPU"
HOT_REMOVE: Final = "PCI hot-remove"
WRITE: Final = "write"
REFUSED: Final = "refused"


class Entry(msgspec.Struct, frozen=True):
    """One deed. ``actor`` is the controller's node, or the client of the API server.

    ``lost`` is how many GPU instances ended by it that nobody had asked to end, ``candidates`` how
    many free ones the driver could choose of, ``declared`` whether an object had asked for it.
    """

    at: float
    actor: str
    action: str
    subject: str
    detail: str = ""
    lost: int = 0
    candidates: int = 1
    declared: bool = True


class Log:
    """The deeds of a test's cluster, dated by *clock*."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.entries: list[Entry] = []

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
        self.entries.append(entry)

    def of(self, action: str) -> list[Entry]:
        """Return the deeds of a kind."""
        return [each for each in self.entries if each.action == action]


def traps(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield each deed that no agent may ever bring about.

    Where an agent cuts the GPUs, a MigConfiguration that has the controller create or destroy GPU
    instances is one of them.
    """
    for each in entries:
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
