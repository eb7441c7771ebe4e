"""Making and removing vGPUs, judged by what is there afterwards. Everything here blocks."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping

import msgspec
import structlog

from nodeagent.driver import DriverError, InstanceInUse, VgpuError
from nodeagent.vgpu.functions import functions
from nodeagent.vgpu.interface import Interface, Vgpu
from nodeagent.vgpu.join import Joined, Seen
from nodeagent.vgpu.record import Entry, Named, Record
from nodeagent.vgpu.sysfs import Sysfs

log = structlog.get_logger()

MAKE = "make a vGPU"
REMOVE = "remove a vGPU"

_TAKEN = frozenset({errno.EBUSY, errno.EEXIST})
"""With these a function, or a UUID, is refused because somebody else has it."""


class Vgpus:
    """The vGPUs behind *interface*; *record* knows which are ours."""

    def __init__(self, sysfs: Sysfs, interface: Interface, record: Record) -> None:
        self._sysfs = sysfs
        self._interface = interface
        self._record = record

    def look(self, addresses: Mapping[str, str]) -> tuple[dict[str, Seen], frozenset[str]]:
        """Return what there is on each GPU, given their PCI addresses, and every opened file.

        Files that cannot be read are the trouble of their GPU alone.
        """
        seen = {uuid: self._seen(address) for uuid, address in addresses.items()}
        return seen, self._sysfs.opened()

    def make(self, gpu_address: str, gi_id: int, type_name: str, entry: Entry) -> None:
        """Make the vGPU of *entry* in its GPU instance.

        After an error, what the entry names may be there, wherever; :meth:`clear` removes it.
        """
        order = self._interface.order(gpu_address, type_name, entry.assignment)
        named = Named(order.id, order.type_id)
        self._record.put(msgspec.structs.replace(entry, vgpu=named))
        failure: VgpuError | None = None
        try:
            self._sysfs.write(order.path, order.text)
        except VgpuError as error:
            failure = error
        made = self._found(gpu_address, named)
        if made is None:
            self._forget(named)
            raise failure or VgpuError(MAKE, meaning="reported done, but the vGPU is not there")
        if failure is None and made.gi_id == gi_id:
            log.info("vgpu_created", id=made.id, function=made.function, gi_id=gi_id)
            return
        if failure is None:
            raise VgpuError(MAKE, meaning="the driver chose another GPU instance")
        if not self._is_ours(made, gi_id, failure, entry):
            self._forget(named)
            detail = "a vGPU is there all the same; it may be somebody else's and is let be"
            raise VgpuError(failure.call, code=failure.code, detail=detail) from failure
        raise failure

    def sweep(self, joined: Joined, assignment: str) -> None:
        """Remove what strays on the GPU and nobody has open.

        Whatever is left of an earlier vGPU of *assignment* must go: it would be forgotten, and may
        have the name that is about to be given.
        """
        address = joined.gpu.pci_address
        named, earlier = self._interface.name(assignment), self._record.of(assignment)
        for vgpu in self._interface.existing(address):
            if vgpu.id == named or (earlier and earlier.owns(vgpu)):
                self._remove(address, vgpu)
        self._remove_strays(address, joined.strays)

    def clear(self, joined: Joined, gi_id: int) -> None:
        """Empty a GPU instance, and take away what was made for it wherever that is.

        Raises:
            InstanceInUse: it has what is not its own, or somebody has it open.
        """
        address = joined.gpu.pci_address
        owner = joined.owners.get(gi_id)
        self._remove_strays(address, (v for v in joined.strays if not owner or not owner.owns(v)))
        entries = self._record.entries
        for vgpu in self._interface.existing(address):
            unowned = vgpu.gi_id == gi_id and not any(entry.owns(vgpu) for entry in entries)
            if owner.owns(vgpu) if owner else unowned:
                self._remove(address, vgpu)
        self._check_empty(address, gi_id)

    def undo(self, gpu_address: str, gi_id: int, assignment: str) -> None:
        """Remove what :meth:`make` has left of an assignment's vGPU.

        Raises:
            InstanceInUse: there is another one in the GPU instance, or somebody has it open.
        """
        entry = self._record.of(assignment)
        if entry is not None:
            for vgpu in self._interface.existing(gpu_address):
                if entry.owns(vgpu):
                    self._remove(gpu_address, vgpu)
        self._check_empty(gpu_address, gi_id)

    def _seen(self, gpu_address: str) -> Seen:
        try:
            count = len(functions(self._sysfs, gpu_address))
            return Seen(count, self._interface.existing(gpu_address))
        except VgpuError as error:
            log.warning("vgpus_not_readable", address=gpu_address, error=str(error))
            return Seen(trouble=str(error))

    def _is_ours(self, made: Vgpu, gi_id: int, failure: VgpuError, entry: Entry) -> bool:
        """Tell whether a vGPU that is there in spite of an error is the one that was ordered.

        A function may have been taken by somebody just before us, and must be let to them.
        """
        if self._interface.name(entry.assignment):
            return True
        return made.gi_id == gi_id and failure.code not in _TAKEN

    def _found(self, gpu_address: str, named: Named) -> Vgpu | None:
        existing = self._interface.existing(gpu_address)
        return next((vgpu for vgpu in existing if named.is_(vgpu)), None)

    def _remove_strays(self, gpu_address: str, strays: Iterable[Vgpu]) -> None:
        """Remove strays as far as that goes: they are in nobody's way who is here now."""
        for vgpu in strays:
            try:
                self._remove(gpu_address, vgpu)
            except DriverError as error:
                log.warning("stray_vgpu_not_removed", id=vgpu.id, error=str(error))

    def _remove(self, gpu_address: str, vgpu: Vgpu) -> None:
        # Looked at again, for removing an open one may block until a VM has ended.
        if vgpu.is_open(self._sysfs.opened()):
            raise InstanceInUse(REMOVE, detail=f"vGPU {vgpu.id} is open")
        if self._found(gpu_address, Named(vgpu.id, vgpu.type_id)) not in (vgpu, None):
            raise VgpuError(REMOVE, meaning=f"vGPU {vgpu.id} is not the one that was seen")
        self._interface.remove(vgpu)
        if self._found(gpu_address, Named(vgpu.id, vgpu.type_id)):
            raise VgpuError(REMOVE, meaning=f"reported done, but vGPU {vgpu.id} is still there")
        self._forget(Named(vgpu.id, vgpu.type_id))
        log.info("vgpu_removed", id=vgpu.id, function=vgpu.function, gi_id=vgpu.gi_id)

    def _forget(self, named: Named) -> None:
        """Have no entry name a vGPU that is not there: the next of that name may be of others.

        If that cannot be written, the next look tries again.
        """
        changes: dict[Entry, Entry | None] = {
            each: msgspec.structs.replace(each, vgpu=None)
            for each in self._record.entries
            if each.vgpu == named
        }
        try:
            self._record.settle(changes)
        except VgpuError as error:
            log.error("vgpu_record_not_written", error=str(error))

    def _check_empty(self, gpu_address: str, gi_id: int) -> None:
        for vgpu in self._interface.existing(gpu_address):
            if vgpu.gi_id == gi_id:
                raise InstanceInUse(REMOVE, detail=f"vGPU {vgpu.id} of somebody else is in it")
