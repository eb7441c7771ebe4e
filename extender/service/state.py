"""What the extender knows: a view of each node, the pods that concern it, and its promises.

Changes come in one at a time on the event loop; each replaces a view as a whole, so a decision
between two awaits sees one consistent state.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

import msgspec
import structlog

from extender.ledger import Ledger, Promise
from extender.policy import PolicyName
from extender.request import Request
from extender.service.ports import Feed, PodFacts
from extender.settings import Settings
from extender.snapshot import NodeView, successor
from extender.verbs.verdicts import Code, Fits, verdict
from nodeagent.api.gpunode import Assignment, GpuNode

log = structlog.get_logger()

REMEMBERED = 20_000  # requests kept between a pod's hooks, and refused pods; the oldest go first


_Kept = TypeVar("_Kept")


class RefusedPod(msgspec.Struct, frozen=True):
    """A pod that fitted nowhere when it was last asked about, and the reasons nodes gave."""

    request: Request
    codes: frozenset[Code]


class State:
    """The mutable heart: one per process, used from one event loop.

    ``clock`` is monotonic, in seconds. Three events say what there is to do: ``room`` has appeared
    for a refused pod, a pod has made its ``departures`` (``suspects`` holds the UIDs), a node has
    made its ``arrivals``.
    """

    def __init__(
        self, settings: Settings, policy: PolicyName, *, clock: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.clock = clock
        self.views: dict[str, NodeView] = {}
        self.ledger = Ledger()
        self.pods: dict[str, PodFacts] = {}
        self.requests: OrderedDict[str, Request] = OrderedDict()
        self.refused: OrderedDict[str, RefusedPod] = OrderedDict()
        self.room = asyncio.Event()
        self.suspects: set[str] = set()
        self.departures = asyncio.Event()
        self.arrivals = asyncio.Event()
        self.assigned: dict[str, str] = {}
        self.touched: dict[str, float] = {}
        self.nodes: dict[str, bool] = {}
        self._leases: dict[str, tuple[str, float]] = {}
        self._feeds: dict[Feed, float | None] = {}
        self._changes: dict[str, asyncio.Event] = {}

    # What the cluster reports.

    def feed_synced(self, feed: Feed) -> None:
        """Note that *feed* is complete and being watched."""
        self._feeds[feed] = None
        self.arrivals.set()

    def feed_interrupted(self, feed: Feed) -> None:
        """Note that *feed* brings nothing new at present."""
        if feed in self._feeds and self._feeds[feed] is None:
            self._feeds[feed] = self.clock()

    def gpu_node(self, node: GpuNode) -> None:
        """Take in a state of a GpuNode, from a watch or from a write's reply."""
        view = self.views.get(node.name)
        if view is None:
            view = NodeView(
                node,
                self.policy,
                stale=self._stale(node.name),
                cordoned=self.nodes.get(node.name, False),
            )
        else:
            view = successor(view, node)
        self._replace(node.name, view)

    def gpu_node_gone(self, name: str, uid: str = "") -> None:
        """Take in that a GpuNode was deleted; *uid*, where known, tells it from its successor."""
        view = self.views.get(name)
        if view is not None and uid in ("", view.node.metadata.uid):
            self._replace(name, None)

    def node(self, name: str, *, cordoned: bool) -> None:
        """Take in a Node."""
        self.nodes[name] = cordoned
        view = self.views.get(name)
        if view is not None and view.cordoned != cordoned:
            self._replace(name, msgspec.structs.replace(view, cordoned=cordoned))
        if view is None:
            self.arrivals.set()

    def node_gone(self, name: str) -> None:
        """Take in that a Node was deleted."""
        self.nodes.pop(name, None)
        self.arrivals.set()

    def lease(self, node: str, version: str) -> None:
        """Take in an agent's Lease; only a change is a sign of life, whatever time it bears."""
        known = self._leases.get(node)
        if known is None or known[0] != version:
            self._leases[node] = (version, self.clock())
            self._refresh_staleness(node)
        if known is None:
            self.arrivals.set()

    def lease_gone(self, node: str) -> None:
        """Take in that an agent's Lease was deleted."""
        self._leases.pop(node, None)
        self._refresh_staleness(node)

    def pod(self, pod: PodFacts) -> None:
        """Take in a pod."""
        self.pods[pod.ref.uid] = pod
        if pod.node or pod.over or pod.deleting:
            self.refused.pop(pod.ref.uid, None)
        if pod.over or (pod.node and pod.node != self.assigned.get(pod.ref.uid, pod.node)):
            self._suspect(pod.ref.uid)

    def pod_gone(self, uid: str) -> None:
        """Take in that a pod was deleted, or is no longer labelled as ours."""
        self.pods.pop(uid, None)
        self.refused.pop(uid, None)
        self.requests.pop(uid, None)
        self.ledger = self.ledger.release(uid)
        self._suspect(uid)

    def _suspect(self, uid: str) -> None:
        self.suspects.add(uid)
        self.departures.set()

    # What decisions ask.

    def not_ready(self) -> str:
        """Return why no decision can be made now, "" if all is well."""
        if len(self._feeds) < len(Feed):
            return "vGPU: the inventory is not loaded yet"
        oldest = min((since for since in self._feeds.values() if since is not None), default=None)
        if oldest is not None and self.clock() - oldest > self.settings.snapshot_age:
            return "vGPU: the inventory is out of date, the API server does not answer"
        return ""

    def remember(self, request: Request) -> None:
        """Keep a pod's request for its bind, which names the pod but does not show it."""
        _keep(self.requests, request.pod.uid, request)

    def refuse(self, request: Request, codes: Collection[Code]) -> None:
        """Keep a pod that fits nowhere, to be woken when room appears."""
        _keep(self.refused, request.pod.uid, RefusedPod(request, frozenset(codes)))

    def entries(self) -> Iterable[tuple[NodeView, Assignment]]:
        """Yield every entry of every plan."""
        for view in self.views.values():
            for entry in view.node.spec.assignments:
                yield view, entry

    def lease_seen(self, node: str) -> bool:
        """Tell whether an agent has announced itself for a node."""
        return node in self._leases

    @property
    def announced(self) -> Iterable[str]:
        """The nodes whose agents have announced themselves."""
        return self._leases

    # Promises.

    def presume(self, request: Request, promise: Promise) -> None:
        """Keep the slices prioritize chose from others until the bind comes, or does not."""
        limits = self.settings
        lasts = limits.presumption_with_volumes if request.waits_for_volumes else limits.presumption
        self.ledger = self.ledger.presume(request.pod.uid, promise, until=self.clock() + lasts)

    def forget(self, uid: str) -> None:
        """Drop a promise that was not written; its slices may be room for somebody."""
        self.ledger = self.ledger.forget(uid)
        if self.refused:
            self.room.set()

    # Time.

    def tick(self) -> None:
        """Let presumptions expire and silent agents' nodes become stale."""
        self.ledger = self.ledger.expire(now=self.clock())
        if self._feeds.get(Feed.LEASES, 0.0) is None:  # deaf ourselves, we judge nobody silent
            for name in self.views:
                self._refresh_staleness(name)

    async def change_of(self, node: str, *, within: float) -> None:
        """Wait until something about *node* changes, or raise TimeoutError."""
        event = self._changes.setdefault(node, asyncio.Event())
        async with asyncio.timeout(within):
            await event.wait()

    def _refresh_staleness(self, name: str) -> None:
        view = self.views.get(name)
        if view is not None and view.stale != (stale := self._stale(name)):
            log.info("node_stale" if stale else "node_alive", node=name)
            self._replace(name, msgspec.structs.replace(view, stale=stale))

    def _stale(self, name: str) -> bool:
        lease = self._leases.get(name)
        return lease is None or self.clock() - lease[1] > self.settings.lease_missed

    def _replace(self, name: str, view: NodeView | None) -> None:
        before = self.views.get(name)
        if view is before:
            return
        for uid in () if before is None else before.pods:
            if self.assigned.get(uid) == name:
                del self.assigned[uid]
        if view is None:
            del self.views[name]
        else:
            self.views[name] = view
            self.assigned.update(dict.fromkeys(view.pods, name))
            self._look_for_room(before, view)
        changed = self._changes.pop(name, None)
        if changed is not None:
            changed.set()

    def _look_for_room(self, before: NodeView | None, view: NodeView) -> None:
        """Ask for a wake-up if a refused pod fits now where it did not before."""
        if self.room.is_set():
            return
        promised = self.ledger.assumed_on(view.name)
        shapes = {each.request.wanted: each.request for each in self.refused.values()}
        for request in shapes.values():
            if isinstance(verdict(view, request, promised), Fits) and (
                before is None or not isinstance(verdict(before, request, promised), Fits)
            ):
                self.room.set()
                return


def _keep(memory: OrderedDict[str, _Kept], uid: str, kept: _Kept) -> None:
    memory[uid] = kept
    memory.move_to_end(uid)
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)
