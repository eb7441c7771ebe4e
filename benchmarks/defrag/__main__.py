"""Run it: see :mod:`benchmarks.defrag`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.defrag import store
from benchmarks.defrag.exact import cases, compared, parts
from benchmarks.defrag.exact import table as numbers
from benchmarks.defrag.experiment import LOADS, MIXES, SIZES, Cell, cell, summary
from benchmarks.defrag.report import page, table
from benchmarks.defrag.sizes import measured
from benchmarks.defrag.sizes import table as sizes
from benchmarks.made import here, keep


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.defrag", description="What moving VMs is worth."
    )
    parser.add_argument("what", nargs="?", choices=("worth", "exact", "size"), default="worth")
    parser.add_argument("--quick", action="store_true", help="few, short runs: minutes to seconds")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument(
        "--out",
        type=Path,
        help="where results are kept: a folder, for exact and size a JSON file; what is there of"
        " the mixes and of exact is not run again",
    )
    parser.add_argument("--mix", action="append", choices=MIXES, help="only this; may be repeated")
    parser.add_argument("--load", action="append", type=float, choices=LOADS, help="likewise")
    parser.add_argument("--seeds", type=int, help="only the first so many seeds")
    parser.add_argument("--triples", type=int, default=5_000, help="for exact: random triples")
    parser.add_argument("--pairs", type=int, help="for exact: so many pairs, drawn; else all")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="for exact: so many processes")
    options = parser.parse_args(arguments)
    if options.what == "exact":
        rows = list(_exact(options))
        _tell(rows, numbers(rows), options)
        return int(any(row["differing"] for row in rows))
    if options.what == "size":
        rows = measured(quick=options.quick, progress=_say)
        if options.out is not None:
            keep(options.out, [{**row, "made": here()} for row in rows])
        _tell(rows, sizes(rows), options)
        return 0
    cells = list(_worth(options))
    if options.out is not None:
        kept = list(store.load_all(options.out))
        (options.out / "report.md").write_text(page(kept))
    said = summary(cells)
    print(json.dumps(said, indent=1) if options.output == "json" else table(said))
    return 0


def _worth(options: argparse.Namespace) -> Iterator[Cell]:
    size = SIZES["quick" if options.quick else "full"]
    size = msgspec.structs.replace(size, seeds=size.seeds[: options.seeds])
    for load in options.load or LOADS:
        for mix in options.mix or MIXES:
            found = None if options.out is None else store.load(options.out, mix, load, size)
            if found is None:
                _say(f"{mix} at {load:g}")
                found = cell(mix, load, size)
                if options.out is not None:
                    store.save(options.out, found)
            yield found


def _exact(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare part by part; what is in the file is taken as it is."""
    out: Path | None = options.out
    known = msgspec.json.decode(out.read_bytes()) if out is not None and out.exists() else []
    every = parts(cases(pairs=options.pairs, triples=options.triples))
    sizes = zip(known, every, strict=False)
    done = sum(1 for _ in takewhile(lambda both: both[0]["cases"] == len(both[1]), sizes))
    del known[done:]
    yield from known
    with ProcessPoolExecutor(options.jobs) as pool:
        for row in pool.map(compared, every[done:]):
            known.append({**row, "made": msgspec.to_builtins(here())})
            _say(f"{len(known)} of {len(every)} parts")
            if out is not None:
                keep(out, known)
            yield known[-1]


def _tell(rows: Sequence[dict[str, Any]], text: str, options: argparse.Namespace) -> None:
    print(json.dumps(rows, indent=1) if options.output == "json" else text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
