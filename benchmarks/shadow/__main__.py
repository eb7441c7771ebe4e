"""A shadow's word on refusals held against what happens once its policy is promoted instead.

A fleet fills up under one policy; then another runs beside it, from the layout there is, while the
demand drifts. Once more, with the same demand, it is promoted at that moment. VMs that find no room
wait for a quarter of a mean lifetime. Live decide the hooks' own verdicts, rankings and places on
the service's knowledge (``site``). Both ways for each seed: rows are pairs.

    python -m benchmarks.shadow --live default --shadow worst-fit --load 0.75 1.1 --seeds 10
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from benchmarks import made
from benchmarks.shadow.experiment import UNIT_SECONDS, Row, both_ways
from extender.cli.policies import in_force
from extender.simulation.scenario import Scenario


def rows(options: argparse.Namespace, load: float) -> Iterator[Row]:
    """Yield what each seed comes to at a load, both ways."""
    scenario = Scenario(
        gpus=options.gpus,
        mix=options.mix,
        then=options.then,
        load=load,
        arrivals=options.warmup + options.arrivals,
        warmup=0,
    )
    names = options.live, options.shadow
    policies = in_force(names[0])[0], in_force(names[1])[0]
    patience = options.patience * UNIT_SECONDS
    for seed in range(1, 1 + options.seeds):
        yield from both_ways(
            scenario, policies, names, seed, begins=options.warmup, patience=patience
        )


def summary(found: Sequence[Row]) -> dict[str, Any]:
    """Return how the shadows' word held, beside that of one who always says there is no difference.

    Of coverage, how wide the intervals are belongs to it: one that is wide enough always holds.
    """
    told = [each for each in found if each.wider is not None]
    signs = [each.signed_alike for each in found if each.signed_alike is not None]
    widths = [each.wider for each in told if each.wider is not None]
    return {
        "pairs": len(found) // 2,
        "rows": len(found),
        "with_interval": len(told),
        "within_wider": sum(bool(each.within) for each in told),
        "within_narrower": sum(each.error <= (each.interval or 0.0) for each in told),
        "wider_mean": round(statistics.fmean(widths), 1) if widths else None,
        "zero_outside_wider": sum(abs(each.actual) > (each.wider or 0.0) for each in told),
        "sign_right": sum(signs),
        "with_sign": len(signs),
        "error_mean": round(statistics.fmean(each.error for each in found), 1),
        "error_mean_of_always_zero": round(statistics.fmean(abs(each.actual) for each in found), 1),
        "vms": sum(each.vms for each in found),
        "refused": sum(each.refused for each in found),
        "said": sum(each.said for each in found),
    }


def text(found: Sequence[Row]) -> str:
    """Return a table for people."""
    lines = ["seed  live             shadow           VMs    predicted        actual  within"]
    for each in found:
        width = "" if each.wider is None else f" ± {each.wider:.1f}"
        held = {True: "yes", False: "no", None: "-"}[each.within]
        predicted = f"{each.predicted:+.0f}{width}"
        lines.append(
            f"{each.seed:4}  {each.live:15}  {each.shadow:15}  {each.vms:5}  {predicted:15}"
            f"  {each.actual:+6}  {held}"
        )
    of = summary(found)
    lines += [
        f"{of['pairs']} pairs: the two rows of a seed share their demand.",
        f"{of['within_wider']} of {of['with_interval']} intervals hold what happened"
        f" ({of['within_narrower']} without the allowance for what is yet to happen); no difference"
        f" at all lies outside {of['zero_outside_wider']} of as many around what happened.",
        f"Which refuses more was said rightly {of['sign_right']} times of {of['with_sign']}.",
        f"Wrong by {of['error_mean']} in the mean, where always saying 0 is by"
        f" {of['error_mean_of_always_zero']}.",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment, and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="benchmarks.shadow",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--live", default="default", help="one policy, a name or a file")
    parser.add_argument("--shadow", default="worst-fit", help="the other")
    parser.add_argument("--gpus", type=int, default=16)
    parser.add_argument("--mix", default="skew-small", help="what is asked for at first")
    parser.add_argument("--then", default="skew-big", help="and after half of the arrivals")
    parser.add_argument(
        "--load", type=float, nargs="+", default=[0.75, 1.1], help="shares of the slices asked for"
    )
    parser.add_argument(
        "--warmup", type=int, default=300, help="VMs that come before a shadow does"
    )
    parser.add_argument("--arrivals", type=int, default=900, help="VMs that come then, for a seed")
    parser.add_argument("--patience", type=float, default=0.25, help="in mean lifetimes")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument("--out", type=Path, help="keep what was found in this file")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    kept = []
    for load in options.load:
        found = []
        for each in rows(options, load):
            found.append(each)
            print(f"load {load}, seed {each.seed}: {each.shadow}", file=sys.stderr)
        asked = {key: value for key, value in vars(options).items() if key not in ("out", "output")}
        row = {
            **asked,
            "load": load,
            "summary": summary(found),
            "rows": [msgspec.to_builtins(each) | {"within": each.within} for each in found],
            "made": msgspec.to_builtins(made.here()),
        }
        kept.append(row)
        print(json.dumps(row) if options.output == "json" else f"load {load}\n{text(found)}")
    if options.out:
        made.keep(options.out, kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
