"""An extender over the in-memory API server, with a hand-moved inventory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from extender.cluster import KubernetesCluster
from extender.service import Service
from extender.service.ports import Feed
from nodeagent.apiserver.memory import InMemoryApi
from tests.builders import gpu_node


@pytest.fixture
def api() -> InMemoryApi:
    return InMemoryApi()


@pytest.fixture
async def service(api: InMemoryApi) -> Service:
    """A service that knows one node, ``node-1`` with two empty H100s; nothing runs beside it."""
    made = Service(KubernetesCluster(api))
    for feed in Feed:
        made.knowledge.feed_synced(feed)
    made.knowledge.node("node-1", cordoned=False)
    made.knowledge.gpu_node(gpu_node("node-1", gpus=2))
    made.knowledge.lease("node-1", "1")
    return made


@contextlib.asynccontextmanager
async def background(service: Service) -> AsyncIterator[None]:
    """Run the service's background work."""
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(service.run())
        try:
            yield
        finally:
            work.cancel()
