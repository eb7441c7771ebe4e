"""Where, when and from which commit a result came: noted in each that is stored."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parent.parent


class Made(msgspec.Struct, frozen=True):
    """``commit`` ends in "+" where files differed from it, and is "" outside of a checkout.

    ``load`` is the load average of a minute, over so many ``cores``, as the measurement ended.
    """

    day: str
    commit: str
    processor: str
    cores: int
    load: float
    python: str


def here() -> Made:
    """Return what is to be noted of what has just been measured."""
    return Made(
        day=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        processor=processor(),
        cores=os.cpu_count() or 1,
        load=round(os.getloadavg()[0], 1),
        python=platform.python_version(),
    )


def text(made: Made) -> str:
    """Say it in a line."""
    return (
        f"{made.day}, commit {made.commit or 'not noted'}, {made.cores} cores of {made.processor},"
        f" load {made.load}, Python {made.python}"
    )


def keep(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, each with what was noted of it, to a file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")


def processor() -> str:
    """Return what the machine calls its processor."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text("utf-8").splitlines() if known.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _commit() -> str:
    told = _git("rev-parse", "--short=10", "HEAD")
    return told + "+" if told and _git("status", "--porcelain", "--untracked-files=no") else told


def _git(*arguments: str) -> str:
    """Return what git says, "" where it is not, or knows nothing of this folder."""
    try:
        told = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""
