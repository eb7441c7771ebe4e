"""kube-scheduler's part in the demo: it calls the hooks over HTTP as the real one does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec


class Attempt(msgspec.Struct, frozen=True):
    """One scheduling attempt: the node, "" where refused, and the time it took."""

    node: str
    filter_ms: float
    bind_ms: float = 0.0
    error: str = ""


class Scheduler:
    """Asks filter, prioritize where more than one node is left, and bind."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str) -> AsyncIterator[Scheduler]:
        """Yield a scheduler that keeps its connection to the hooks at *url*."""
        async with aiohttp.ClientSession() as http:
            yield cls(http, url)

    async def schedule(self, pod: Mapping[str, Any], nodes: Sequence[str]) -> Attempt:
        """Try once to place a pod on one of *nodes*."""
        args = {"Pod": pod, "Nodes": None, "NodeNames": list(nodes)}
        answer, filter_ms = await self._ask("filter", args)
        passed = answer["NodeNames"] or []
        if answer["Error"] or not passed:
            return Attempt("", filter_ms, error=answer["Error"])
        node = passed[0]
        if len(passed) > 1:
            scores, _ = await self._ask("prioritize", {**args, "NodeNames": passed})
            node = max(scores, key=lambda each: int(each["Score"]))["Host"]
        meta = pod["metadata"]
        binding = {
            "PodName": meta["name"],
            "PodNamespace": meta["namespace"],
            "PodUID": meta["uid"],
            "Node": node,
        }
        bound, bind_ms = await self._ask("bind", binding)
        if bound["Error"]:
            return Attempt("", filter_ms, bind_ms, bound["Error"])
        return Attempt(node, filter_ms, bind_ms)

    async def _ask(self, verb: str, body: object) -> tuple[Any, float]:
        started = time.perf_counter()
        async with self._http.post(
            f"{self._url}/{verb}",
            data=msgspec.json.encode(body),
            headers={"Content-Type": "application/json"},
        ) as response:
            response.raise_for_status()
            answer = msgspec.json.decode(await response.read())
        return answer, (time.perf_counter() - started) * 1000
