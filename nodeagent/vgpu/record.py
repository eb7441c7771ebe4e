"""What vGPUs were made for, or are about to be: the proof of whose is which, through a crash.

The driver chooses where a vGPU goes, and others make vGPUs too. So an entry is written before the
GPU instance is made, names its vGPU just before that is, and lasts until both are seen gone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import structlog

from nodeagent import durable
from nodeagent.api.geometry import Placement
from nodeagent.driver import VgpuError
from nodeagent.vgpu.interface import Vgpu

log = structlog.get_logger()

VERSION = 1


class Named(msgspec.Struct, frozen=True):
    """A vGPU by its id and the number of its type: a function may hold another one later."""

    id: str
    type_id: int

    def is_(self, vgpu: Vgpu) -> bool:
        """Tell whether *vgpu* is it."""
        return (self.id, self.type_id) == (vgpu.id, vgpu.type_id)


class Entry(msgspec.Struct, frozen=True):
    """The GPU instance of an assignment, in the node's boot of that id, and its vGPU.

    There is none before it is about to be made, and none once it was seen gone.
    """

    assignment: str
    gpu: str
    profile_id: int
    placement: Placement
    boot_id: str
    vgpu: Named | None = None

    def owns(self, vgpu: Vgpu) -> bool:
        """Tell whether *vgpu* was made for it."""
        return self.vgpu is not None and self.vgpu.is_(vgpu)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    entries: tuple[Entry, ...]


class Record:
    """The entries, in the file *path*; without one they are forgotten with the process.

    Calls block. A file that cannot be read is set aside: nothing is then known of earlier vGPUs,
    and each counts as that of the GPU instance it is in.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._entries: tuple[Entry, ...] | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every entry, the oldest first, one for each assignment."""
        if self._entries is None:
            self._entries = () if self._path is None else _loaded(self._path)
        return self._entries

    def of(self, assignment: str) -> Entry | None:
        """Return the entry of an assignment."""
        return next((each for each in self.entries if each.assignment == assignment), None)

    def put(self, entry: Entry) -> None:
        """Write *entry*, in place of an earlier one of its assignment; durable on return.

        Raises:
            VgpuError: it may or may not be written.
        """
        others = [each for each in self.entries if each.assignment != entry.assignment]
        self._save((*others, entry))

    def settle(self, changes: Mapping[Entry, Entry | None]) -> None:
        """Put entries in place of others, or drop them; what is no longer as it was is let be.

        Raises:
            VgpuError: it may or may not be written.
        """
        kept = (changes.get(each, each) for each in self.entries)
        self._save(tuple(each for each in kept if each))

    def _save(self, entries: tuple[Entry, ...]) -> None:
        if entries == self.entries:
            return
        if self._path is not None:
            try:
                durable.replace(self._path, msgspec.json.encode(_File(VERSION, entries)))
            except OSError as error:
                raise VgpuError(f"write {self._path}", code=error.errno or 0) from error
        self._entries = entries


def of_gpu(entries: Iterable[Entry], gpu: str, boot_id: str) -> tuple[Entry, ...]:
    """Return those of one GPU that a reboot has not made void."""
    return tuple(each for each in entries if (each.gpu, each.boot_id) == (gpu, boot_id))


def _loaded(path: Path) -> tuple[Entry, ...]:
    """Read the file.

    Raises:
        VgpuError: it is there, and not to be had: to go on would be to forget it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise VgpuError(f"read {path}", code=error.errno or 0) from error
    try:
        file = msgspec.json.decode(content, type=_File)
        if file.version != VERSION:
            raise msgspec.ValidationError(f"version {file.version}, not {VERSION}")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.error("vgpu_record_unreadable", path=str(path), error=str(error))
        with contextlib.suppress(OSError):  # then saving will fail too, and be reported
            os.replace(path, path.with_name(path.name + ".unreadable"))
        return ()
    return file.entries
