"""The answer to a what-if, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from extender.simulation.growth import HORIZON, TooLittle
from extender.simulation.outlook import Growing
from extender.simulation.paired import Estimate
from extender.simulation.whatif import Answer, Totals

DAY = 86_400  # seconds


def shown(found: Answer) -> Iterator[Text | Table]:
    """Yield an answer as it is printed."""
    yield Text(_fleet(found), style="bold")
    yield from map(Text, _moved(found))
    yield _profiles(found)
    yield Text(
        "Room for each alone, if nothing else comes: without moving anything, and at best, if"
        " everything Tangram has placed could be moved. Rules of pools, tenants and headroom are"
        " not kept here.",
        style="dim",
    )
    yield Text()
    yield from map(Text, _mix(found))
    yield from map(Text, _needed(found))
    yield from map(Text, _growing(found))


def _fleet(found: Answer) -> str:
    changes = [f"{each.nodes} nodes of {each.gpus} {each.model} added" for each in found.adding]
    changes += [f"{name} removed" for name in found.removing]
    text = f"As of {found.at}, policy {found.policy}: {_totals(found.before)}."
    if changes:
        text += f" With {', '.join(changes)}: {_totals(found.fleet)}."
    return text


def _totals(of: Totals) -> str:
    ready = f"{of.ready_nodes} of {of.nodes} nodes take something new"
    text = f"{ready}: {of.gpus} GPUs, {of.used_slices} of {of.slices} memory slices used"
    return f"{text}; {of.gpus_aside} GPUs on the others" if of.gpus_aside else text


def _moved(found: Answer) -> Iterator[str]:
    if found.displaced:
        yield (
            f"On the removed: {_counts(found.displaced)}. "
            + (
                f"Of these find no room without moving others: {_counts(found.homeless)}."
                if found.homeless
                else "All of it fits elsewhere as it is."
            )
        )
    if found.unserved:
        yield f"Wanted, and no GPU here has it: {_counts(found.unserved)}."


def _profiles(found: Answer) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("profile", no_wrap=True)
    changes = bool(found.adding or found.removing)
    for column in ("wanted", "still fit", *(("fitted before",) if changes else ()), "at best"):
        table.add_column(column, justify="right")
    for name, room in found.profiles.items():
        before = (str(room.before),) if changes else ()
        wanted = str(found.wanted.get(name, 0))
        table.add_row(name, wanted, str(room.now), *before, str(room.at_best))
    return table


def _mix(found: Answer) -> Iterator[str]:
    mix = found.mix
    if isinstance(mix, TooLittle):
        yield f"Of a mix: nothing is claimed. {mix.why}."
        return
    shares = ", ".join(f"{name} {share:.0%}" for name, share in mix.shares.items())
    yield (
        f"Of the mix {shares}: {_estimate(mix.requests)} more requests find room before the first"
        f" that does not ({_estimate(mix.slices)} memory slices; in none of {mix.seeds} seeds fewer"
        f" than {mix.fewest}); at best {_estimate(mix.at_best_requests)}."
    )
    first = ", ".join(f"{name} ({share:.0%})" for name, share in mix.first_refused.items())
    yield f"First to find no room: {first}."


def _needed(found: Answer) -> Iterator[str]:
    enough = [
        f"{gpus} {model}" if gpus is not None else f"no number of {model}, which lacks a profile"
        for model, gpus in found.gpus_needed.items()
    ]
    waiting = sum(found.waiting.values())
    also = f", {waiting} of them waiting" if waiting else ""
    yield (
        f"What is wanted now, {sum(found.wanted.values())} instances{also}, needs at least"
        f" {' or '.join(enough) or 'GPUs, of which there are none'}, packed at best."
    )


def _growing(found: Answer) -> Iterator[str]:
    growing = found.growing
    if isinstance(growing, TooLittle):
        yield f"When it runs out: nothing is claimed. {growing.why}."
        return
    slices, date = growing.slices, growing.runs_out
    yield (
        f"It grows by {slices.median:+.1f} memory slices a {_period(growing)} (95 %:"
        f" {slices.low:+.1f} to {slices.high:+.1f}; {growing.periods} seen)."
    )
    if growing.run_out.within_horizon < 0.025:
        yield f"Growing so, it does not run out within {HORIZON} {_period(growing)}s."
        return
    yield (
        "Growing so, it is more than the GPUs hold even packed at best from"
        f" {date.median or 'a day beyond what is looked at'} (95 %: {date.low} to"
        f" {date.high or 'later than is looked at'}; in {growing.run_out.within_horizon:.0%} of"
        f" what may come within {HORIZON} {_period(growing)}s). The first refusals come sooner."
    )


def _period(growing: Growing) -> str:
    return "day" if growing.seconds == DAY else f"period of {growing.seconds / 3600:g} h"


def _counts(of: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in of.items())


def _estimate(of: Estimate) -> str:
    return f"{of.mean:.1f}" + ("" if of.ci95 is None else f" ± {of.ci95:.1f}")
