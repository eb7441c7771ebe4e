"""What the cluster reports, on its way to the service."""

from __future__ import annotations

import asyncio
import itertools

from extender.cluster import feed
from extender.cluster.feeds import NODES_AT_A_TIME, PODS_AT_A_TIME
from extender.service import Service
from nodeagent.api import gpunode
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, PODS, PatchType
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


async def test_a_plan_written_while_a_list_of_nodes_is_taken_in_never_looks_older(
    api: InMemoryApi, service: Service
) -> None:
    names = [f"gpu-node-{index:03}" for index in range(4 * NODES_AT_A_TIME)]
    for name in names:
        await api.create(GPU_NODES, {"metadata": {"name": name}})
    views, last = service.knowledge.views, names[-1]
    seen = [0]
    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(feed(api, service.knowledge))
        while names[0] not in views:
            await asyncio.sleep(0)
            seen.append(len(views))
        assert last not in views, "the list is taken in in parts"
        patch = {"metadata": {"annotations": {"written": "meanwhile"}}}
        reply = await api.patch(GPU_NODES, last, patch, patch_type=PatchType.MERGE)
        service.knowledge.gpu_node(gpunode.decode(reply))
        versions = [views[last].node.version]
        while not views.keys() >= set(names):
            await asyncio.sleep(0)
            versions.append(views[last].node.version)
        feeding.cancel()

    assert len(set(versions)) == 1
