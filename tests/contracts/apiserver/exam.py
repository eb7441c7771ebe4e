"""What the tests of the exam share: the examined, and short words for what they do with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodeagent.api import keys
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    PODS,
    ApiServer,
    Body,
    PatchType,
    WatchEvent,
)

HEARD_WITHIN_SECONDS = 10.0

Value = dict[str, Any]


def assignment(name: str, start: int = 0) -> Value:
    """Return an assignment as it stands in a plan."""
    return {
        "id": name,
        "gpu": "GPU-0",
        "profileId": 9,
        "start": start,
        "size": 4,
        "resource": "nvidia.com/mig-3g.40gb",
        "since": "2026-01-01T00:00:00Z",
    }


def pod(name: str, *, labels: Mapping[str, str] | None = None, **spec: Any) -> Value:
    """Return a pod as a user writes it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {"containers": [{"name": "main", "image": "none"}], **spec},
    }


@dataclass(frozen=True)
class Exam:
    """An API server, and a word that only this test uses: its namespace, label and prefix."""

    api: ApiServer
    ours: str
    shortest_watch: float
    """In seconds."""
    forget: Callable[[], None] = lambda: None
    """Makes the twin forget the past; a kube-apiserver never knew what was before its start."""

    @property
    def label(self) -> str:
        """Select this test's GpuNodes."""
        return f"exam={self.ours}"

    def name(self, name: str = "node") -> str:
        """Return the name of a GpuNode of this test."""
        return f"{name}-{self.ours}"

    async def gpu_node(self, name: str = "node", **members: Any) -> Value:
        """Create a GpuNode."""
        body = {
            "apiVersion": keys.API_VERSION,
            "kind": keys.GPU_NODE_KIND,
            "metadata": {"name": self.name(name), "labels": {"exam": self.ours}},
            "spec": {"assignments": []},
        }
        return parsed(await self.api.create(GPU_NODES, body | members))

    async def patch(
        self, patch: Body | Sequence[Body], *, name: str = "node", subresource: str = ""
    ) -> Value:
        """Patch a GpuNode: with a merge patch, or with a JSON Patch if it is a list."""
        patch_type = PatchType.MERGE if isinstance(patch, Mapping) else PatchType.JSON
        return parsed(
            await self.api.patch(
                GPU_NODES,
                self.name(name),
                patch,
                patch_type=patch_type,
                subresource=subresource,
            )
        )

    async def stored(self, name: str = "node") -> Value:
        """Read a GpuNode."""
        return parsed(await self.api.get(GPU_NODES, self.name(name)))

    async def pod(self, body: Value) -> Value:
        """Create a pod."""
        return parsed(await self.api.create(PODS, body, namespace=self.ours))

    async def stored_pod(self, name: str) -> Value:
        """Read a pod."""
        return parsed(await self.api.get(PODS, name, namespace=self.ours))

    async def bind(self, pod_name: str, node: str, **metadata: Any) -> Value:
        """Bind a pod."""
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod_name, **metadata},
            "target": {"kind": "Node", "name": node},
        }
        answer = await self.api.create(
            PODS, body, namespace=self.ours, name=pod_name, subresource="binding"
        )
        return parsed(answer)

    @contextlib.asynccontextmanager
    async def watched_gpu_nodes(
        self, since: str, **selection: Any
    ) -> AsyncIterator[AsyncGenerator[WatchEvent, None]]:
        """Watch this test's GpuNodes; the opening bookmark is taken off."""
        selection = {"label_selector": self.label} | selection
        async with contextlib.aclosing(
            self.api.watch(GPU_NODES, resource_version=since, **selection)
        ) as events:
            await heard(events)
            yield events


async def heard(events: AsyncGenerator[WatchEvent, None]) -> WatchEvent:
    """Wait for the next event that is no bookmark, or for the opening one."""
    async with asyncio.timeout(HEARD_WITHIN_SECONDS):
        return await anext(events)


def parsed(raw: bytes) -> Value:
    """Read an object."""
    value: Value = json.loads(raw)
    return value


def version(value: Value) -> str:
    """Return the version of an object."""
    found: str = value["metadata"]["resourceVersion"]
    return found


def names(items: Sequence[bytes]) -> list[str]:
    """Return the objects' names, in their order."""
    return [parsed(item)["metadata"]["name"] for item in items]
