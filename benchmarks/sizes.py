"""The command line of what is measured at several sizes, in a process like that of ``serve``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog
import uvloop

from benchmarks import made
from benchmarks.fleet import GPUS
from extender.cli.switching import threads_take_short_turns


class Measure(Protocol):
    """Measures at one size."""

    def __call__(
        self, nodes: int, *, rounds: int, changes: int, seed: int
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        """Return what was found, as a row of the results."""


def main(
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str | None,
    rounds: int,
    measure: Measure,
    text: Callable[[dict[str, Any]], str],
) -> int:
    """Measure, by default so many *rounds*, and print what was found at each size."""
    parser = argparse.ArgumentParser(
        description=description,
        prog=prog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", default="100,1000", help="sizes, separated by commas")
    parser.add_argument("--rounds", type=int, default=rounds, help="pods of each measurement")
    parser.add_argument("--changes", type=int, default=8, help="nodes that change before each pod")
    parser.add_argument("--seed", type=int, default=1, help="what the nodes hold")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument("--out", type=Path, help="keep what was found in this file")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows = []
    for nodes in map(int, options.nodes.split(",")):
        print(f"measuring {nodes} nodes x {GPUS} GPUs", file=sys.stderr)
        work = measure(nodes, rounds=options.rounds, changes=options.changes, seed=options.seed)
        with threads_take_short_turns():
            rows.append(row := uvloop.run(work))
        print(json.dumps(row) if options.output == "json" else text(row), flush=True)
    if options.out:
        made.keep(options.out, rows)
    return 0
