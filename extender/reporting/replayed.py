"""The report of ``tangram replay``: should the policy be changed, and what speaks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

import msgspec

from extender.replay.compare import worst_first
from extender.replay.document import Comparison, PolicyOutcome, Report, Stretch, Tally
from extender.replay.words import chances, length, moment, places, refused, summary
from extender.reporting.drawing import Plot, drawn, legible, sample
from extender.reporting.rendering import rendered

MOST_LISTED = 200
"""VMs that fare otherwise, of each policy; the JSON has all of them."""

DAY = 86_400.0


class Table(msgspec.Struct, frozen=True):
    """Rows of text under a header; the first ``words`` columns are words, the others numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


class Line(msgspec.Struct, frozen=True):
    """A policy's line in all plots."""

    name: str
    colour: str
    dashes: str


class Listed(msgspec.Struct, frozen=True):
    """Some of the VMs that fare otherwise under a policy, the worst first; so many ``more``."""

    policy: str
    counts: str
    table: Table
    more: int


def page(found: Report) -> str:
    """Return the report as one HTML file."""
    return rendered(
        "replay.html.j2",
        {
            "title": "Should the placement policy be changed?",
            "summary": summary(found),
            "comparisons": found.comparisons,
            "chances": chances,
            "policies": _policies(found.policies),
            "groups": list(_groups(found.policies)),
            "lines": _lines(found.policies),
            "plots": [(each.title, drawn(each)) for each in _plots(found)],
            "listed": [_listed(found, each) for each in found.comparisons],
        },
    )


def _policies(policies: Sequence[PolicyOutcome]) -> Table:
    header = (
        "policy",
        "version",
        "VMs",
        "refused",
        "never placed",
        "median wait",
        "99 % wait",
        "used slices",
        "unusable slices",
        "whole GPUs left",
    )
    rows = []
    for each in policies:
        waits = each.waits
        rows.append(
            (
                each.name,
                each.version,
                str(each.all.asked),
                refused(each.all),
                str(each.all.never),
                length(waits.median) if waits else "–",  # noqa: RUF001
                length(waits.p99) if waits else "–",  # noqa: RUF001
                f"{each.gpus.used:.1f}",
                f"{each.gpus.unusable:.1f}",
                f"{each.gpus.whole:.2f}",
            )
        )
    return Table(header, tuple(rows), words=2)


def _groups(policies: Sequence[PolicyOutcome]) -> Iterator[Table]:
    """Yield how pods fare by profile and by tenant, and why they are refused."""
    names = tuple(each.name for each in policies)
    for title, of in (
        ("profile", [each.profiles for each in policies]),
        ("tenant", [each.tenants for each in policies]),
    ):
        rows = [(name, str(tally.asked), *_cells(name, of)) for name, tally in of[0].items()]
        header = (title, "VMs", *(f"refused, {name}" for name in names))
        if any(tally.never for each in of for tally in each.values()):
            header += tuple(f"never placed, {name}" for name in names)
            rows = [(*row, *(str(each[row[0]].never) for each in of)) for row in rows]
        yield Table(header, tuple(rows))
    codes = dict.fromkeys(code for each in policies for code in each.because)
    if codes:
        rows = [(code, *(str(each.because.get(code, 0)) for each in policies)) for code in codes]
        yield Table(("refused because", *names), tuple(rows))


def _cells(name: str, of: Sequence[Mapping[str, Tally]]) -> tuple[str, ...]:
    return tuple(refused(each[name]) for each in of)


def _lines(policies: Sequence[PolicyOutcome]) -> list[Line]:
    return [Line(each.name, *sample(number)) for number, each in enumerate(policies)]


def _plots(found: Report) -> Iterator[Plot]:
    stretches = [each.over_time for each in found.policies]
    if not all(stretches) or not legible(stretches):
        return
    days = (*(each.since / DAY for each in stretches[0]), found.record.seconds / DAY)

    def plot(title: str, unit: str, of: Callable[[Stretch], float]) -> Plot:
        return Plot(title, unit, days, tuple(tuple(map(of, each)) for each in stretches))

    total = tuple(tuple(accumulate(each.refused for each in line)) for line in stretches)
    yield Plot("VMs refused when they came, so far", "VMs", days, total)
    yield plot("VMs that wait for a place", "VMs", lambda each: each.waiting)
    yield plot("GPUs left whole", "GPUs", lambda each: each.gpus.whole)
    yield plot("Unusable slices", "slices", lambda each: each.gpus.unusable)
    yield plot("Memory slices in use", "slices", lambda each: each.gpus.used)


def _listed(found: Report, of: Comparison) -> Listed:
    rows = tuple(
        (
            f"{each.namespace}/{each.name}",
            moment(found.record.begins, each.at),
            " + ".join(each.wanted),
            each.kind.value,
            places(each.before, each.at),
            places(each.after, each.at),
        )
        for each in worst_first(of.differences)[:MOST_LISTED]
    )
    counts = ", ".join(f"{count} {kind}" for kind, count in of.kinds.items())
    return Listed(
        of.policy,
        f"{of.alike} VMs fare as before; {counts or 'none otherwise'}.",
        Table(("VM", "came", "wants", "", "before", "after"), rows, words=6),
        len(of.differences) - len(rows),
    )
