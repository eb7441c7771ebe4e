"""What a long test came to, kept in a file beside what was noted of its making."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from benchmarks import made


def keep(out: Path, **found: Any) -> None:
    """Write what was *found*, and when, where and from which commit, to a JSON file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = msgspec.json.encode({**found, "made": made.here()})
    out.write_bytes(msgspec.json.format(kept, indent=1) + b"\n")
