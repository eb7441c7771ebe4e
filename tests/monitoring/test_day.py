"""Real Prometheus scrapes a day of the demo: every query has an answer, every metric moves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from extender.demo.scheduler import Scheduler
from extender.server import desk
from tests.monitoring.component import alerts, queries, rule_file
from tests.monitoring.day import Day, cluster
from tests.monitoring.movement import EVERYTHING, moved
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
        while_leading = await moved(server, EVERYTHING, since=began, until=led)
        assert EVERYTHING - while_leading <= OF_LEADING
        assert await moved(server, OF_LEADING, since=began, until=ended) == OF_LEADING
        await _check_rules(server, began, ended)


async def _unanswered(server: Prometheus, since: float, until: float) -> Mapping[str, str]:
    """Return the panels with a query that has no answer at any time of the day."""
    return {
        title: query
        for title, query in queries()
        if not await server.over_time(query, since=since, until=until)
    }


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
