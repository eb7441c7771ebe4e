"""When Harvester needs a GPU with nobody at it, and for how long NVML is shut for that.

Harvester enables and disables virtual functions by NVIDIA's ``sriov-manage``, which takes the GPU
off its driver. That fails ("Cannot obtain unbindLock") while any process has the GPU open, as a
client of NVML has every GPU of the node: reported from hardware. Harvester runs it whenever an
SRIOVGPUDevice's ``enabled`` differs from whether the kernel shows functions: after an
administrator's change or ours, and after a reboot (read in its source). The same difference is seen
here, in the object and in the kernel's files, without NVML.

Right afterwards Harvester turns MIG mode on. That this needs the GPU left alone, too, where it is
off, is inferred: NVML refuses to change the mode of a GPU that has clients. The MigConfiguration
that follows tells that it is on; where there was one before, only NVML can.

For all else NVML stays open: that GPU instances and vGPUs can be made and removed beside a client
that only looks is inferred.

What fails, Harvester tries again at longer and longer intervals, so that a need which lasts may be
one that nothing comes of; it is not heeded for ever.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nodeagent.driver import LiveGpu
from nodeagent.harvester.objects import MigConfiguration, Objects, SriovGpuDevice

ENABLE = "Harvester is about to enable its virtual functions"
DISABLE = "Harvester is about to disable its virtual functions"
MIG_MODE = "Harvester is about to turn its MIG mode on"

Needs = Mapping[str, str]
"""For what Harvester needs GPUs left alone, by the names of their SRIOVGPUDevices."""


class Patience(msgspec.Struct, frozen=True):
    """For how long needs are heeded, in seconds; all inferred, nothing of it measured.

    ``functions`` is what Harvester has for ``sriov-manage``, longer than its longest wait between
    tries, which is 1,000 s; if that did not do, it has as much again after ``pause``. Each
    ``prompt`` seconds it is told that nobody is at the GPU: what it waits for may be its driver's
    pod. ``mig_mode`` is what it has for MIG mode, and that once: a GPU whose mode stays off may be
    meant to be so (1.9 can be told to skip it).
    """

    functions: float = 1200.0
    mig_mode: float = 30.0
    pause: float = 600.0
    prompt: float = 60.0


def need(
    gpu: SriovGpuDevice, mig: MigConfiguration | None, functions: int, seen: LiveGpu | None
) -> str:
    """Return for what Harvester needs *gpu* left alone, "" if it does not.

    The kernel shows so many *functions* of it; *seen* is how NVML showed it last, since functions
    came or went.
    """
    if gpu.enabled != bool(functions):
        return ENABLE if gpu.enabled else DISABLE
    if not gpu.enabled or (seen is not None and not seen.geometry.profiles):
        return ""
    off = mig is None if seen is None else not seen.mig_enabled
    return MIG_MODE if off else ""


def needs(
    objects: Objects, functions: Mapping[str, int], seen: Mapping[str, LiveGpu]
) -> dict[str, str]:
    """Return all needs; *functions* and *seen* are by the GPUs' PCI addresses.

    A GPU whose files cannot be read has no functions listed, and no need that is known.
    """
    found = {
        each.head.name: need(
            each, objects.mig(each.address), functions[each.address], seen.get(each.address)
        )
        for each in objects.gpus
        if each.address in functions
    }
    return {name: what for name, what in found.items() if what}


class Courtesy:
    """Remembers since when each need has been there, and so which are still heeded."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since: dict[tuple[str, str], float] = {}
        self._prompted: dict[tuple[str, str], int] = {}

    def heeded(self, needs: Needs, *, now: float) -> dict[str, str]:
        """Return those of all *needs* that are heeded at the time *now*, in seconds."""
        current = set(needs.items())
        self._since = {key: self._since.get(key, now) for key in current}
        self._prompted = {k: turn for k, turn in self._prompted.items() if k in current}
        return {name: what for name, what in needs.items() if self._is_heeded((name, what), now)}

    def expect(self, name: str, what: str, *, now: float) -> None:
        """Take in that a need is about to come, of which Harvester is told along with it."""
        self._since[name, what] = now
        self._prompted[name, what] = 0

    def prompts(self, heeded: Needs, *, now: float) -> tuple[str, ...]:
        """Return the GPUs of which Harvester is to be told now that they are left alone.

        That is when a need begins to be heeded, and from time to time. Of MIG mode it need not be
        told.
        """
        due = []
        for key in heeded.items():
            turn = self._turn(key, now)
            if key[1] != MIG_MODE and self._prompted.get(key) != turn:
                self._prompted[key] = turn
                due.append(key[0])
        return tuple(due)

    def _turn(self, key: tuple[str, str], now: float) -> int:
        return int((now - self._since[key]) // self._patience.prompt)

    def _is_heeded(self, key: tuple[str, str], now: float) -> bool:
        lasted = now - self._since[key]
        if key[1] == MIG_MODE:
            return lasted < self._patience.mig_mode
        return lasted % (self._patience.functions + self._patience.pause) < self._patience.functions
