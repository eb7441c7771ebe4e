"""Joint planning beside one-by-one placement, and how its time grows.

python -m benchmarks.joint --out benchmarks/results                  # all of it
python -m benchmarks.joint --out benchmarks/results --part served    # that part anew
python -m benchmarks.joint --report                                  # from what is stored
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.demands import DEMANDS
from benchmarks.joint import stored
from benchmarks.joint.burst import Row, burst, summary
from benchmarks.joint.contents import sections
from benchmarks.joint.served import SERVED, served, views
from benchmarks.joint.sizes import RESTRICTED, SIZES, SPREADS, restricted, size
from benchmarks.joint.stored import PARTS
from benchmarks.reporting import rendering

RESULTS = Path(__file__).parent.parent / "results"
FILLS = (0.5, 0.7, 0.9)
BURSTS = (10, 50, 150, 300)
SEED = 1
"""Of fleets and demands that are timed."""


def main(arguments: list[str]) -> None:
    """Run what is asked for, store it, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="bursts of each kind")
    parser.add_argument("--repetitions", type=int, default=5, help="of each timing")
    parser.add_argument("--most-gpus", type=int, default=400_000, help="largest fleet timed")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for joint.json and report"
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be repeated")
    parser.add_argument("--report", action="store_true", help="run nothing: report what is stored")
    options = parser.parse_args(arguments)
    results = stored.load(options.out)
    for part in () if options.report else options.part or PARTS:
        if part == "bursts":
            seeds = f"0 to {options.seeds - 1}"
            rows = summary(list(_bursts(options.seeds)))
        else:
            seeds = f"{SEED}, {options.repetitions} repetitions"
            rows = list(_timed(part, options.most_gpus, options.repetitions))
        setattr(results, part, rows)
        results.made[part] = stored.here(seeds)
        stored.save(options.out, results)
    rendering.write(options.out, "joint", "Joint planning", list(sections(results, options.out)))


def _bursts(seeds: int) -> Iterator[Row]:
    for demand in DEMANDS:
        for fill in FILLS:
            print(f"bursts: {demand}, {fill:.0%} full", file=sys.stderr)
            for count in BURSTS:
                yield from (burst(demand, fill, count, seed) for seed in range(seeds))


def _timed(part: str, most_gpus: int, repetitions: int) -> Iterator[Row]:
    print(f"times: {part}", file=sys.stderr)
    if part == "sizes":
        for requests, fleets in SIZES.items():
            for gpus in fleets:
                if gpus <= most_gpus:
                    yield size(gpus, requests, repetitions=repetitions, seed=SEED)
    elif part == "mixed":
        for spreads in SPREADS:
            if most_gpus >= RESTRICTED[0]:
                yield restricted(*RESTRICTED, spreads=spreads, repetitions=repetitions, seed=SEED)
    else:
        nodes, waiting = SERVED
        known = views(nodes, seed=SEED)
        for pods in waiting:
            yield served(known, pods, repetitions=repetitions, seed=SEED)


if __name__ == "__main__":
    main(sys.argv[1:])
