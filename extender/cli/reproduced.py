"""What came of making a log's decisions again, for people."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from rich.console import RenderableType
from rich.table import Table

from extender.cli.printable import literal
from extender.decision_log import Difference, Reproduction

VERBS = {
    "Hooks.judge": "filter",
    "Hooks.rank": "prioritize",
    "Vetting.vet": "preempt",
    "Chooser.choose": "bind",
}
"""What people call the calls that decide."""


def shown(found: Reproduction) -> Iterator[RenderableType]:
    """Yield what is to be read of it: the sum first."""
    yield (
        f"{found.decisions} decisions in {found.runs} runs: {found.identical} identical,"
        f" {found.differing} different, {found.unclaimed} after a gap."
    )
    if found.resumed:
        yield f"The first files of {found.resumed} runs are gone: played from what follows them."
    if found.gaps:
        yield (
            f"Calls are missing in {found.gaps} places, {found.missing} in all: of what follows"
            " nothing is claimed, until a file begins with the state."
        )
    for each in found.damaged_at:
        yield literal(f"{each.file} could be read for {each.lines} lines: {each.why}.")
    if found.unfinished:
        yield f"{found.unfinished} runs have no end: killed, or still being written."
    if found.different:
        yield _table(found.different)
        if found.differing > len(found.different):
            yield f"… and {found.differing - len(found.different)} more."


def _table(different: tuple[Difference, ...]) -> Table:
    table = Table("call", "hook", "pod", "recorded", "made again")
    for each in different:
        table.add_row(
            str(each.n),
            VERBS[each.call],
            literal(each.uid),
            literal(msgspec.json.encode(each.recorded).decode()),
            literal(msgspec.json.encode(each.reproduced).decode()),
        )
    return table
