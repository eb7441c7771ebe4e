"""Real Prometheus scrapes a day of the demo: every query has an answer, every metric moves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from extender.demo.scheduler import Scheduler
from extender.server import desk
from tests.monitoring.component import alerts, named, queries, rule_file
from tests.monitoring.day import Day, cluster
from tests.monitoring.server import Prometheus, prometheus

SLACK = 2  # scrapes: the day begins while the first is under way

Series = Sequence[tuple[Mapping[str, str], Sequence[float]]]


async def test_prometheus_sees_a_day_of_the_demo(tmp_path: Path) -> None:
    """One test, for the day takes half a minute."""
    async with (
        cluster() as (here, url),
        desk(here.service, reviewer=None) as target,
        prometheus(tmp_path, target, rule_file()) as server,
        Scheduler.of(url) as scheduler,
    ):
        began = time.time()
        await Day(here, scheduler, url, server.scraped_anew).run()
        ended = time.time()

        assert await _unanswered(server, began, ended) == {}
        names = named(*(query for _, query in queries()), *(each["expr"] for each in alerts()))
        assert " ".join(await _unmoved(server, sorted(names), began, ended)) == ""
        await _check_rules(server, began, ended)


async def _unanswered(server: Prometheus, since: float, until: float) -> Mapping[str, str]:
    """Return the panels with a query that has no answer at any time of the day."""
    return {
        title: query
        for title, query in queries()
        if not await server.over_time(query, since=since, until=until)
    }


async def _unmoved(
    server: Prometheus, names: Sequence[str], since: float, until: float
) -> Sequence[str]:
    """Return the metrics that were the same all day, or not there."""
    found = []
    whole = max(len(values) for _, values in await server.over_time("up", since=since, until=until))
    for name in names:
        name = f"{name}_count" if name.endswith("duration_seconds") else name
        if not _moves(await server.over_time(name, since=since, until=until), whole):
            found.append(name)
    return found


def _moves(series: Series, whole: int) -> bool:
    """Tell whether a value changes, or a series comes or goes in the course of the day."""
    return any(len(set(values)) > 1 or 0 < len(values) < whole - SLACK for _, values in series)


async def _check_rules(server: Prometheus, since: float, until: float) -> None:
    """Every rule was evaluated without a fault, and what went wrong was noticed."""
    groups = (await server.get("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {each["alert"] for each in alerts()}
    assert {rule["name"]: rule["lastError"] for rule in rules if rule["health"] != "ok"} == {}
    seen = {
        labels["alertname"]
        for labels, _ in await server.over_time("ALERTS", since=since, until=until)
    }
    assert seen >= {
        "TangramDrift",
        "TangramFragmented",
        "TangramFull",
        "TangramGpusQuarantined",
        "TangramNoLeader",
        "TangramNodesStale",
        "TangramNotReady",
        "TangramPolicyRefused",
    }
