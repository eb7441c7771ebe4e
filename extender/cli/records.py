"""The demand that policies are tried on: a record's, or that of decision logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from extender.decision_log import LogUnreadable, Run, recorded, runs
from extender.replay.parsing import MalformedRecord, record
from extender.replay.recorded import Recorded

MOST_BYTES = 256 * 2**20
"""Of a record: a million VMs, several times what a week of a big cluster has."""


def read(paths: Sequence[Path]) -> Recorded:
    """Return the demand that a record tells of, or the files and folders of decision logs.

    Raises:
        MalformedRecord: it cannot be read, is too large, or is nothing that can be played.
    """
    if len(paths) == 1 and (content := _json(paths[0])):
        return record(content, str(paths[0]))
    source = ", ".join(map(str, paths))
    try:
        found = demand(runs(paths))
    except LogUnreadable as error:
        told = f"{error}; and it is no record: one begins with `{{`"
        raise MalformedRecord(told) from error
    # A log is not trusted more than a record: what it tells is looked at as closely.
    return record(msgspec.json.encode(found), source)


def demand(logged: Sequence[Run]) -> Recorded:
    """Return the demand of the run that tells of the most pods.

    Raises:
        LogUnreadable: a call is none that this program knows.
    """
    return max(
        (recorded(run.header, run.items()) for run in logged), key=lambda each: len(each.arrivals)
    )


def _json(path: Path) -> bytes:
    """Return what is in a file, if that may be a record: nothing, if it is none."""
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise MalformedRecord(f"{path}: cannot be read: {error.strerror}") from error
    if not content[:64].lstrip().startswith(b"{"):
        return b""
    if len(content) > MOST_BYTES:
        raise MalformedRecord(f"{path}: is larger than {MOST_BYTES // 2**20} MiB")
    return content
