"""What replays of a record came to, as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from extender.replay.compare import worst_first
from extender.replay.document import Answer, Comparison, PolicyOutcome, Report, Tally
from extender.replay.words import chances, length, moment, places, refused, summary

MOST_LISTED = 10
"""VMs that fare otherwise, in a table; the JSON has all of them."""

_STYLES = {Answer.YES: "bold green", Answer.NO: "bold red"}


def shown(found: Report) -> Iterator[Text | Table]:
    """Yield a report as it is printed."""
    yield Text(summary(found))
    yield Text()
    for each in found.comparisons:
        yield from _verdict(each)
    yield _policies(found.policies)
    yield Text(
        "Refused: had no place when they came, and waited. Never: not even later. Unusable slices,"
        " used ones and whole GPUs are means over time.",
        style="dim",
    )
    for title, of in (("profile", "profiles"), ("tenant", "tenants")):
        yield _by(title, {each.name: getattr(each, of) for each in found.policies})
    for each in found.comparisons:
        yield from _differences(found, each)


def _verdict(of: Comparison) -> Iterator[Text]:
    yield Text(of.verdict.sentence, style=_STYLES.get(of.verdict.answer, "bold"))
    for reason in of.verdict.reasons:
        yield Text(f"  {reason}")
    for caution in of.verdict.cautions:
        yield Text(f"  But: {caution}", style="yellow")
    if of.stretches:
        yield Text(
            f"  (± is for 95 %, from {of.stretches} or more stretches of the record with as many"
            f" arrivals each, pair by pair; none where they tell no chance{chances(of)})",
            style="dim",
        )
    yield Text()


def _policies(policies: Sequence[PolicyOutcome]) -> Table:
    table = _table("policy", "VMs", "refused", "never", "wait p50", "p99", "used", "unusable")
    table.add_column("whole GPUs", justify="right", no_wrap=True)
    for each in policies:
        waits = each.waits
        table.add_row(
            Text(each.name),
            str(each.all.asked),
            refused(each.all),
            str(each.all.never),
            length(waits.median) if waits else "",
            length(waits.p99) if waits else "",
            f"{each.gpus.used:.1f}",
            f"{each.gpus.unusable:.1f}",
            f"{each.gpus.whole:.2f}",
        )
    return table


def _by(title: str, policies: Mapping[str, Mapping[str, Tally]]) -> Table:
    table = _table(title, "VMs", *(f"refused: {name}" for name in policies))
    (first, *_) = policies.values()
    for name, tally in first.items():
        cells = [refused(each[name]) for each in policies.values()]
        table.add_row(Text(name), str(tally.asked), *cells)
    return table


def _differences(found: Report, of: Comparison) -> Iterator[Text | Table]:
    counts = ", ".join(f"{count} {kind}" for kind, count in of.kinds.items())
    yield Text(f"{of.policy}: {of.alike} VMs fare as before; {counts or 'none otherwise'}.")
    if not of.differences:
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("VM", "came", "", "before", "after"):
        table.add_column(column, overflow="fold")
    for each in worst_first(of.differences)[:MOST_LISTED]:
        table.add_row(
            Text(f"{each.namespace}/{each.name}"),
            moment(found.record.begins, each.at),
            each.kind.value,
            Text(places(each.before, each.at)),
            Text(places(each.after, each.at)),
        )
    yield table
    if len(of.differences) > MOST_LISTED:
        left = len(of.differences) - MOST_LISTED
        yield Text(f"and {left} more: --output json lists them all.", style="dim")


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(Text(column), justify="right", overflow="fold")
    return table
