"""``make chaos``: many histories, or one again, or the planted bugs."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from pathlib import Path

import structlog
from structlog.typing import BindableLogger

from tests.chaos.campaign import Campaign, outcomes
from tests.chaos.events import EVENTS, Course, drawn
from tests.chaos.hunt import Hunt
from tests.chaos.mutants import MASKED, MUTANTS, named
from tests.chaos.shrink import shrunk
from tests.chaos.story import tell

WARMING_UP = 4  # histories
TOLD_EVERY = 500  # histories
SILENT = 50  # no log of the code under test
UNDER_TEST = ("extender", "nodeagent")


def main() -> int:
    """Run what the command line says; return 1 if a promise was broken, or a bug not caught."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of names have an order, too
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.chaos", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__)
    parser.add_argument("--histories", type=int, default=1000, help="how many; 1000 by default")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first; 0 by default")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"of each; {EVENTS} by default")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--ranked", action="store_true", help="pods are evicted for others in each, not in some"
    )
    parser.add_argument("--moving", action="store_true", help="VMs are moved in each, not in some")
    parser.add_argument("--no-shrink", action="store_true", help="show a failing history whole")
    parser.add_argument("--out", type=Path, help="store the result: JSON and .md, or a table (.md)")
    parser.add_argument("--mutants", action="store_true", help="run against planted bugs instead")
    parser.add_argument(
        "--mutant",
        choices=[each.name for each in (*MUTANTS, *MASKED)],
        metavar="NAME",
        help="run against one of them, by name",
    )
    args = parser.parse_args()
    prepare(args.events)
    if args.mutants or args.mutant:
        return hunt(args)
    return survey(args)


def prepare(events: int = EVENTS) -> None:
    """Log nothing below critical, and let what is there now never be looked at as garbage."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(SILENT), cache_logger_on_first_use=True
    )
    for name, module in tuple(sys.modules.items()):
        log = vars(module).get("log") if name.partition(".")[0] in UNDER_TEST else None
        if isinstance(log, BindableLogger):
            vars(module)["log"] = log.bind()  # or a proxy looks for its logger at every call
    for seed in range(WARMING_UP):  # tables are made once, and workers inherit them
        tell(seed, drawn(seed, events))
    gc.collect()
    gc.freeze()  # modules are most of what there is, and each history ends with a collection


def survey(args: argparse.Namespace) -> int:
    """Run histories and show the first that fails, as short as can be."""
    started = time.monotonic()
    seeds = range(args.seed, args.seed + args.histories)
    campaign = Campaign(args.events, args.seed, jobs=args.jobs)
    for told, seconds in outcomes(
        seeds, args.events, args.jobs, ranked=args.ranked, moving=args.moving
    ):
        campaign.processor += seconds
        campaign.wall = time.monotonic() - started
        for outcome in told:
            campaign.add(outcome)
            if outcome.broken:
                print(f"seed {outcome.seed}: {outcome.broken[0]}", flush=True)
            if campaign.histories % TOLD_EVERY == 0:
                print(f"{campaign.histories} histories, {campaign.wall:.0f} s", flush=True)
    print(campaign.summary)
    if args.out:
        campaign.save(args.out)
    if campaign.broken:
        first = min(each.seed for each in campaign.broken)
        course = Course.of(first, ranked=args.ranked, moving=args.moving)
        show(first, args.events, course, shrink=not args.no_shrink)
    return 1 if campaign.broken else 0


def show(seed: int, events: int, course: Course, *, shrink: bool) -> None:
    """Print one failing history and how to have it again."""
    ranked, moving = course.ranked, course.moving
    story = drawn(seed, events, moving=moving)
    short = shrunk(seed, story, ranked=ranked, moving=moving) if shrink else story
    print(f"\nseed {seed}, {len(short)} of {len(story)} events:")
    for event in short:
        print(f"  {event}")
    for broken in tell(seed, short, ranked=ranked, moving=moving).broken:
        print(f"  ! {broken}")
    asked = f"--histories 1 --seed {seed} --events {events}{course.options}"
    print(f'again: make chaos CHAOS_ARGS="{asked}"')


def hunt(args: argparse.Namespace) -> int:
    """Run histories against each planted bug until it is caught; print a table."""
    hunting = Hunt(args.histories, args.seed, args.events, args.jobs, start=prepare, out=args.out)
    good = hunting.run([named(args.mutant)] if args.mutant else MUTANTS)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
