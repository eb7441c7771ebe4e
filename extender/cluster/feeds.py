"""What the cluster reports, brought to the service: one watch for each kind, for ever.

An object that does not decode is logged and passed over; what was known of it stays. Were a GpuNode
forgotten instead, its promises would be forgotten with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar, assert_never

import msgspec
import structlog

from extender.cluster import objects
from extender.cluster.objects import Watched
from extender.kubescheduler.eligible import Traits
from extender.service.knowledge import Knowledge
from extender.service.ports import Feed, NodeFacts
from nodeagent.api import keys
from nodeagent.api.gpunode import GpuNode, PodRef
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, NAMESPACES, NODES, PODS, ApiServer, Kind
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

_T = TypeVar("_T")

PODS_AT_A_TIME = 500  # of a list; the hooks have their turn then, some 15 ms later (measured)
NODES_AT_A_TIME = 10  # each takes 0.18 ms (measured): all 5,000 in one turn were 0.9 s


class _Followed(msgspec.Struct):
    """How the objects of one kind are selected, and what is done with each.

    ``read`` tells what is kept of one, and ``take_in`` hears that, and whether the object was
    listed, not watched; ``all_are`` hears the UIDs of all that were, and the list's version. Of a
    list, ``at_a_time`` are taken in before others have their turn, all where it is 0; what has
    another ``state`` by then than when that began was written meanwhile, and is newer than the
    list. ``known`` are the UIDs of what was last heard, by namespace and name; ``named`` has both
    as what is kept has them, for where they are many, so that they are in memory once.
    """

    feed: Feed
    kind: Kind
    read: Callable[[Object], object]
    take_in: Callable[[Any, bool], None]
    gone: Callable[[str, str], None]
    all_are: Callable[[Collection[str], str], None] | None = None
    named: Callable[[Any], tuple[str, str]] | None = None
    labels: str = ""
    namespace: str = ""
    at_a_time: int = 0
    state: Callable[[str], object] = lambda _: None
    known: dict[str, dict[str, str]] = {}


async def feed(api: ApiServer, knowledge: Knowledge) -> None:
    """Keep *knowledge* current, until cancelled."""
    await Feeds(api, knowledge).run()


class Feeds:
    """Every kind's feed; the only one that tells *knowledge* what the cluster reports."""

    def __init__(self, api: ApiServer, knowledge: Knowledge) -> None:
        self._api = api
        self._knowledge = knowledge
        self._followed = tuple(_followed(knowledge))
        self._again = asyncio.Event()
        self._round = 0
        self._unlisted: set[Feed] = set()
        self._listed = asyncio.Event()

    async def run(self) -> None:
        """Keep *knowledge* current, until cancelled."""
        while True:
            self._again.clear()
            async with asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(self._follow(each, self._round), name=f"watch-{each.feed}")
                    for each in self._followed
                ]
                await self._again.wait()
                for task in work:
                    task.cancel()

    async def relist(self) -> None:
        """List everything anew, and return when all of it is known; :meth:`run` does it."""
        self._round += 1
        self._unlisted = set(Feed)
        self._listed.clear()
        self._again.set()
        await self._listed.wait()

    async def _follow(self, followed: _Followed, round: int) -> None:
        knowledge, known = self._knowledge, followed.known

        def read(current: Object) -> Object:
            namespace, name, uid = current.namespace, current.name, current.uid
            try:
                found = followed.read(current)
            except msgspec.MsgspecError as error:
                return Object(namespace, name, uid, b"", error)
            if followed.named is not None:
                name, uid = followed.named(found)
            return Object(namespace, name, uid, b"", found)

        def upsert(current: Object, *, listed: bool = False) -> None:
            there = known.setdefault(current.namespace, {})
            before = there.get(current.name)
            if before is not None and before != current.uid:
                followed.gone(current.name, before)
            there[current.name] = current.uid
            if isinstance(current.read, msgspec.MsgspecError):
                log.error(
                    "object_unreadable",
                    kind=followed.feed.value,
                    namespace=current.namespace,
                    name=current.name,
                    error=str(current.read)[:300],
                )
            else:
                followed.take_in(current.read, listed)

        def gone(namespace: str, name: str, uid: str) -> None:
            known.get(namespace, {}).pop(name, None)
            followed.gone(name, uid)

        async def taken_in(every: Replaced) -> None:
            before = {each.name: followed.state(each.name) for each in every.objects}
            for count, each in enumerate(every.objects, 1):
                upsert(each, listed=followed.state(each.name) is before[each.name])
                if followed.at_a_time and not count % followed.at_a_time:
                    await knowledge.way.give_way()
            still: dict[str, set[str]] = {}
            for each in every.objects:
                still.setdefault(each.namespace, set()).add(each.name)
            for namespace, there in known.items():
                for name in there.keys() - still.get(namespace, ()):
                    gone(namespace, name, there[name])
            if followed.all_are is not None:
                followed.all_are({each.uid for each in every.objects}, every.resource_version)

        changes = reflect(
            self._api,
            followed.kind,
            namespace=followed.namespace,
            label_selector=followed.labels,
            read=read,
        )
        async with contextlib.aclosing(changes):
            async for change in changes:
                match change:
                    case Replaced():
                        await taken_in(change)
                        knowledge.feed_synced(followed.feed)
                        self._listed_in(round, followed.feed)
                    case Upserted(object=current):
                        upsert(current)
                    case Deleted(object=last):
                        gone(last.namespace, last.name, last.uid)
                    case Confirmed():
                        knowledge.feed_synced(followed.feed)
                    case Interrupted(error=error):
                        log.warning("watch_interrupted", kind=followed.feed.value, error=str(error))
                        knowledge.feed_interrupted(followed.feed)
                    case unexpected:
                        assert_never(unexpected)

    def _listed_in(self, round: int, feed: Feed) -> None:
        """Note a list; one that was begun before it was asked for does not count."""
        if round == self._round:
            self._unlisted.discard(feed)
            if not self._unlisted:
                self._listed.set()


