"""``make race``: many rounds of many pods for one last slot, and what came of them."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from tests import results
from tests.chaos.__main__ import prepare
from tests.race.rounds import Outcome, race, total

SIZES = (2, 4, 8, 16, 32, 64)
ROUNDS = 100
AT_ONCE = 5  # rounds that a worker is given
WARMING_UP = 20  # events of each history that a process begins with


class Batch(msgspec.Struct, frozen=True):
    """Some rounds of a kind."""

    pods: int
    change: bool
    seeds: range

    def run(self) -> list[Outcome]:
        """Run them."""
        return [race(seed, self.pods, change=self.change) for seed in self.seeds]


def main() -> int:
    """Run what the command line says; return 1 if a round did not end as it must."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of names have an order, too
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.race", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    parser = argparse.ArgumentParser(prog="make race RACE_ARGS=…", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each kind; 100 by default")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first; 0 by default")
    parser.add_argument(
        "--pods",
        type=lambda text: tuple(map(int, text.split(","))),
        default=SIZES,
        help=f"how many race, separated by commas; {','.join(map(str, SIZES))} by default",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the result there as JSON")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    prepare(WARMING_UP)
    started = time.monotonic()
    done: list[Outcome] = []
    print(f"{'pods':>5} {'lead':>8} {'rounds':>7} {'one winner':>11} {'filters':>8} {'binds':>7}")
    for outcomes in _outcomes(options.pods, options.rounds, options.seed, options.jobs):
        done += outcomes
        _tell(outcomes)
    took = time.monotonic() - started
    _summarise(done, took)
    if options.out:
        results.keep(options.out, **_results(done), seed=options.seed, seconds=round(took))
    return any(each.broken for each in done)


def _outcomes(sizes: Sequence[int], rounds: int, seed: int, jobs: int) -> Iterator[list[Outcome]]:
    """Yield the rounds of each kind together."""
    seeds = range(seed, seed + rounds)
    parts = [seeds[n : n + AT_ONCE] for n in range(0, rounds, AT_ONCE)]
    kinds = [(pods, change) for pods in sizes for change in (False, True)]
    if jobs == 1:
        for pods, change in kinds:
            yield Batch(pods, change, seeds).run()
        return
    with ProcessPoolExecutor(jobs, initializer=functools.partial(prepare, WARMING_UP)) as pool:
        work = [
            [pool.submit(Batch.run, Batch(pods, change, part)) for part in parts]
            for pods, change in kinds
        ]
        for batches in work:
            yield [outcome for batch in batches for outcome in batch.result()]


def _tell(outcomes: Sequence[Outcome]) -> None:
    """Print a row, and at once what is wrong."""
    first, tally = outcomes[0], total(outcomes)
    fine = sum(not each.broken for each in outcomes)
    print(
        f"{first.pods:5} {'changes' if first.change else 'stays':>8} {len(outcomes):7}"
        f" {fine:11} {tally.filters:8} {tally.binds:7}",
        flush=True,
    )
    for each in outcomes:
        for broken in each.broken:
            print(f"  ! seed {each.seed}, {each.change}: {broken}")
        if each.broken:
            again = f"--rounds 1 --pods {each.pods} --seed {each.seed}"
            print(f'    again: make race RACE_ARGS="{again}"', flush=True)


def _results(done: Sequence[Outcome]) -> dict[str, Any]:
    """Return for machines what the rounds came to."""
    kinds: dict[tuple[int, bool], list[Outcome]] = defaultdict(list)
    for each in done:
        kinds[each.pods, each.change is not None].append(each)
    tally = total(done)
    return {
        "rounds": len(done),
        "kinds": [
            {
                "pods": pods,
                "lead_changes": changes,
                "rounds": len(rounds),
                "one_winner": sum(not each.broken for each in rounds),
                "filters": total(rounds).filters,
                "binds": total(rounds).binds,
            }
            for (pods, changes), rounds in kinds.items()
        ],
        "leader_was": Counter(
            f"{each.change.how} at {each.change.moment}" for each in done if each.change
        ),
        "won_by_successor": sum(each.by_successor for each in done if each.change),
        "binds_at_both": tally.at_both,
        "refusals": tally.refusals,
        "errors": tally.errors,
        "wrong": [f"seed {each.seed}: {text}" for each in done for text in each.broken],
    }


def _summarise(done: Sequence[Outcome], seconds: float) -> None:
    changed = [each for each in done if each.change is not None]
    ways = Counter((each.change.how, each.change.moment) for each in changed if each.change)
    if ways:
        print("\nthe leader was, when the answer to this step of a bind had not arrived yet:")
        moments = sorted({moment for _, moment in ways})
        print(f"{'':12}", *(f"{moment:>18}" for moment in moments))
        for how in sorted({how for how, _ in ways}):
            print(f"{how:12}", *(f"{ways[how, moment]:18}" for moment in moments))
    tally = total(done)
    for title, texts in (("refused", tally.refusals), ("failed", tally.errors)):
        print(f"\n{title}:")
        for text, count in sorted(texts.items(), key=lambda each: (-each[1], each[0])):
            print(f"{count:8}  {text}")
    won = sum(each.by_successor for each in changed)
    wrong = sum(bool(each.broken) for each in done)
    print(
        f"\n{len(done)} rounds in {seconds:.0f} s: {tally.filters} filters, {tally.binds} binds,"
        f" {tally.at_both} of them at both extenders;"
        f" in {won} of {len(changed)} changes the successor's Binding won; {wrong} wrong"
    )


if __name__ == "__main__":
    sys.exit(main())
