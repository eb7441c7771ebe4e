"""Write the report, and say whether it holds what it must."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality import contents, store
from benchmarks.reporting import rendering


def write(folder: Path) -> int:
    """Write ``report.md`` and ``report.html`` beside the results; return 1 if a claim fails."""
    results = store.load_all(folder)
    sections = list(contents.sections(results, folder))
    rendering.write(folder, "report", "Placement quality", sections)
    found = contents.judged(results)
    for claim in found:
        print(f"{'holds' if claim.holds else 'FAILS'}: {claim.sentence} {claim.evidence}")
    return 0 if all(claim.holds for claim in found) else 1
