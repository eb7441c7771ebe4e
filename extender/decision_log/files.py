"""The door to zstandard and the disk: a run's files, of which the oldest go first.

What has been flushed can be read even if nothing follows: each flush ends a block. Each frame ends
with a checksum, and files consist of several, so that a fault on the disk is found near by.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec
import zstandard

from extender.decision_log.layout import LogUnreadable

SUFFIX = ".jsonl.zst"
LEVEL = 3  # zstandard's own default
FRAME_BYTES = 8 * 1024 * 1024
"""Of lines, after which another frame begins: it forgets what could be referred to."""

LONGEST_LINE_BYTES = 64 * 1024 * 1024
"""The longest that is read; 5,000 nodes' names or UIDs are written in a line of 100 to 300 kB."""

MOST_FILES = 1_000
"""How many are kept at most, however small: a process that starts again and again leaves many."""

LARGEST_WINDOW_BYTES = 32 * 1024 * 1024
_PIECE_BYTES = 256 * 1024


def is_part(path: Path) -> bool:
    """Tell by its name whether a file is one of a decision log."""
    return path.name.endswith(SUFFIX)


class Limits(msgspec.Struct, frozen=True):
    """How large a file grows before the next begins; as many bytes as so many have are kept.

    Where half of a file does not hold what was known at its beginning, files grow to twice that.
    """

    file_bytes: int = 64 * 1024 * 1024
    files: int = 16

    @property
    def kept_bytes(self) -> int:
        """How much is kept, of all runs."""
        return self.files * self.file_bytes


class Files:
    """The files of one *run* in a *folder*, written one after the other, by one thread.

    Every call may raise OSError; then what was not flushed may be lost, and :meth:`close` is due.
    """

    def __init__(self, folder: Path, run: str, limits: Limits) -> None:
        self.limits = limits
        self.number = 0
        self.kept_bytes = 0
        self._folder = folder
        self._run = run
        self._file: BinaryIO | None = None
        self._path = folder
        self._size = 0
        self._known = 0
        self._framed = 0
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._frame = self._compressor.compressobj()

    @property
    def full(self) -> bool:
        """Whether the next file is due."""
        return self._size >= self._most

    @property
    def _most(self) -> int:
        """How large the file grows: as much again as what was known at its beginning, at least."""
        return max(self.limits.file_bytes, 2 * self._known)

    def restated(self) -> None:
        """Take in that all so far tells what was known; as much again is to find room."""
        self.flush()
        self._known = self._size
        self._remove_the_oldest()

    def begin(self, stamp: str, head: bytes) -> None:
        """Begin the next file with its first lines, and then remove the oldest to make room for it.

        *stamp* sorts them. A file that cannot be begun is not left behind, nor does it cost others.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / f"{stamp}-{self._run}-{self.number + 1:06}{SUFFIX}"
        # Whose VMs are where is nobody's affair but the operator's.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with ExitStack() as undone:
            undone.callback(self._path.unlink, missing_ok=True)
            self._file = os.fdopen(descriptor, "wb", buffering=0)
            undone.callback(self.close)
            self._size, self._framed, self._known = 0, 0, 0
            self._frame = self._compressor.compressobj()
            self.write(head)
            self.flush()
            self._remove_the_oldest()
            undone.pop_all()
        self.number += 1

    def write(self, lines: bytes) -> None:
        """Write whole lines, which another process may not see before they are flushed."""
        self._framed += len(lines)
        self._put(self._frame.compress(lines))

    def flush(self) -> None:
        """Let everything that was written be read."""
        if self._framed >= FRAME_BYTES:
            self._put(self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
            self._frame, self._framed = self._compressor.compressobj(), 0
        else:
            self._put(self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        self._must_be_there()

    def end(self) -> None:
        """Flush, and close the file."""
        self._put(self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
        self._must_be_there()
        self.close()

    def close(self) -> None:
        """Close the file as it is."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _put(self, piece: bytes) -> None:
        assert self._file is not None
        view = memoryview(piece)
        while view:  # a nearly full disk takes a part of it
            written = self._file.write(view)
            self._size += written
            self.kept_bytes += written
            view = view[written:]

    def _must_be_there(self) -> None:
        """Writing to a file that somebody has removed fails as little as reading it succeeds."""
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise OSError(errno.ENOENT, "the file was removed", str(self._path))

    def _remove_the_oldest(self) -> None:
        """Leave room for the file that is written, wherever a clock set back has sorted it."""
        sizes = {path: path.stat().st_size for path in found(self._folder) if path != self._path}
        kept, room = sum(sizes.values()), self.limits.kept_bytes - self._most
        spare = len(sizes) + 1 - max(MOST_FILES, self.limits.files)
        for path, size in sizes.items():
            if kept <= room and spare <= 0:
                break
            path.unlink(missing_ok=True)
            kept -= size
            spare -= 1
        self.kept_bytes = kept + self._size


def found(folder: Path) -> list[Path]:
    """Return the log's files in a folder, the oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def whose(path: Path) -> tuple[str, int]:
    """Return the run that a file's name tells, and its number there; "" and 0 if it tells none."""
    named = re.fullmatch(rf"[^-]+-([^-]+)-([0-9]{{1,9}}){re.escape(SUFFIX)}", path.name)
    return (named[1], int(named[2])) if named else ("", 0)


def lines(path: Path) -> Iterator[bytes]:
    """Yield the whole lines of a file.

    The last may have no end: blocks are written before they are flushed, so a process that is
    killed, or a disk that is full, leaves half a line behind. It is as good as not written.

    Raises:
        LogUnreadable: it cannot be read from here on.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW_BYTES)
    try:
        with (
            path.open("rb") as file,
            decompressor.stream_reader(file, read_across_frames=True) as reader,
        ):
            yield from split(iter(lambda: reader.read(_PIECE_BYTES), b""))
    except (zstandard.ZstdError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise LogUnreadable(f"cannot be read: {reason}") from error


def split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines that end in a text in pieces; each byte is copied a few times, no more.

    Raises:
        LogUnreadable: a line is longer than any that is read.
    """
    begun: list[bytes] = []
    length = 0
    for piece in pieces:
        first, *others = piece.split(b"\n")
        begun.append(first)
        length += len(first)
        if others:
            yield b"".join(begun)
            *whole, last = others
            yield from whole
            begun, length = [last], len(last)
        if length > LONGEST_LINE_BYTES:
            raise LogUnreadable(f"a line is longer than {LONGEST_LINE_BYTES} bytes")


def compressed(text: bytes) -> bytes:
    """Return a file's content for lines, in one frame."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(text)
