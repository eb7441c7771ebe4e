"""What of a node is Tangram's to use: which GPUs, and which resources.

GPUs are opted in and handed back one by one, by an annotation of the GpuNode: ``all``, ``none``, or
UUIDs and PCI addresses with commas between. On a GPU that is not ours nothing is created; what is
ours there runs to its end. With Harvester its layout is static then, and what somebody else has
made there is handed out as it is. A GPU cut by hand is ours only if it is named: ``all`` does not
mean those.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import msgspec

from nodeagent.api.gpunode import Inventory, Layout, Mode
from nodeagent.api.keys import GPUS_ANNOTATION
from nodeagent.driver import Host, LiveGpu

# [domain:]bus:device.function; nvidia-smi writes the domain with eight digits, sysfs with four.
_PCI = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", re.IGNORECASE)


class Purview(msgspec.Struct, frozen=True):
    """What the agent was told when it was started.

    ``all_gpus`` is whether it may use every GPU where the annotation says nothing, but for those
    cut by hand; ``resources`` are the only ones it hands out, where there are any.
    """

    all_gpus: bool = True
    resources: frozenset[str] = frozenset()

    def hands_out(self, resource: str) -> bool:
        """Tell whether pods may have *resource* here."""
        return not self.resources or resource in self.resources


class Excluded(msgspec.Struct, frozen=True):
    """The UUIDs of the GPUs that are not ours; ``problem`` is what is wrong with the annotation."""

    gpus: frozenset[str] = frozenset()
    problem: str = ""


def excluded(
    annotation: str | None, gpus: Iterable[LiveGpu], before: Inventory, *, all_gpus: bool
) -> Excluded:
    """Return which of *gpus* are not ours by the *annotation*, None if there is none.

    By one that cannot be followed it stays as *before* has it, and GPUs not in there are not ours,
    nor are those cut by hand: whether they were named is not known any more.
    """
    every = tuple(gpus)
    present = {gpu.uuid: gpu.pci_address for gpu in every}
    cut_by_hand = frozenset(gpu.uuid for gpu in every if gpu.cut_by_hand)
    word = annotation.strip() if annotation is not None else ("all" if all_gpus else "none")
    if word == "all":
        return Excluded(cut_by_hand)
    if word == "none":
        return Excluded(frozenset(present))
    names = [name.strip() for name in word.split(",")]
    found = {name: _named(name, present) for name in names}
    problems = [reason for name in names if (reason := _problem(name, found[name]))]
    if problems:
        others = _not_ours(before.mode)
        ours = {gpu.uuid for gpu in before.gpus if gpu.layout is not others}
        not_ours = cut_by_hand.union(present.keys() - ours)
        return Excluded(not_ours, f"{GPUS_ANNOTATION}: {problems[0]}")
    return Excluded(frozenset(present.keys() - set(found.values())))


def without(host: Host, gpus: Collection[str]) -> Host:
    """Return *host* with those of its *gpus* not ours to use."""
    return msgspec.structs.replace(
        host,
        gpus=tuple(
            msgspec.structs.replace(gpu, layout=_not_ours(host.mode)) if gpu.uuid in gpus else gpu
            for gpu in host.gpus
        ),
    )


def _not_ours(mode: Mode) -> Layout:
    return Layout.STATIC if mode is Mode.HARVESTER else Layout.UNMANAGED


def _named(name: str, present: dict[str, str]) -> str:
    """Return the UUID of the GPU that *name* names, "" if none of those *present* (by UUID)."""
    address = _address(name)
    return next(
        (
            uuid
            for uuid, pci_address in present.items()
            if name.lower() == uuid.lower() or (address and address == _address(pci_address))
        ),
        "",
    )


def _problem(name: str, found: str) -> str:
    if found:
        return ""
    if not name:
        return "a name is missing between the commas; say all, none, or which GPUs"
    if name in ("all", "none"):
        return f"{name} cannot be combined with anything else"
    if name.startswith("GPU-") or _address(name):
        return f"the node has no GPU {name}"
    return f"{name} is neither all, none, a GPU's UUID nor its PCI address"


def _address(name: str) -> tuple[int, ...]:
    """Return a PCI address as numbers, which compare however it is written; () if it is none."""
    match = _PCI.fullmatch(name)
    return tuple(int(part or "0", 16) for part in match.groups()) if match else ()
