"""Many histories: run by several processes, counted together, and stored."""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import msgspec

from benchmarks import made
from tests import results
from tests.chaos.events import Course, drawn
from tests.chaos.story import Outcome, tell

AT_ONCE = 40  # histories that a worker is given, who then goes, and with him 160 MB
"""To begin takes a worker as long as one or two of them."""


class Broken(msgspec.Struct, frozen=True):
    """A history that broke a promise, and how."""

    seed: int
    what: tuple[str, ...]


class Campaign(msgspec.Struct):
    """What has come of all histories so far; times are in seconds, ``virtual`` those they told of.

    ``happened`` counts events by kind, ``struck`` calls of the API server by what befell them.
    """

    events: int
    first_seed: int
    histories: int = 0
    api_calls: int = 0
    binds: int = 0
    inherited: int = 0
    gangs: int = 0
    followed: int = 0
    evicted: int = 0
    preempted: int = 0
    orders: int = 0
    moved: int = 0
    virtual: float = 0.0
    processor: float = 0.0
    wall: float = 0.0
    jobs: int = 1
    happened: Counter[str] = msgspec.field(default_factory=Counter)
    struck: Counter[str] = msgspec.field(default_factory=Counter)
    broken: list[Broken] = []

    def add(self, outcome: Outcome) -> None:
        """Count a history in."""
        self.histories += 1
        self.api_calls += outcome.api_calls
        self.binds += outcome.binds
        self.inherited += outcome.inherited
        self.gangs += outcome.gangs
        self.followed += outcome.followed
        self.evicted += outcome.evicted
        self.preempted += outcome.preempted
        self.orders += outcome.orders
        self.moved += outcome.moved
        self.virtual += outcome.seconds
        self.happened.update(outcome.happened)
        self.struck.update(outcome.struck)
        if outcome.broken:
            self.broken.append(Broken(outcome.seed, outcome.broken))

    @property
    def summary(self) -> str:
        """All of it in a line."""
        return (
            f"{self.histories} histories of {self.events} events in {self.wall:.0f} s:"
            f" {self.api_calls} API calls, {self.binds} binds, {self.gangs} gangs begun,"
            f" {self.followed} joint plans followed, {self.inherited} places inherited,"
            f" {self.evicted} pods evicted for {self.preempted} others,"
            f" {self.moved} moves made of {self.orders} orders,"
            f" {len(self.broken)} histories with broken promises"
        )

    def save(self, path: Path) -> None:
        """Write it to *path* as JSON, and beside that for people."""
        results.keep(path, **msgspec.to_builtins(self))
        path.with_suffix(".md").write_text(self.page())

    def page(self) -> str:
        """Return it as Markdown."""
        last = self.first_seed + self.histories - 1
        each = self.processor / max(1, self.histories)
        told = "\n".join(f"* seed {b.seed}: {b.what[0]}" for b in self.broken)
        return f"""# Histories of faults

`make chaos CHAOS_ARGS="--histories {self.histories} --seed {self.first_seed}"`, {self.events}
events each.

| | |
| --- | ---: |
| histories (seeds {self.first_seed} to {last}) | {self.histories:,} |
| with broken promises | {len(self.broken)} |
| hours of a cluster's life | {self.virtual / 3600:,.0f} |
| API calls | {self.api_calls:,} |
| binds | {self.binds:,} |
| gangs of which a member was bound | {self.gangs:,} |
| pods bound where a joint plan had put them | {self.followed:,} |
| places inherited by an owner's next pod | {self.inherited:,} |
| pods evicted for others | {self.evicted:,} |
| pods that got a place by that | {self.preempted:,} |
| orders of moves given | {self.orders:,} |
| moves of them made | {self.moved:,} |
| processor seconds a history | {each:.3f} |
| seconds on {self.jobs} processes | {self.wall:,.0f} |

{made.text(made.here())}

{told}

## What happened

{_table(self.happened)}

## What befell calls of the API server

{_table(self.struck)}
"""


def _table(counts: Counter[str]) -> str:
    rows = "\n".join(f"| {kind} | {count:,} |" for kind, count in counts.most_common())
    return f"| kind | times |\n| --- | ---: |\n{rows}"


def outcomes(
    seeds: range, events: int, jobs: int, *, ranked: bool = False, moving: bool = False
) -> Iterator[tuple[list[Outcome], float]]:
    """Yield what comes of the histories, some at a time, and how much processor time they took.

    Pods are ranked in some of them, in all if they are *ranked*, and so are VMs moved.
    """
    at_once = max(1, min(AT_ONCE, -(-len(seeds) // jobs)))
    batches = [seeds[n : n + at_once] for n in range(0, len(seeds), at_once)]
    with get_context("fork").Pool(jobs, maxtasksperchild=1) as workers:
        yield from workers.imap_unordered(
            partial(_batch, events=events, ranked=ranked, moving=moving), batches
        )


def _batch(seeds: range, events: int, ranked: bool, moving: bool) -> tuple[list[Outcome], float]:
    sys.unraisablehook = lambda _: None  # what is left behind may end as it likes
    warnings.simplefilter("ignore", RuntimeWarning)
    started = time.process_time()
    told = []
    for seed in seeds:
        course = Course.of(seed, ranked=ranked, moving=moving)
        story = drawn(seed, events, moving=course.moving)
        told.append(tell(seed, story, tidy=False, ranked=course.ranked, moving=course.moving))
    return told, time.process_time() - started