def _followed(knowledge: Knowledge) -> Iterable[_Followed]:
    limit = knowledge.settings.devices_per_pod

    def pod(current: Object) -> Watched:
        ref = PodRef(current.namespace, current.name, current.uid)
        read = objects.watched_pod(current.raw, devices_per_pod=limit, ref=ref)
        # At once, not when all of the list is here: what is freed then leaves holes.
        knowledge.recognize(read.facts)
        return read

    def pod_named(read: Watched) -> tuple[str, str]:
        return read.facts.ref.name, read.facts.ref.uid

    def pod_taken_in(read: Watched, _: bool) -> None:
        uid = read.facts.ref.uid
        _keep(knowledge.unready, uid, read.unready)
        _keep(knowledge.constraints, uid, read.constraints)
        knowledge.pod(read.facts)

    def pod_gone(_: str, uid: str) -> None:
        knowledge.unready.pop(uid, None)
        knowledge.constraints.pop(uid, None)
        knowledge.pod_gone(uid)

    def node_taken_in(read: NodeFacts, _: bool) -> None:
        knowledge.traits[read.name] = Traits(read.name, read.labels, read.taints)
        knowledge.node(read.name, cordoned=read.cordoned, rival=read.rival, labels=read.labels)

    def node_gone(name: str, _: str) -> None:
        knowledge.traits.pop(name, None)
        knowledge.node_gone(name)

    def gpu_node_known(name: str) -> GpuNode | None:
        view = knowledge.views.get(name)
        return None if view is None else view.node

    yield _Followed(
        Feed.GPU_NODES,
        GPU_NODES,
        read=lambda current: objects.gpu_node(current.raw),
        take_in=lambda node, listed: knowledge.gpu_node(node, listed=listed),
        gone=knowledge.gpu_node_deleted,
        all_are=knowledge.gpu_nodes_are,
        at_a_time=NODES_AT_A_TIME,
        state=gpu_node_known,
    )
    yield _Followed(
        Feed.NODES,
        NODES,
        read=lambda current: objects.node(current.raw),
        take_in=node_taken_in,
        gone=node_gone,
    )
    yield _Followed(
        Feed.NAMESPACES,
        NAMESPACES,
        read=lambda current: objects.namespace(current.raw),
        take_in=lambda read, _: knowledge.namespace(*read),
        gone=lambda name, _: knowledge.namespace_gone(name),
    )
    yield _Followed(
        Feed.PODS,
        PODS,
        read=pod,
        take_in=pod_taken_in,
        named=pod_named,
        gone=pod_gone,
        labels=f"{keys.MANAGED_LABEL}=true",
        at_a_time=PODS_AT_A_TIME,
    )
    yield _Followed(
        Feed.LEASES,
        LEASES,
        read=lambda current: objects.lease(current.raw),
        take_in=lambda read, _: knowledge.lease(*read),
        gone=lambda name, _: knowledge.lease_gone(name.removeprefix(keys.LEASE_PREFIX)),
        labels=f"{keys.AGENT_LABEL}=true",
        namespace=keys.SYSTEM_NAMESPACE,
    )


def _keep(kept: dict[str, _T], uid: str, value: _T | None) -> None:
    """Keep what is said of a pod, by its UID, if anything is."""
    if value:
        kept[uid] = value
    else:
        kept.pop(uid, None)
