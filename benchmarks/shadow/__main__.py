"""A shadow's prediction of refusals held against what happens live, policies exchanged.

Two policies, each live with the other beside it, before the same demand, whose mix drifts; VMs that
find no room wait for a quarter of a mean lifetime. Live decide the hooks' own verdicts, rankings
and places on the service's knowledge (``site``).

    python -m benchmarks.shadow --live default --shadow first-fit --seeds 20
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from benchmarks import made
from benchmarks.shadow.experiment import UNIT_SECONDS, Pair, swapped
from extender.cli.policies import in_force
from extender.simulation.scenario import Scenario


def rows(options: argparse.Namespace) -> Iterator[Pair]:
    """Yield what each seed comes to, both ways."""
    scenario = Scenario(
        gpus=options.gpus,
        mix=options.mix,
        then=options.then,
        load=options.load,
        arrivals=options.arrivals,
        warmup=0,
    )
    names = options.live, options.shadow
    policies = in_force(names[0])[0], in_force(names[1])[0]
    for seed in range(1, 1 + options.seeds):
        patience = options.patience * UNIT_SECONDS
        yield from swapped(scenario, policies, names, seed, patience=patience)


def summary(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return how often the interval held what happened, of how many that had one."""
    told = [each for each in pairs if each.within is not None]
    return {
        "pairs": len(pairs),
        "with_interval": len(told),
        "within": sum(bool(each.within) for each in told),
        "vms": sum(each.vms for each in pairs),
        "refused": sum(each.refused for each in pairs),
        "said": sum(each.said for each in pairs),
        "error_mean": round(sum(each.said - each.refused for each in pairs) / len(pairs), 2),
    }


def text(pairs: Sequence[Pair]) -> str:
    """Return a table for people."""
    lines = ["seed  live             shadow           VMs    predicted        actual  within"]
    for each in pairs:
        width = "" if each.interval is None else f" ± {each.interval:.1f}"
        held = {True: "yes", False: "no", None: "-"}[each.within]
        predicted = f"{each.predicted:+.0f}{width}"
        lines.append(
            f"{each.seed:4}  {each.live:15}  {each.shadow:15}  {each.vms:5}  {predicted:15}"
            f"  {each.actual:+6}  {held}"
        )
    of = summary(pairs)
    lines.append(
        f"{of['within']} of {of['with_interval']} intervals hold what happened live;"
        f" shadows said {of['said']} refusals in all, {of['refused']} happened"
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment, and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="benchmarks.shadow",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--live", default="default", help="one policy, a name or a file")
    parser.add_argument("--shadow", default="first-fit", help="the other")
    parser.add_argument("--gpus", type=int, default=32)
    parser.add_argument("--mix", default="skew-small", help="what is asked for at first")
    parser.add_argument("--then", default="skew-big", help="and after half of the arrivals")
    parser.add_argument("--load", type=float, default=0.95, help="share of the slices asked for")
    parser.add_argument("--arrivals", type=int, default=1500, help="VMs that come, for each seed")
    parser.add_argument("--patience", type=float, default=0.25, help="in mean lifetimes")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument("--out", type=Path, help="keep what was found in this file")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    pairs = []
    for pair in rows(options):
        pairs.append(pair)
        print(f"seed {pair.seed}: {pair.shadow} beside {pair.live}", file=sys.stderr)
    row = {
        **{key: value for key, value in vars(options).items() if key not in ("out", "output")},
        "summary": summary(pairs),
        "rows": [msgspec.to_builtins(each) | {"within": each.within} for each in pairs],
        "made": msgspec.to_builtins(made.here()),
    }
    print(json.dumps(row) if options.output == "json" else text(pairs), flush=True)
    if options.out:
        made.keep(options.out, [row])
    return 0


if __name__ == "__main__":
    sys.exit(main())
