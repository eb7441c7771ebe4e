"""The journal on disk.

The file is replaced as a whole and synced, so a crash leaves the old text or the new. A file that
cannot be read proves nothing: nothing is then taken for ours, the file is set aside, and the agent
reports it. What was told has a file beside it, for an older agent knows nothing of that; as a rule
the GpuNode says it, too, so a file that cannot be read is like none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import msgspec
import structlog

from nodeagent import durable
from nodeagent.journal import JournalError, Kept, Made

log = structlog.get_logger()

VERSION = 1


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    made: tuple[Made, ...]


class _Beside(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    kept: Kept


class FileJournal:
    """A :class:`~nodeagent.journal.Journal` in the file *path*, with what was told beside it.

    Without a file all is forgotten with the process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._made: tuple[Made, ...] = ()
        self._kept = Kept()
        self._damage = ""

    @property
    def made(self) -> tuple[Made, ...]:
        """Return what was saved last."""
        return self._made

    @property
    def kept(self) -> Kept:
        """Return what was kept last of what was told, or was about to be."""
        return self._kept

    @property
    def damage(self) -> str:
        """Return why an earlier journal could not be read, "" if it could."""
        return self._damage

    async def load(self) -> None:
        """Read what an earlier process has saved, if it can be read."""
        if self._path is not None:
            await asyncio.to_thread(self._load, self._path)

    async def save(self, made: tuple[Made, ...]) -> None:
        """Save *made*, durably once this returns.

        Raises:
            JournalError: it may or may not have been saved.
        """
        if self._path is not None:
            text = msgspec.json.encode(_File(VERSION, made))
            await asyncio.to_thread(_replace, self._path, text)
        self._made = made

    async def keep(self, kept: Kept) -> None:
        """Keep what is about to be told, durably once this returns.

        Raises:
            JournalError: it may or may not have been kept.
        """
        if self._path is not None:
            text = msgspec.json.encode(_Beside(VERSION, kept))
            await asyncio.to_thread(_replace, _beside(self._path), text)
        self._kept = kept

    def _load(self, path: Path) -> None:
        self._kept = _kept(_beside(path))
        try:
            self._made = _read(path)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            aside = path.with_name(path.name + ".unreadable")
            self._damage = f"{path} could not be read ({error}) and is set aside"
            log.error("journal_unreadable", path=str(path), error=str(error))
            with contextlib.suppress(OSError):  # then saving will fail too, and be reported
                os.replace(path, aside)


def _read(path: Path) -> tuple[Made, ...]:
    file = msgspec.json.decode(path.read_bytes(), type=_File)
    if file.version != VERSION:
        raise msgspec.ValidationError(f"version {file.version}, not {VERSION}")
    return file.made


def _beside(path: Path) -> Path:
    return path.with_name(f"told{path.suffix}")


def _kept(path: Path) -> Kept:
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_Beside)
    except FileNotFoundError:
        return Kept()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.error("told_unreadable", path=str(path), error=str(error))
        return Kept()
    if file.version != VERSION:
        log.error("told_unreadable", path=str(path), error=f"version {file.version}")
        return Kept()
    return file.kept


def _replace(path: Path, text: bytes) -> None:
    try:
        durable.replace(path, text)
    except OSError as error:
        raise JournalError(f"{path} cannot be written: {error}") from error
