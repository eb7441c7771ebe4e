"""Reading logs: the files of each run in their order, as far as they are whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from extender.decision_log.files import found, lines
from extender.decision_log.layout import FORMAT, End, Entry, Gap, Header, LogUnreadable, Names


class Damage(msgspec.Struct, frozen=True):
    """Where a file could not be read further: behind so many of its lines, and why."""

    file: str
    lines: int
    why: str


Item = Entry | Gap | End | Damage


class Part(msgspec.Struct, frozen=True):
    """One file, and what its first line says."""

    path: Path
    header: Header

    def items(self) -> Iterator[Item]:
        """Yield what is in it; at the last a damage, if it is damaged."""
        read = 0
        lists: dict[int, tuple[str, ...]] = {}
        try:
            for line in lines(self.path):
                if read and (found := item(line, lists)) is not None:
                    yield found
                read += 1
        except LogUnreadable as error:
            yield Damage(str(self.path), read, str(error))


class Run(msgspec.Struct, frozen=True):
    """What one process has written, in the order of its files."""

    parts: Sequence[Part]

    @property
    def header(self) -> Header:
        """What the first of its files that are there says."""
        return self.parts[0].header

    def items(self) -> Iterator[Item]:
        """Yield what is in its files."""
        for part in self.parts:
            yield from part.items()


def runs(paths: Iterable[Path]) -> Sequence[Run]:
    """Return the runs in files, and in folders of files, in the order in which they began.

    Raises:
        LogUnreadable: a file is none of a decision log, or of another format; or there is none.
    """
    files = [each for path in paths for each in (found(path) if path.is_dir() else [path])]
    if not files:
        raise LogUnreadable("there is no file of a decision log")
    parts = [Part(path, header(path)) for path in files]
    parts.sort(key=lambda part: (part.header.run, part.header.file))
    grouped = [Run(tuple(of)) for _, of in groupby(parts, key=lambda part: part.header.run)]
    return sorted(grouped, key=lambda run: run.header.began)


def header(path: Path) -> Header:
    """Return what the first line of a file says.

    Raises:
        LogUnreadable: it is not that of a decision log, or of another format than those known.
    """
    try:
        first = next(lines(path), b"")
        said = msgspec.json.decode(first, type=_Format)
        if said.decision_log != FORMAT:
            raise LogUnreadable(f"has format {said.decision_log}, this program reads {FORMAT}")
        return msgspec.json.decode(first, type=Header)
    except LogUnreadable as error:
        raise LogUnreadable(f"{path}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LogUnreadable(f"{path}: is no file of a decision log: {error}") from error


class _Format(msgspec.Struct, rename="camel"):
    decision_log: int


def item(line: bytes, lists: dict[int, tuple[str, ...]]) -> Entry | Gap | End | None:
    """Return what a line is, None for names, which are kept for the lines that refer to them.

    Raises:
        LogUnreadable: it is nothing that can be read: torn, mostly.
    """
    try:
        raw: Any = msgspec.json.decode(line)
        if "n" in raw:
            entry = msgspec.convert(raw, Entry)
            names = entry.given.get("names")
            if isinstance(names, dict):
                entry.given["names"] = lists[names["list"]]
            return entry
        if "list" in raw:
            names = msgspec.convert(raw, Names)
            lists[names.number] = names.are
            return None
        return msgspec.convert(raw, Gap) if "lost" in raw else msgspec.convert(raw, End)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, KeyError) as error:
        raise LogUnreadable(f"a line is torn: {error}") from error
