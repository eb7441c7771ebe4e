"""What a long test came to, kept in a file beside the machine that ran it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

PROCESSORS = Path("/proc/cpuinfo")


def machine() -> dict[str, Any]:
    """Describe this machine, as far as it matters to measurements."""
    return {
        "processor": _processor() or platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def keep(out: Path, **found: Any) -> None:
    """Write what was *found*, and on what machine, to a JSON file for people to read, too."""
    kept: Mapping[str, Any] = {**found, "machine": machine()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


def _processor() -> str:
    if not PROCESSORS.exists():
        return ""
    named = (line for line in PROCESSORS.read_text().splitlines() if line.startswith("model name"))
    return next(named, "").partition(":")[2].strip()
