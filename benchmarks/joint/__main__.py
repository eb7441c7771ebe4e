"""Joint planning beside one-by-one placement, and how its time grows.

python -m benchmarks.joint --out benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.demands import DEMANDS
from benchmarks.joint.burst import burst, summary
from benchmarks.joint.report import report
from benchmarks.joint.sizes import RESTRICTED, SIZES, SPREADS, restricted, size

FILLS = (0.5, 0.7, 0.9)
BURSTS = (10, 50, 150, 300)


def main(arguments: list[str]) -> None:
    """Run everything; write joint.json and joint.md, or print the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="bursts of each kind")
    parser.add_argument("--repetitions", type=int, default=5, help="of each timing")
    parser.add_argument("--most-gpus", type=int, default=400_000, help="largest fleet timed")
    parser.add_argument("--out", type=Path, help="folder for joint.json and joint.md")
    options = parser.parse_args(arguments)
    mixed = [
        restricted(*RESTRICTED, spreads=spreads, repetitions=options.repetitions, seed=1)
        for spreads in SPREADS
        if options.most_gpus >= RESTRICTED[0]
    ]
    sizes = [
        size(gpus, requests, repetitions=options.repetitions, seed=1)
        for requests, fleets in SIZES.items()
        for gpus in fleets
        if gpus <= options.most_gpus
    ]
    placed = []
    for demand in DEMANDS:
        for fill in FILLS:
            print(f"bursts: {demand}, {fill:.0%} full", file=sys.stderr)
            for count in BURSTS:
                placed += [burst(demand, fill, count, seed) for seed in range(options.seeds)]
    bursts = summary(placed)
    text = report(bursts, sizes, mixed)
    if options.out is None:
        print(text)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "joint.md").write_text(text)
    everything = {"sizes": sizes, "mixed": mixed, "bursts": bursts}
    (options.out / "joint.json").write_text(json.dumps(everything, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
