"""kube-scheduler's part in tests: pods tried one after the other, their binds all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from extender.service import Service
from tests.fakes.world import World, bind_args, filter_args


class Scheduler:
    """Asks an extender as kube-scheduler does; ``reasons`` has the last refusal of each pod."""

    def __init__(self, extender: Service, nodes: Sequence[str]) -> None:
        self._extender = extender
        self._nodes = nodes
        self.reasons: dict[str, str] = {}
        self.errors: dict[str, list[str]] = {}

    def place(self, pod: Mapping[str, Any]) -> str:
        """Filter and prioritize; return the node, "" if none."""
        name = pod["metadata"]["name"]
        answer = self._extender.hooks.filter(filter_args(dict(pod), *self._nodes))
        passed = answer.node_names or ()
        if not passed:
            refused = {**answer.failed_nodes, **answer.failed_and_unresolvable_nodes}
            self.reasons[name] = answer.error or refused[self._nodes[0]]
            return ""
        if len(passed) == 1:
            return passed[0]
        scores = self._extender.hooks.prioritize(filter_args(dict(pod), *passed))
        return max(scores, key=lambda each: each.score).host

    async def bind(self, pod: Mapping[str, Any], node: str) -> str:
        """Bind; return why not, "" for success."""
        answer = await self._extender.binder.bind(bind_args(dict(pod), node))
        if answer.error:
            self.errors.setdefault(pod["metadata"]["name"], []).append(answer.error)
        return answer.error

    async def once(self, pods: Iterable[Mapping[str, Any]]) -> None:
        """Give every pod one scheduling cycle, and wait for its bind."""
        async with asyncio.TaskGroup() as binds:
            for pod in pods:
                node = self.place(pod)
                if node:
                    binds.create_task(self.bind(pod, node))
                await asyncio.sleep(0)

    async def until_bound(
        self, world: World, pods: Iterable[Mapping[str, Any]], *, within: float = 20.0
    ) -> None:
        """Try again and again until all are bound, or raise TimeoutError."""
        async with asyncio.timeout(within):
            while waiting := [
                p
                for p in pods
                if not await world.bound(p["metadata"]["name"], p["metadata"]["namespace"])
            ]:
                await self.once(waiting)
                await asyncio.sleep(0.01)
