"""``make chaos``: many histories, or one again, or the planted bugs."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import structlog

from tests.chaos.events import EVENTS, drawn
from tests.chaos.mutants import MASKED, MUTANTS, Mutant
from tests.chaos.shrink import shrunk
from tests.chaos.story import Outcome, tell

AT_ONCE = 20  # histories that a worker is given, who then goes, and with him 80 MB
WARMING_UP = 20  # events
SILENT = 50  # no log of the code under test


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
    parser.add_argument("--no-shrink", action="store_true", help="show a failing history whole")
    parser.add_argument("--mutants", action="store_true", help="run against planted bugs instead")
    parser.add_argument("--mutant", choices=[each.name for each in (*MUTANTS, *MASKED)])
    args = parser.parse_args()
    prepare()
    if args.mutants or args.mutant:
        named = [each for each in (*MUTANTS, *MASKED) if each.name == args.mutant]
        chosen = named or MUTANTS
        return hunt(chosen, args.histories, args.seed, args.events, args.jobs)
    return survey(args.histories, args.seed, args.events, args.jobs, shrink=not args.no_shrink)


def prepare() -> None:
    """Log nothing below critical, and let what is there now never be looked at as garbage."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(SILENT), cache_logger_on_first_use=True
    )
    tell(0, drawn(0, WARMING_UP))  # tables are made once, and workers inherit them
    gc.collect()
    gc.freeze()  # modules are most of what there is, and each history ends with a collection


def survey(histories: int, seed: int, events: int, jobs: int, *, shrink: bool) -> int:
    """Run histories and show the first that fails, as short as can be."""
    started = time.monotonic()
    done = calls = binds = inherited = 0
    failed: list[Outcome] = []
    for outcome in _outcomes(histories, seed, events, jobs):
        done += 1
        calls += outcome.api_calls
        binds += outcome.binds
        inherited += outcome.inherited
        if outcome.broken:
            failed.append(outcome)
            print(f"seed {outcome.seed}: {outcome.broken[0]}", flush=True)
        if done % 500 == 0:
            print(f"{done} histories, {time.monotonic() - started:.0f} s", flush=True)
    took = time.monotonic() - started
    print(
        f"{done} histories of {events} events in {took:.0f} s: {calls} API calls, {binds} binds,"
        f" {inherited} places inherited, {len(failed)} histories with broken promises"
    )
    if failed:
        show(min(failed, key=lambda each: each.seed).seed, events, shrink=shrink)
    return 1 if failed else 0


def show(seed: int, events: int, *, shrink: bool) -> None:
    """Print one failing history and how to have it again."""
    story = drawn(seed, events)
    short = shrunk(seed, story) if shrink else story
    print(f"\nseed {seed}, {len(short)} of {len(story)} events:")
    for event in short:
        print(f"  {event}")
    for broken in tell(seed, short).broken:
        print(f"  ! {broken}")
    print(f'again: make chaos CHAOS_ARGS="--histories 1 --seed {seed} --events {events}"')


def hunt(mutants: Sequence[Mutant], histories: int, seed: int, events: int, jobs: int) -> int:
    """Run histories against each planted bug until it is caught; print a table."""
    escaped = 0
    print("| planted bug | caught by | histories | seconds |\n| --- | --- | ---: | ---: |")
    with ProcessPoolExecutor(jobs, initializer=prepare) as pool:
        hunts = [pool.submit(_hunted, each.name, histories, seed, events) for each in mutants]
        for mutant, found in zip(mutants, hunts, strict=True):
            outcome, tried, took = found.result()
            escaped += outcome is None
            how = outcome.broken[0].split(": ", 1)[1][:90] if outcome else "NOT CAUGHT"
            print(f"| {mutant.says} | {how} | {tried} | {took:.0f} |", flush=True)
    print(f"{len(mutants) - escaped} of {len(mutants)} planted bugs caught")
    return 1 if escaped else 0


def _hunted(name: str, histories: int, seed: int, events: int) -> tuple[Outcome | None, int, float]:
    started = time.monotonic()
    mutant = next(each for each in (*MUTANTS, *MASKED) if each.name == name)
    with mutant.planted():
        for tried in range(histories):
            outcome = tell(seed + tried, drawn(seed + tried, events))
            if outcome.broken:
                return outcome, tried + 1, time.monotonic() - started
    return None, histories, time.monotonic() - started


def _outcomes(histories: int, seed: int, events: int, jobs: int) -> Iterator[Outcome]:
    seeds = range(seed, seed + histories)
    batches = [seeds[n : n + AT_ONCE] for n in range(0, histories, AT_ONCE)]
    with get_context("fork").Pool(jobs, maxtasksperchild=1) as workers:
        for batch in workers.imap_unordered(partial(_batch, events=events), batches):
            yield from batch


def _batch(seeds: range, events: int) -> list[Outcome]:
    sys.unraisablehook = lambda _: None  # what is left behind may end as it likes
    warnings.simplefilter("ignore", RuntimeWarning)
    return [tell(seed, drawn(seed, events), tidy=False) for seed in seeds]


if __name__ == "__main__":
    sys.exit(main())
