"""Run, check and report: see :mod:`benchmarks.quality`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.quality import cells, store
from benchmarks.quality.running import run
from benchmarks.quality.traced import traced
from extender.simulation.traces import MalformedTrace


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description="Compare policies on simulated demand."
    )
    parser.add_argument("action", choices=("run", "report"), help="run what is missing, or report")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="only every N-th cell")
    parser.add_argument("--results", type=Path, default=store.RESULTS, metavar="FOLDER")
    parser.add_argument(
        "--trace",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="also a recorded trace: a CSV with openb's columns; may be given again",
    )
    parser.add_argument("--group", default="", help="only cells of this group")
    parser.add_argument("--besides", default="", help="contenders left for later, by commas")
    options = parser.parse_args(arguments)
    if options.action == "report":
        from benchmarks.quality.report import write

        return write(options.results)
    part, slash, parts = options.shard.partition("/")
    if not (part.isdigit() and slash and parts.isdigit() and 1 <= int(part) <= int(parts)):
        parser.error(f"--shard {options.shard}: not like 1/4")
    small = options.size == "small"
    chosen = list(cells.small() if small else cells.full())
    try:
        chosen += [cell for path in options.trace for cell in traced(path, small=small)]
        chosen = [cell for cell in chosen if options.group in ("", cell.group)]
        run(
            cells.shard(chosen, int(part), int(parts)),
            options.results,
            besides=tuple(filter(None, options.besides.split(","))),
            report=lambda text: print(text, file=sys.stderr, flush=True),
        )
    except MalformedTrace as error:
        parser.error(f"--trace {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
