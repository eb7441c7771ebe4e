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

OF_LEADING = {"tangram_leader", "tangram_ready"}
"""What changes as the process ends; all else has to move while it leads, for then it vanishes."""


async def test_prometheus_sees_a_day_of_the_demo(tmp_path: Path) -> None:
    """One test, for the day takes half a minute."""
    async with (
        cluster() as (here, url),
        desk(here.service, reviewer=None) as target,
        prometheus(tmp_path, target, rule_file()) as server,
        Scheduler.of(url) as scheduler,
    ):
        day = Day(here, scheduler, url, server.scraped_anew)
        await server.scraped_anew()  # so that all is known that is there from the beginning
        began = time.time()
        await day.run()
        led = time.time()
        await day.end()
        ended = time.time()

        assert await _unanswered(server, began, ended) == {}
        names = named(*(query for _, query in queries()), *(each["expr"] for each in alerts()))
        assert " ".join(await _unmoved(server, sorted(names - OF_LEADING), began, led)) == ""
        assert " ".join(await _unmoved(server, sorted(OF_LEADING), began, ended)) == ""
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
    """Return the metrics that were the same all that time, or not there."""
    found = []
    for name in names:
        name = f"{name}_count" if name.endswith("duration_seconds") else name
        series = await server.over_time(name, since=since, until=until)
        if name.endswith("_info"):  # always 1: what it says is in its labels
            moves = len(series) > 1
        else:  # what is told of a label only once it happens counts as 0 before
            total = await server.over_time(f"sum({name}) or vector(0)", since=since, until=until)
            moves = any(len(set(values)) > 1 for _, values in (*series, *total))
        if not moves:
            found.append(name)
    return found


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
