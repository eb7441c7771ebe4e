"""The columns of the report's tables: their heads, and what stands below them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks.joint.burst import SECONDS, Row
from benchmarks.reporting.page import Table
from extender.policy.values import PLAN_SECONDS

Column = tuple[str, Callable[[Row], str]]
"""A head, and what stands below it in a row."""


def table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    """Return the table of these rows."""
    return Table(
        tuple(head for head, _ in columns),
        tuple(tuple(shown(row) for _, shown in columns) for row in rows),
    )


def field(name: str) -> Callable[[Row], str]:
    """Return what shows a field of a row, "" where there is none."""

    def shown(row: Row) -> str:
        value = row.get(name, "")
        return f"{value:,}" if isinstance(value, int | float) else str(value)

    return shown


BURST: tuple[Column, ...] = (
    ("GPUs full", lambda row: f"{row['fill']:.0%}"),
    ("pods", field("burst")),
    ("slices asked for", field("asked")),
)

WAYS = {
    "arrival": "one by one, as they come",
    "largest": "one by one, largest first",
    "joint": f"together, {SECONDS:g} s",
    "served": f"together, {PLAN_SECONDS:g} s",
}


def ways(of: str, what: str = "") -> Iterator[Column]:
    """Return a column for each way of placing a burst: *what* of it there is, by the field *of*."""
    return ((f"{what}{label}", field(f"{way}_{of}")) for way, label in WAYS.items())


def of_seeds(name: str) -> Callable[[Row], str]:
    """Return what shows in how many of a row's seeds something is so."""
    return lambda row: f"{row[name]} of {row['seeds']}"


CERTAINTY: tuple[Column, ...] = (
    ("together admits more than as they come", of_seeds("joint_beats_arrival")),
    ("than largest first", of_seeds("joint_beats_largest")),
    (f"{PLAN_SECONDS:g} s admit as much as {SECONDS:g} s", of_seeds("served_admits_as_joint")),
    ("and are as good on every level", of_seeds("served_as_joint")),
    ("admission proven", of_seeds("admission_proven")),
    ("every level proven", of_seeds("optimal")),
    ("slowest plan, s", field("slowest_s")),
)

MODEL: tuple[Column, ...] = (
    ("different states of GPUs", field("states")),
    ("classes in the model", field("classes")),
    ("variables", field("variables")),
)
TIMES: tuple[Column, ...] = (
    ("proven", lambda row: "every level" if row["status"] == "optimal" else row["status"]),
    ("first plan, s", field("first_s")),
    ("least, s", field("least_s")),
    ("median, s", field("median_s")),
    ("least of processor, s", field("processor_least_s")),
    ("checking it, s", field("check_s")),
)


LYING = {"any": "any GPUs of a node", "same": "the same GPU", "distinct": "distinct GPUs"}
"""How the vGPUs of a VM lie, by :class:`extender.packing.spread.Spread`."""


def levels(row: Row) -> str:
    """Return what a plan attains and what is its bound, level by level."""
    return "; ".join(f"{attained:,} of {bound:,}" for attained, bound in row["levels"])
