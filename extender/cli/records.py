"""Files that a record of demand is read from, whatever their form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from extender.replay.parsing import MalformedRecord, record
from extender.replay.recorded import Recorded

MOST_BYTES = 256 * 2**20
"""Of a file: a million VMs, several times what a week of a big cluster has."""

Reader = Callable[[bytes, str], Recorded]
"""Reads a file's content; the second is what to call it in messages."""

READERS: tuple[tuple[bytes, Reader], ...] = ((b"{", record),)
"""By the first bytes of what each reads, white space aside."""


def read(path: Path) -> Recorded:
    """Return the demand that a file tells of.

    Raises:
        MalformedRecord: it cannot be read, is too large, or is nothing that can be played.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise MalformedRecord(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise MalformedRecord(f"{path}: is larger than {MOST_BYTES // 2**20} MiB")
    begins = content[:64].lstrip()
    for mark, reader in READERS:
        if begins.startswith(mark):
            return reader(content, str(path))
    raise MalformedRecord(
        f"{path}: is no record: one begins with `{{`, as `tangram simulate --record` writes it"
    )
