"""Reading logs: the files of each run in their order, as far as they are whole.

What is read may be anybody's: it costs no more memory than a log that was honestly written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from extender.decision_log.encoding import LISTS
from extender.decision_log.files import found, lines, whose
from extender.decision_log.layout import (
    READABLE,
    End,
    Entry,
    Gap,
    Header,
    LogUnreadable,
    Names,
    Restated,
    Restating,
)

MOST_NAMES = 100_000
LONGEST_NAME = 253
"""Of a list: what the hooks take of kube-scheduler (``extender.wire``)."""


class Damage(msgspec.Struct, frozen=True):
    """Where a file could not be read further: behind so many of its lines, and why."""

    file: str
    lines: int
    why: str


Item = Entry | Restating | Restated | Gap | End | Damage


class Lists:
    """The lists of names that lines refer to: those that were met last, as the writer has them."""

    def __init__(self) -> None:
        self._are: OrderedDict[int, tuple[str, ...]] = OrderedDict()

    def keep(self, names: Names) -> None:
        """Keep a list, for which the one that was not met for longest goes.

        Raises:
            LogUnreadable: it is longer than any that is written, or a name is.
        """
        if len(names.are) > MOST_NAMES or any(len(name) > LONGEST_NAME for name in names.are):
            raise LogUnreadable(f"a list has more than {MOST_NAMES} names, or one of them is long")
        self._are[names.number] = names.are
        self._are.move_to_end(names.number)
        if len(self._are) > LISTS:
            self._are.popitem(last=False)

    def met(self, number: int) -> tuple[str, ...]:
        """Return a list that is referred to.

        Raises:
            KeyError: it is not among those kept.
        """
        self._are.move_to_end(number)
        return self._are[number]


class Part(msgspec.Struct, frozen=True):
    """One file, and what its first line says."""

    path: Path
    header: Header

    def items(self) -> Iterator[Item]:
        """Yield what is in it; at the last a damage, if it is damaged."""
        read = 0
        lists = Lists()
        try:
            for line in lines(self.path):
                if read and (found := item(line, lists)) is not None:
                    yield found
                read += 1
        except LogUnreadable as error:
            yield Damage(str(self.path), read, str(error))


class Unread(msgspec.Struct, frozen=True):
    """A file of which not even the first line can be read, and why."""

    path: Path
    why: str

    def items(self) -> Iterator[Item]:
        """Yield the damage."""
        yield Damage(str(self.path), 0, self.why)


class Run(msgspec.Struct, frozen=True):
    """What one process has written, in the order of its files; the ``header`` is the first's."""

    header: Header
    parts: Sequence[Part | Unread]

    def items(self) -> Iterator[Item]:
        """Yield what is in its files."""
        for part in self.parts:
            yield from part.items()


def runs(paths: Iterable[Path]) -> Sequence[Run]:
    """Return the runs in files, and in folders of files, in the order in which they began.

    A file that is given twice is read once. One that is found in a folder and cannot be read is a
    damage of the run that its name is of; if nothing is known of that, at the end of the last run.

    Raises:
        LogUnreadable: a file is none of a decision log, or of another format; or there is none.
    """
    parts: dict[Path, Part | Unread] = {}
    for path in paths:
        inside = path.is_dir()
        for each in found(path) if inside else [path]:
            parts.setdefault(each.resolve(), _read(each) if inside else Part(each, header(each)))
    if not parts:
        raise LogUnreadable("there is no file of a decision log")
    known: list[Run] = []
    strays: list[Unread] = []
    for _, of in groupby(sorted(parts.values(), key=_of_run), key=lambda part: _of_run(part)[0]):
        files = tuple(of)
        headers = [part.header for part in files if isinstance(part, Part)]
        if headers:
            known.append(Run(headers[0], files))
        else:
            strays += [part for part in files if isinstance(part, Unread)]
    if not known:
        raise LogUnreadable(f"{strays[0].path}: {strays[0].why}")
    known.sort(key=lambda run: run.header.began)
    *others, last = known
    return [*others, msgspec.structs.replace(last, parts=(*last.parts, *strays))]


def _read(path: Path) -> Part | Unread:
    try:
        return Part(path, _header(path))
    except LogUnreadable as error:
        return Unread(path, str(error))


def _of_run(part: Part | Unread) -> tuple[str, int]:
    """Return the run that a file is of, and its number there."""
    if isinstance(part, Unread):
        return whose(part.path)
    return part.header.run, part.header.file


def header(path: Path) -> Header:
    """Return what the first line of a file says.

    Raises:
        LogUnreadable: it is not that of a decision log, or of another format than those known.
    """
    try:
        return _header(path)
    except LogUnreadable as error:
        raise LogUnreadable(f"{path}: {error}") from error


def _header(path: Path) -> Header:
    first = next(lines(path), b"")
    try:
        said = msgspec.json.decode(first, type=_Format)
        if said.decision_log not in READABLE:
            known = " and ".join(map(str, sorted(READABLE)))
            raise LogUnreadable(f"has format {said.decision_log}, this program reads {known}")
        return msgspec.json.decode(first, type=Header)
    except _UNDECODABLE as error:
        raise LogUnreadable(f"is no file of a decision log: {error}") from error


_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Format(msgspec.Struct, rename="camel"):
    decision_log: int


def item(line: bytes, lists: Lists) -> Entry | Restating | Restated | Gap | End | None:
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
                entry.given["names"] = lists.met(names["list"])
            return entry
        if "list" in raw:
            lists.keep(msgspec.convert(raw, Names))
            return None
        if "restates" in raw:
            return msgspec.convert(raw, Restating)
        if "restated" in raw:
            return msgspec.convert(raw, Restated)
        return msgspec.convert(raw, Gap) if "lost" in raw else msgspec.convert(raw, End)
    except (*_UNDECODABLE, TypeError, KeyError) as error:
        raise LogUnreadable(f"a line is torn: {error}") from error
