"""What the cluster reports, brought to the service: one watch for each kind, for ever.

An object that does not decode is logged and passed over; what was known of it stays. Were a GpuNode
forgotten instead, its promises would be forgotten with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import msgspec
import structlog

from extender.cluster import objects
from extender.service.ports import Feed
from extender.service.state import State
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
    """How the objects of one kind are selected, and what is done with each."""

    feed: Feed
    kind: Kind
    take_in: Callable[[bytes], None]
    gone: Callable[[Object], None]
    labels: str = ""
    namespace: str = ""


async def feed(api: ApiServer, state: State) -> None:
    """Keep *state* current, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for followed in _followed(state):
            work = _follow(api, state, followed)
            tasks.create_task(work, name=f"watch-{followed.feed.value}")


def _followed(state: State) -> Iterable[_Followed]:
    limit = state.settings.devices_per_pod

    def node(raw: bytes) -> None:
        name, cordoned = objects.node(raw)
        state.node(name, cordoned=cordoned)

    yield _Followed(
        Feed.GPU_NODES,
        GPU_NODES,
        take_in=lambda raw: state.gpu_node(gpunode.decode(raw)),
        gone=lambda gone: state.gpu_node_gone(gone.name, gone.uid),
    )
    yield _Followed(
        Feed.NODES,
        NODES,
        take_in=node,
        gone=lambda gone: state.node_gone(gone.name),
    )
    yield _Followed(
        Feed.PODS,
        PODS,
        take_in=lambda raw: state.pod(objects.pod(raw, devices_per_pod=limit)),
        gone=lambda gone: state.pod_gone(gone.uid),
        labels=f"{keys.MANAGED_LABEL}=true",
    )
    yield _Followed(
        Feed.LEASES,
        LEASES,
        take_in=lambda raw: state.lease(*objects.lease(raw)),
        gone=lambda gone: state.lease_gone(gone.name.removeprefix(keys.LEASE_PREFIX)),
        labels=f"{keys.AGENT_LABEL}=true",
        namespace=keys.SYSTEM_NAMESPACE,
    )


async def _follow(api: ApiServer, state: State, followed: _Followed) -> None:
    known: dict[tuple[str, str], Object] = {}

    def upsert(current: Object) -> None:
        key = (current.namespace, current.name)
        before = known.get(key)
        if before is not None and before.uid != current.uid:
            followed.gone(before)
        known[key] = msgspec.structs.replace(current, raw=b"")
        try:
            followed.take_in(current.raw)
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
                        upsert(each)
                    for key in known.keys() - {(each.namespace, each.name) for each in listed}:
                        followed.gone(known.pop(key))
                    state.feed_synced(followed.feed)
                case Upserted(object=current):
                    upsert(current)
                case Deleted(object=gone):
                    known.pop((gone.namespace, gone.name), None)
                    followed.gone(gone)
                case Confirmed():
                    state.feed_synced(followed.feed)
                case Interrupted(error=error):
                    log.warning("watch_interrupted", kind=followed.feed.value, error=str(error))
                    state.feed_interrupted(followed.feed)
