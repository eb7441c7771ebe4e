"""All there is at one moment, listed once: for commands that look at a cluster from outside."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from extender.cluster import objects
from extender.cluster.outcome import outcome
from extender.policy.selectors import Labels
from nodeagent.api import gpunode
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import GPU_NODES, NAMESPACES, NODES, ApiServer, Page


class Census(msgspec.Struct, frozen=True):
    """Nodes and namespaces with their labels, and the GpuNodes."""

    nodes: Mapping[str, Labels]
    namespaces: Mapping[str, Labels]
    gpu_nodes: tuple[GpuNode, ...]


async def census(api: ApiServer) -> Census:
    """List what a policy's rules look at.

    Raises:
        ClusterUnavailable: it could not be listed, or does not decode.
    """
    nodes: dict[str, Labels] = {}
    namespaces: dict[str, Labels] = {}
    gpu_nodes: list[GpuNode] = []
    page: Page | None = None
    with outcome():
        while page is None or page.continue_token:
            page = await api.list(NODES, continue_token=page.continue_token if page else "")
            for raw in page.items:
                found = objects.node(raw)
                nodes[found.name] = found.labels
        page = None
        while page is None or page.continue_token:
            page = await api.list(NAMESPACES, continue_token=page.continue_token if page else "")
            namespaces.update(objects.namespace(raw) for raw in page.items)
        page = None
        while page is None or page.continue_token:
            page = await api.list(GPU_NODES, continue_token=page.continue_token if page else "")
            gpu_nodes += [gpunode.decode(raw) for raw in page.items]
    return Census(nodes, namespaces, tuple(gpu_nodes))
