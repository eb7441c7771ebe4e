"""Which metrics move while something goes on, as Prometheus has seen it."""

from __future__ import annotations

from collections.abc import Iterable, Set

from tests.monitoring.component import alerts, named, queries
from tests.monitoring.server import Prometheus

EVERYTHING = named(*(query for _, query in queries()), *(each["expr"] for each in alerts()))
"""All metrics that the dashboard and the alerts look at."""


async def moved(
    server: Prometheus, names: Iterable[str], *, since: float, until: float
) -> Set[str]:
    """Return those of some metrics that were not the same all that time.

    What is told of a label only once it happens counts as 0 before.
    """
    found = set()
    for name in names:
        told = f"{name}_count" if name.endswith("duration_seconds") else name
        series = await server.over_time(told, since=since, until=until)
        if name.endswith("_info"):  # always 1: what it says is in its labels
            moves = len(series) > 1
        else:
            total = await server.over_time(f"sum({told}) or vector(0)", since=since, until=until)
            moves = any(len(set(values)) > 1 for _, values in (*series, *total))
        if moves:
            found.add(name)
    return found
