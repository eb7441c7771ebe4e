"""All there is at one moment, listed once: for commands that look at a cluster from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypedDict

import msgspec

from extender.cluster import objects
from extender.cluster.outcome import outcome
from extender.outlook import There
from extender.policy import PolicyName
from extender.policy.selectors import Labels
from extender.service.ports import NodeFacts, PodFacts
from extender.snapshot import NodeView
from extender.succession import left_behind
from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import GPU_NODES, NAMESPACES, NODES, PODS, ApiServer, Page


class Census(msgspec.Struct, frozen=True):
    """Nodes, namespaces with their labels, the GpuNodes, and the pods that Tangram sees to."""

    nodes: Mapping[str, NodeFacts]
    namespaces: Mapping[str, Labels]
    gpu_nodes: tuple[GpuNode, ...]
    pods: tuple[PodFacts, ...] = ()

    def there(self) -> There:
        """Return it as a policy is held against it.

        Who has been silent, and what an extender has promised and not yet written, is not seen
        from outside.
        """
        views = {}
        for each in self.gpu_nodes:
            facts = self.nodes.get(each.name, NodeFacts(each.name))
            views[each.name] = NodeView(
                each,
                PolicyName.DEFAULT,
                left_behind(each),
                stale=False,
                cordoned=facts.cordoned,
                rival=facts.rival,
                labels=facts.labels,
            )
        labels = {name: facts.labels for name, facts in self.nodes.items()}
        return There(views, labels, self.namespaces, {pod.ref.uid: pod for pod in self.pods})


async def census(api: ApiServer, *, devices_per_pod: int) -> Census:
    """List what a policy bears on; *devices_per_pod* bounds how many instances a pod may ask for.

    Raises:
        ClusterUnavailable: it could not be listed, or does not decode.
    """
    ours = f"{keys.MANAGED_LABEL}=true"
    with outcome():
        nodes = [objects.node(raw) async for raw in _all(lambda at: api.list(NODES, **at))]
        namespaces = [
            objects.namespace(raw) async for raw in _all(lambda at: api.list(NAMESPACES, **at))
        ]
        gpu_nodes = [
            gpunode.decode(raw) async for raw in _all(lambda at: api.list(GPU_NODES, **at))
        ]
        pods = [
            objects.pod(raw, devices_per_pod=devices_per_pod)
            async for raw in _all(lambda at: api.list(PODS, label_selector=ours, **at))
        ]
    return Census(
        {each.name: each for each in nodes}, dict(namespaces), tuple(gpu_nodes), tuple(pods)
    )


class _At(TypedDict):
    continue_token: str


async def _all(page_at: Callable[[_At], Awaitable[Page]]) -> AsyncIterator[bytes]:
    """Yield the objects of all pages."""
    page: Page | None = None
    while page is None or page.continue_token:
        page = await page_at({"continue_token": page.continue_token if page else ""})
        for raw in page.items:
            yield raw
