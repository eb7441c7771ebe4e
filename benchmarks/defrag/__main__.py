"""Run it: see :mod:`benchmarks.defrag`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.defrag.exact import compared
from benchmarks.defrag.experiment import MIXES, SIZES, cell, summary
from benchmarks.defrag.report import page, table
from benchmarks.defrag.sizes import measured
from benchmarks.defrag.sizes import table as sizes

LOADS = (0.85, 1.0)


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.defrag", description="What moving VMs is worth."
    )
    parser.add_argument("what", nargs="?", choices=("worth", "exact", "size"), default="worth")
    parser.add_argument("--quick", action="store_true", help="few, short runs: minutes to seconds")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("--out", type=Path, help="folder for defrag.json and defrag.md")
    parser.add_argument("--triples", type=int, default=5_000, help="for exact: random triples")
    parser.add_argument("--pairs", type=int, help="for exact: so many pairs, drawn; else all")
    options = parser.parse_args(arguments)
    if options.what == "exact":
        found = compared(pairs=options.pairs, triples=options.triples, progress=_say)
        print(json.dumps(found, indent=1))
        return int(found["differing"] > 0)
    if options.what == "size":
        rows = measured(quick=options.quick, progress=_say)
        print(json.dumps(rows, indent=1) if options.output == "json" else sizes(rows))
        return 0
    size = SIZES["quick" if options.quick else "full"]
    cells = []
    for load in LOADS:
        for mix in MIXES:
            _say(f"{mix} at {load:g}")
            cells.append(cell(mix, load, size))
    said = summary(cells)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "defrag.json").write_text(json.dumps(said, separators=(",", ":")) + "\n")
        (options.out / "defrag.md").write_text(page(said))
    print(json.dumps(said, indent=1) if options.output == "json" else table(said))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
