"""Kubelets, as far as they tell of pods: what is bound runs, and is Ready; or is kept from that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import PODS, Conflict, NotFound, PatchType
from nodeagent.apiserver.reflector import reflect

OVER = ("Succeeded", "Failed")
UNREADY = "containers with unready status: [compute]"


class Kubelets:
    """All the kubelets there are; *waiting* has, by pod, why its container does not start.

    Every other is Ready once it has been bound for *starting* seconds; ``ready`` are the names of
    those that are.
    """

    def __init__(
        self, api: InMemoryApi, waiting: Mapping[str, str] | None = None, *, starting: float = 0.0
    ) -> None:
        self._api = api
        self.waiting = dict(waiting or {})
        self.ready: set[str] = set()
        self._starting = starting
        self._begun: set[str] = set()
        self._started: set[str] = set()
        self._due = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell of each pod that is bound, until the block ends."""

        async def follow() -> None:
            async with contextlib.aclosing(reflect(self._api, PODS)) as changes:
                async for _ in changes:
                    self._due.set()

        async def run() -> None:
            while True:
                await self._due.wait()
                self._due.clear()
                await self.tell()

        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(each) for each in (follow(), run())]
            try:
                yield
            finally:
                for each in work:
                    each.cancel()

    async def tell(self) -> None:
        """Say of each pod that is bound, and has not ended, what there is to say."""
        for raw in (await self._api.list(PODS)).items:
            pod = msgspec.json.decode(raw)
            status = pod.get("status") or {}
            bound = pod["spec"].get("nodeName") and status.get("phase") not in OVER
            if bound and not (said := self._said(pod)).items() <= status.items():
                with contextlib.suppress(NotFound, Conflict):
                    await self._write(pod["metadata"], said)

    def _said(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        name = pod["metadata"]["name"]
        why = self.waiting.get(name, "ContainerCreating" if self._starts(pod) else None)
        others = [
            each
            for each in (pod.get("status") or {}).get("conditions", ())
            if each["type"] != "Ready"
        ]
        if why is None:
            self.ready.add(name)
            container: dict[str, Any] = {"name": "compute", "ready": True, "state": {"running": {}}}
            ready = {"type": "Ready", "status": "True"}
            phase = "Running"
        else:
            state = {"waiting": {"reason": why}}
            container = {"name": "compute", "ready": False, "state": state}
            ready = {"type": "Ready", "status": "False", "message": UNREADY}
            phase = "Pending"
        return {
            "phase": phase,
            "conditions": [*others, ready],
            "containerStatuses": [container],
        }

    def _starts(self, pod: Mapping[str, Any]) -> bool:
        """Tell whether a pod has been bound for less than it takes, and look again after that."""
        uid = pod["metadata"]["uid"]

        def started() -> None:
            self._started.add(uid)
            self._due.set()

        if self._starting and uid not in self._begun:
            self._begun.add(uid)
            asyncio.get_running_loop().call_later(self._starting, started)
        return bool(self._starting) and uid not in self._started

    async def _write(self, metadata: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        known = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        await self._api.patch(
            PODS,
            metadata["name"],
            {"metadata": known, "status": status},
            patch_type=PatchType.MERGE,
            namespace=metadata["namespace"],
            subresource="status",
        )
