"""A real Prometheus that scrapes one target, asked over its HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml

from tests.e2e.controlplane.processes import Process
from tests.monitoring.tools import tool
from tests.waiting import until

EVERY_SECONDS = 0.5  # between two scrapes, and two evaluations of the rules


class Prometheus:
    """Asks a running server, at *url*."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of the API."""
        async with self._http.get(f"{self._url}/api/v1/{path}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def over_time(
        self, query: str, *, since: float, until: float
    ) -> Sequence[tuple[Mapping[str, str], Sequence[float]]]:
        """Return each series of a query with its values between two times of the epoch."""
        data = await self.get(
            "query_range", query=query, start=str(since), end=str(until), step=str(EVERY_SECONDS)
        )
        return [
            (series["metric"], [float(value) for _, value in series["values"]])
            for series in data["result"]
        ]

    async def scrapes(self) -> int:
        """Return how often the target has been scraped with success."""
        data = await self.get("query", query="sum_over_time(up[1h])")
        return sum(int(float(each["value"][1])) for each in data["result"])

    async def scraped_anew(self) -> None:
        """Wait until what is told now has been scraped; one scrape may be under way."""
        seen = await self.scrapes()
        await until(lambda: self._at_least(seen + 2), within=20.0, every=0.1)

    async def _at_least(self, scrapes: int) -> bool:
        return await self.scrapes() >= scrapes


@contextlib.asynccontextmanager
async def prometheus(directory: Path, target: str, rules: str) -> AsyncIterator[Prometheus]:
    """Run a server that scrapes the desk at *target* and evaluates *rules*, until the block ends.

    Nothing of it is left but what is in *directory*.
    """
    (directory / "rules.yaml").write_text(rules)
    every = f"{round(EVERY_SECONDS * 1000)}ms"
    configuration = {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": every,
            "evaluation_interval": every,
        },
        "rule_files": [str(directory / "rules.yaml")],
        "scrape_configs": [
            {"job_name": "tangram", "static_configs": [{"targets": [urlsplit(target).netloc]}]}
        ],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    log = directory / "prometheus.log"
    process = Process(
        "prometheus",
        [
            str(tool("prometheus")),
            f"--config.file={directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            "--web.listen-address=127.0.0.1:0",
        ],
        log,
    )
    process.start()
    try:
        await until(lambda: _address(log) or not process.running, within=30.0, every=0.05)
        url = f"http://{_address(log)}"
        await process.ready(f"{url}/-/ready", trust=None, headers={}, within=30.0)
        async with aiohttp.ClientSession() as http:
            yield Prometheus(http, url)
    finally:
        await asyncio.shield(process.stop())


def _address(log: Path) -> str:
    """Return where the server says that it listens, "" before it does."""
    found = re.search(r'msg="Listening on" address=(\S+)', log.read_text())
    return found[1] if found else ""
