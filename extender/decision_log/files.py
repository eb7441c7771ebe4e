"""The door to zstandard and the disk: a run's files, of which the oldest go first.

What has been flushed can be read even if nothing follows: each flush ends a block. Each frame ends
with a checksum, and files consist of several, so that a fault on the disk is found near by.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
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
"""The longest that is read; the longest that is written is a GpuNode of some 40 kB."""

LARGEST_WINDOW_BYTES = 32 * 1024 * 1024
_PIECE_BYTES = 256 * 1024


class Limits(msgspec.Struct, frozen=True):
    """How large a file grows before the next begins, and how many are kept, of all runs."""

    file_bytes: int = 64 * 1024 * 1024
    files: int = 16


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
        self._framed = 0
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._frame = self._compressor.compressobj()

    @property
    def full(self) -> bool:
        """Whether the next file is due."""
        return self._size >= self.limits.file_bytes

    def begin(self, stamp: str) -> None:
        """Begin the next file, and remove the oldest if there are too many; *stamp* sorts them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.number += 1
        self._path = self._folder / f"{stamp}-{self._run}-{self.number:06}{SUFFIX}"
        # Whose VMs are where is nobody's affair but the operator's.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._size, self._framed = 0, 0
        self._frame = self._compressor.compressobj()
        self._remove_the_oldest()

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

    def end(self) -> None:
        """Flush, and close the file."""
        self._put(self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
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

    def _remove_the_oldest(self) -> None:
        every = found(self._folder)
        for path in every[: max(0, len(every) - self.limits.files)]:
            path.unlink(missing_ok=True)
        self.kept_bytes = sum(each.stat().st_size for each in found(self._folder))


def found(folder: Path) -> list[Path]:
    """Return the log's files in a folder, the oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file as far as they can be read, the last one perhaps torn.

    Raises:
        LogUnreadable: it cannot be read from here on.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW_BYTES)
    rest = b""
    try:
        with (
            path.open("rb") as file,
            decompressor.stream_reader(file, read_across_frames=True) as reader,
        ):
            while piece := reader.read(_PIECE_BYTES):
                *whole, rest = (rest + piece).split(b"\n")
                yield from whole
                if len(rest) > LONGEST_LINE_BYTES:
                    raise LogUnreadable(f"a line is longer than {LONGEST_LINE_BYTES} bytes")
    except (zstandard.ZstdError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise LogUnreadable(f"cannot be read: {reason}") from error
    if rest:
        yield rest


def compressed(text: bytes) -> bytes:
    """Return a file's content for lines, in one frame."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(text)
