"""What the rounds came to, by kind of fault."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tests.e2e.chaos.campaign import ENOUGH_PER_SECOND, Round
from tests.e2e.chaos.faults import Fault


class Spread(msgspec.Struct, frozen=True):
    """The least, the median and the most of some figures; None without any."""

    min: float | None
    median: float | None
    max: float | None

    @classmethod
    def of(cls, figures: Iterable[float | None]) -> Spread:
        """Sum figures up, leaving out what is None."""
        known = [each for each in figures if each is not None]
        if not known:
            return cls(None, None, None)
        return cls(min(known), statistics.median(known), max(known))

    def __str__(self) -> str:
        known = (self.min, self.median, self.max)
        return " / ".join("-" if each is None else f"{each:.1f}" for each in known)


class Row(msgspec.Struct, frozen=True):
    """All rounds with one kind of fault; times in seconds from the fault's beginning."""

    fault: str
    says: str
    lasts_seconds: float
    rounds: int
    operations_per_second: Spread
    recovered_seconds: Spread
    settled_seconds: Spread
    bound: int
    held: int
    found_again: int
    gangs: int
    violations: int


def rows(faults: Sequence[Fault], rounds: Sequence[Round]) -> list[Row]:
    """Sum the rounds up, in the order of the faults; a fault without rounds has no row."""
    found = []
    for fault in faults:
        of_it = [each for each in rounds if each.fault == fault.name]
        if of_it:
            found.append(
                Row(
                    fault=fault.name,
                    says=fault.says,
                    lasts_seconds=fault.seconds,
                    rounds=len(of_it),
                    operations_per_second=Spread.of(r.operations_per_second for r in of_it),
                    recovered_seconds=Spread.of(r.recovered_seconds for r in of_it),
                    settled_seconds=Spread.of(r.settled_seconds for r in of_it),
                    bound=sum(each.bound for each in of_it),
                    held=sum(each.held for each in of_it),
                    found_again=sum(each.found_again for each in of_it),
                    gangs=sum(each.gangs for each in of_it),
                    violations=sum(len(each.violations) for each in of_it),
                )
            )
    return found


def failures(rounds: Sequence[Round]) -> list[str]:
    """Return why the campaign has failed, one line for each reason; nothing if it has not."""
    found = [f"{each.fault}: {what}" for each in rounds for what in each.violations]
    found += [
        f"{each.fault}: only {each.operations_per_second:.0f} operations/s before it,"
        f" {ENOUGH_PER_SECOND:.0f} make a round count"
        for each in rounds
        if each.operations_per_second < ENOUGH_PER_SECOND
    ]
    return found or ([] if rounds else ["no round was run"])


def text(found: Sequence[Row]) -> str:
    """Write a table for people, in Markdown."""
    lines = [
        "| fault | lasts, s | rounds | operations/s before | first VM bound, s | all settled, s"
        " | VMs bound | held / found again | gangs | violations |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in found:
        cells = (
            f"{row.says} (`{row.fault}`)",
            f"{row.lasts_seconds:g}",
            row.rounds,
            row.operations_per_second,
            row.recovered_seconds,
            row.settled_seconds,
            row.bound,
            f"{row.held} / {row.found_again}",
            row.gangs,
            row.violations,
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines.append("Times are min / median / max, from the beginning of the fault.")
    return "\n".join(lines)


def results(seed: int, faults: Sequence[Fault], rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the same for machines, each round included."""
    return {
        "seed": seed,
        "faults": rows(faults, rounds),
        "rounds": rounds,
        "failures": failures(rounds),
    }
