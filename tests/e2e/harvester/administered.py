"""What was done by hand: not Tangram's, and so no fault of its."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

import msgspec

from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices.host import Host
from tests.fakes.pcidevices.log import Entry, Log

BY_HARVESTER = frozenset({deeds.CREATE_INSTANCE, deeds.DESTROY_INSTANCE, deeds.CREATE_VGPU})
"""What its controller does where an administrator has it cut a GPU, the driver choosing places."""


class _Shift(msgspec.Struct):
    """The deeds on a GPU while an administrator was at it: from one number to another."""

    host: Host
    address: str
    begin: int
    end: int | None = None


class Administered:
    """The GPUs cut by hand, as *log* tells of them; ``vms`` were bound by somebody else."""

    def __init__(self, log: Log) -> None:
        self.vms: set[str] = set()
        self._log = log
        self._shifts: list[_Shift] = []

    @contextlib.contextmanager
    def shift(self, host: Host, address: str) -> Iterator[None]:
        """Let an administrator have the GPU at *address* until the block ends."""
        shift = _Shift(host, address, len(self._log.entries))
        self._shifts.append(shift)
        yield
        shift.end = len(self._log.entries)

    def gpus(self, host: Host) -> Collection[str]:
        """Return the UUIDs of a node's GPUs that were cut by hand."""
        cut = {each.address for each in self._shifts if each.host is host}
        return {host.machine.uuids[host.gpus[address]] for address in cut}

    def others(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        """Yield the deeds that were none of an administrator's."""
        for number, entry in enumerate(entries):
            if not any(_is_of(shift, number, entry) for shift in self._shifts):
                yield entry


def _is_of(shift: _Shift, number: int, entry: Entry) -> bool:
    on_time = shift.begin <= number and (shift.end is None or number < shift.end)
    if not on_time or entry.action not in BY_HARVESTER:
        return False
    host, address = shift.host, shift.address
    there = (address, *host.functions(host.gpus[address]))
    return entry.subject in {f"{host.node} {each}" for each in there}
