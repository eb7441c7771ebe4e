"""What the cluster reports, on its way to the service."""

from __future__ import annotations

import asyncio
import itertools

from extender.cluster import feed
from extender.cluster.feeds import PODS_AT_A_TIME
from extender.service import Service
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import PODS
from tests.builders import raw_pod


async def test_a_long_list_of_pods_leaves_the_hooks_their_turns(
    api: InMemoryApi, service: Service
) -> None:
    count = 4 * PODS_AT_A_TIME + 1
    for index in range(count):
        pod = raw_pod("1-10C", name=f"vm-{index}")
        del pod["metadata"]["uid"]
        await api.create(PODS, pod, namespace="default")
    pods = service.knowledge.pods
    seen = [0]
    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(feed(api, service.knowledge))
        while seen[-1] < count:
            await asyncio.sleep(0)
            seen.append(len(pods))
        feeding.cancel()

    assert max(after - before for before, after in itertools.pairwise(seen)) == PODS_AT_A_TIME
