"""Whether planted bugs are caught: histories against each of them, until a promise is broken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from benchmarks import made
from tests.chaos.events import drawn
from tests.chaos.mutants import MASKED, Mutant, named
from tests.chaos.shrink import kind, kinds
from tests.chaos.story import Outcome, tell

LONGEST_TEXT = 90
CRASHED = "crashed"


class Hunted(msgspec.Struct, frozen=True):
    """Which broken promise has caught a bug, "" if none, after how many histories and seconds."""

    caught_by: str
    tried: int
    seconds: float


def caught(outcome: Outcome, bug: Mutant) -> str:
    """Return the first promise broken in a history that a *bug* breaks.

    It is "" if there is none, and if anything crashed.
    """
    if CRASHED in kinds(outcome):
        return ""
    return next((each for each in outcome.broken if kind(each) in bug.breaks), "")


class Hunt:
    """Runs *histories* from *seed* on against bugs, in *jobs* processes, which begin with *start*.

    What comes of it is printed as it comes, and kept in *out* as Markdown.
    """

    def __init__(
        self,
        histories: int,
        seed: int,
        events: int,
        jobs: int,
        *,
        start: Callable[[], None],
        out: Path | None,
    ) -> None:
        self._out = out
        self._lines = [
            "# Planted bugs\n",
            f"Each against up to {histories} histories of {events} events, from seed {seed} on.\n",
        ]
        self._histories = histories
        self._seed = seed
        self._events = events
        self._jobs = jobs
        self._start = start

    def run(self, mutants: Sequence[Mutant]) -> bool:
        """Print and keep a table; return whether each was caught, unless nothing is known to.

        Raises:
            ValueError: nothing is to be planted, of which nothing could be said.
        """
        if not mutants:
            raise ValueError("no bug to plant")
        due, good = [each for each in mutants if each not in MASKED], 0
        with ProcessPoolExecutor(self._jobs, initializer=self._start) as pool:
            hunts = [
                pool.submit(hunted, each.name, self._histories, self._seed, self._events)
                for each in mutants
            ]
            self._say("| planted bug | caught by | histories | seconds |")
            self._say("| --- | --- | ---: | ---: |")
            for mutant, hunt in zip(mutants, hunts, strict=True):
                found = hunt.result()
                good += bool(found.caught_by) and mutant in due
                by = found.caught_by.partition(": ")[2][:LONGEST_TEXT] or "NOT CAUGHT"
                self._say(f"| {mutant.says} | {by} | {found.tried} | {found.seconds:.0f} |")
        if due:
            self._say(f"\n{good} of {len(due)} planted bugs caught")
        self._say("\nBugs that no history here catches, and what is thought to hide each, be it")
        self._say("defence in depth or how rare the moment is; that is unproven:\n")
        for masked, why in MASKED.items():
            self._say(f"* {masked.says}: {why}.")
        self._say(f"\n{made.text(made.here())}")
        return good == len(due)

    def _say(self, line: str) -> None:
        print(line, flush=True)
        self._lines.append(line)
        if self._out:
            self._out.write_text("\n".join(self._lines) + "\n")


def hunted(name: str, histories: int, seed: int, events: int) -> Hunted:
    """Run histories against the bug of that *name* until it is caught."""
    bug, started = named(name), time.monotonic()
    with bug.planted():
        for tried in range(histories):
            story = drawn(seed + tried, events, moving=bug.moving)
            outcome = tell(seed + tried, story, moving=bug.moving, ranked=bug.ranked)
            if by := caught(outcome, bug):
                return Hunted(by, tried + 1, time.monotonic() - started)
    return Hunted("", histories, time.monotonic() - started)
