"""Whether planted bugs are caught: histories against each of them, until a promise is broken."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import msgspec

from tests.chaos.events import drawn
from tests.chaos.mutants import Behind, Mutant, named
from tests.chaos.shrink import kinds
from tests.chaos.story import Outcome, tell

LONGEST_TEXT = 90
CRASHED = "crashed"


class Hunted(msgspec.Struct, frozen=True):
    """What caught a bug, if something did, after how many histories and seconds."""

    outcome: Outcome | None
    tried: int
    seconds: float

    def __str__(self) -> str:
        if self.outcome is None:
            return "NOT CAUGHT"
        return self.outcome.broken[0].split(": ", 1)[1][:LONGEST_TEXT]


def catches(outcome: Outcome, bugs: Iterable[Mutant]) -> bool:
    """Tell whether a history shows one of *bugs*: by a promise of theirs, and with no crash."""
    broken = kinds(outcome)
    return CRASHED not in broken and any(broken & each.breaks for each in bugs)


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

    def run(self, mutants: Sequence[Mutant], behind: Sequence[Behind]) -> bool:
        """Print and keep a table; return whether all turned out as they should.

        Raises:
            ValueError: nothing is to be planted, of which nothing could be said.
        """
        if not mutants and not behind:
            raise ValueError("no bug to plant")
        with ProcessPoolExecutor(self._jobs, initializer=self._start) as pool:
            alone = [self._sent(pool, (each.name,)) for each in mutants]
            together = [(b, [self._sent(pool, n, b.only) for n in b.names]) for b in behind]
            good = not mutants or self._table(mutants, alone)
            return (not behind or self._table_behind(together)) and good

    def _sent(
        self, pool: ProcessPoolExecutor, names: tuple[str, ...], only: tuple[str, ...] = ()
    ) -> Future[Hunted]:
        return pool.submit(hunted, names, self._histories, self._seed, self._events, only)

    def _table(self, mutants: Sequence[Mutant], hunts: Sequence[Future[Hunted]]) -> bool:
        caught = 0
        self._say("| planted bug | caught by | histories | seconds |\n| --- | --- | ---: | ---: |")
        for mutant, hunt in zip(mutants, hunts, strict=True):
            found = hunt.result()
            caught += found.outcome is not None
            self._say(f"| {mutant.says} | {found} | {found.tried} | {found.seconds:.0f} |")
        self._say(f"\n{caught} of {len(mutants)} planted bugs caught")
        return caught == len(mutants)

    def _table_behind(self, hunts: Sequence[tuple[Behind, Sequence[Future[Hunted]]]]) -> bool:
        good = True
        self._say(
            "\nBugs that another line of defence makes harmless, in histories of the events"
            " named: each is planted alone, the defence is taken away alone, then both.\n\n"
            "| bug | defence taken away | events | bug | no defence | both |\n"
            "| --- | --- | --- | --- | --- | --- |"
        )
        for each, futures in hunts:
            found = [future.result() for future in futures]
            good &= [f.outcome is not None for f in found] == [False, False, True]
            told = [f"nothing in {f.tried}" if f.outcome is None else f"{f}" for f in found]
            told[-1] = f"{told[-1]}, after {found[-1].tried}"
            bug, gone = (named(name).says for name in (each.bug, each.defence))
            self._say(f"| {bug} | {gone} | {', '.join(each.only)} | {' | '.join(told)} |")
        return good

    def _say(self, line: str) -> None:
        print(line, flush=True)
        self._lines.append(line)
        if self._out:
            self._out.write_text("\n".join(self._lines) + "\n")


def hunted(
    names: tuple[str, ...], histories: int, seed: int, events: int, only: tuple[str, ...] = ()
) -> Hunted:
    """Run histories, of *only* these events if given, against the bugs *names*, all at once."""
    started = time.monotonic()
    bugs = [named(name) for name in names]
    with planted(names):
        for tried in range(histories):
            outcome = tell(seed + tried, drawn(seed + tried, events, only=only))
            if catches(outcome, bugs):
                return Hunted(outcome, tried + 1, time.monotonic() - started)
    return Hunted(None, histories, time.monotonic() - started)


@contextlib.contextmanager
def planted(names: Sequence[str]) -> Iterator[None]:
    """Have all these bugs until the block ends."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(named(name).planted())
        yield
