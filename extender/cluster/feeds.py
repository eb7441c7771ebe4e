"""What the cluster reports, brought to the service: one watch for each kind, for ever.

An object that does not decode is logged and passed over; what was known of it stays. Were a GpuNode
forgotten instead, its promises would be forgotten with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import assert_never

import msgspec
import structlog

from extender.cluster import objects
from extender.service.knowledge import Knowledge
from extender.service.ports import Feed
from nodeagent.api import gpunode, keys
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, NODES, PODS, ApiServer, Kind
from nodeagent.apiserver.reflector import (
    Confirmed,
    Deleted,
    Interrupted,
    Object,
    Replaced,
    Upserted,
    reflect,
)

log = structlog.get_logger()


class _Followed(msgspec.Struct):
    """How the objects of one kind are selected, and what is done with each.

    ``take_in`` hears besides whether the object was listed, not watched.
    """

    feed: Feed
    kind: Kind
    take_in: Callable[[bytes, bool], None]
    gone: Callable[[Object], None]
    labels: str = ""
    namespace: str = ""


async def feed(api: ApiServer, knowledge: Knowledge) -> None:
    """Keep *knowledge* current, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for followed in _followed(knowledge):
            work = _follow(api, knowledge, followed)
            tasks.create_task(work, name=f"watch-{followed.feed.value}")


def _followed(knowledge: Knowledge) -> Iterable[_Followed]:
    limit = knowledge.settings.devices_per_pod

    def node(raw: bytes, listed: bool) -> None:
        name, cordoned = objects.node(raw)
        knowledge.node(name, cordoned=cordoned)

    yield _Followed(
        Feed.GPU_NODES,
        GPU_NODES,
        take_in=lambda raw, listed: knowledge.gpu_node(gpunode.decode(raw), listed=listed),
        gone=lambda gone: knowledge.gpu_node_gone(gone.name, gone.uid),
    )
    yield _Followed(
        Feed.NODES,
        NODES,
        take_in=node,
        gone=lambda gone: knowledge.node_gone(gone.name),
    )
    yield _Followed(
        Feed.PODS,
        PODS,
        take_in=lambda raw, _: knowledge.pod(objects.pod(raw, devices_per_pod=limit)),
        gone=lambda gone: knowledge.pod_gone(gone.uid),
        labels=f"{keys.MANAGED_LABEL}=true",
    )
    yield _Followed(
        Feed.LEASES,
        LEASES,
        take_in=lambda raw, _: knowledge.lease(*objects.lease(raw)),
        gone=lambda gone: knowledge.lease_gone(gone.name.removeprefix(keys.LEASE_PREFIX)),
        labels=f"{keys.AGENT_LABEL}=true",
        namespace=keys.SYSTEM_NAMESPACE,
    )


async def _follow(api: ApiServer, knowledge: Knowledge, followed: _Followed) -> None:
    known: dict[tuple[str, str], Object] = {}

    def upsert(current: Object, *, listed: bool = False) -> None:
        key = (current.namespace, current.name)
        before = known.get(key)
        if before is not None and before.uid != current.uid:
            followed.gone(before)
        known[key] = msgspec.structs.replace(current, raw=b"")
        try:
            followed.take_in(current.raw, listed)
        except msgspec.MsgspecError as error:
            log.error(
                "object_unreadable",
                kind=followed.feed.value,
                namespace=current.namespace,
                name=current.name,
                error=str(error)[:300],
            )

    changes = reflect(
        api, followed.kind, namespace=followed.namespace, label_selector=followed.labels
    )
    async with contextlib.aclosing(changes):
        async for change in changes:
            match change:
                case Replaced(objects=listed):
                    for each in listed:
                        upsert(each, listed=True)
                    for key in known.keys() - {(each.namespace, each.name) for each in listed}:
                        followed.gone(known.pop(key))
                    knowledge.feed_synced(followed.feed)
                case Upserted(object=current):
                    upsert(current)
                case Deleted(object=gone):
                    known.pop((gone.namespace, gone.name), None)
                    followed.gone(gone)
                case Confirmed():
                    knowledge.feed_synced(followed.feed)
                case Interrupted(error=error):
                    log.warning("watch_interrupted", kind=followed.feed.value, error=str(error))
                    knowledge.freshness.interrupted(followed.feed)
                case unexpected:
                    assert_never(unexpected)
