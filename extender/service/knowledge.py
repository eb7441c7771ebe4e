"""What the extender knows: a view of each node, the pods that concern it, and its promises.

Changes come in one at a time on the event loop; each replaces a view as a whole, so a decision
between two awaits sees one consistent state.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable

import msgspec
import structlog

from extender.ledger import Ledger, Promise
from extender.policy import Policy, PolicyName
from extender.request import Request
from extender.service.assigned import Assigned
from extender.service.avoidance import Avoidance
from extender.service.changes import Changes
from extender.service.demand import Demand
from extender.service.enlisted import Enlisted
from extender.service.freshness import Freshness
from extender.service.holds import Holds
from extender.service.pending import Pending
from extender.service.ports import Feed, PodFacts
from extender.service.refusals import Refusals, improved
from extender.service.tenure import Tenure
from extender.settings import Settings
from extender.snapshot import NodeView
from extender.succession import left_behind, successor
from extender.verbs.fleet import Fleet
from nodeagent.api.gpunode import Assignment, GpuNode, version_number

log = structlog.get_logger()

REMEMBERED = 20_000  # requests kept between a pod's hooks, and refused pods; the oldest go first

GOING_AWAY = "vGPU: the extender is going away"


class Knowledge:
    """The mutable heart: one per process, used from one event loop.

    By pod UID: ``pods`` as the watch has them; ``requests`` as filter read them, for bind names a
    pod without showing it; ``refused``, to be woken; ``assigned``, the node whose plan has a place
    for the pod. ``nodes`` tells which are cordoned.

    ``pending`` are the pods without a place; ``enlisted`` those in gangs; ``left_gangs`` those that
    were in one and are gone.

    Events say what there is to do: ``room`` has appeared for a refused pod, a pod has made its
    ``departures`` (``suspects`` are their UIDs), a node has made its ``arrivals``, the ``fleet`` is
    ``behind`` the nodes' changes.
    """

    def __init__(
        self,
        settings: Settings,
        policy: Policy | PolicyName,
        *,
        clock: Callable[[], float],
        tenure: Tenure,
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.clock = clock
        self.tenure = tenure
        self.views: dict[str, NodeView] = {}
        self.fleet = Fleet(self.views)
        self._buried: OrderedDict[str, None] = OrderedDict()
        self.nodes: dict[str, bool] = {}
        self.freshness = Freshness(settings, lambda: self.clock(), self.nodes)
        self.ledger = Ledger()
        self.pods: dict[str, PodFacts] = {}
        self.requests: OrderedDict[str, Request] = OrderedDict()
        self.refused = Refusals(REMEMBERED)
        self.assigned = Assigned(lambda: self.clock())
        self.avoidance = Avoidance(settings, lambda: self.clock())
        self.holds = Holds(settings.restart_hold_seconds, lambda: self.clock())
        self.pending = Pending(settings, lambda: self.clock())
        self.enlisted = Enlisted()
        self.left_gangs: OrderedDict[str, None] = OrderedDict()
        self.demand = Demand(clock())
        self.gangs_wait_for_room = False
        self.room = asyncio.Event()
        self.behind = asyncio.Event()
        self.suspects: set[str] = set()
        self.departures = asyncio.Event()
        self.arrivals = asyncio.Event()
        self.stopping = False
        self.changes = Changes()

    # What the cluster reports.

    def feed_synced(self, feed: Feed) -> None:
        """Note that *feed* is complete and being watched."""
        self.freshness.synced(feed)
        self.arrivals.set()

    def gpu_node(self, node: GpuNode, *, listed: bool = False) -> None:
        """Take in a GpuNode as it was at some time, from a watch or from a write's reply.

        One that was *listed* counts even if it looks older than what is known: an API server
        restored from a backup begins its count anew. Were it merely late, the watch that follows
        the list would bring the newer one again. Likewise one that was deleted counts only if it is
        listed again: a reply that was long on its way would stay for ever.
        """
        if listed:
            self._buried.pop(node.metadata.uid, None)
        elif node.metadata.uid in self._buried:
            return
        view = self.views.get(node.name)
        if view is None:
            view = NodeView(
                node,
                self.policy,
                left_behind(node),
                stale=self.freshness.stale(node.name),
                cordoned=self.nodes.get(node.name, False),
                failing=self.avoidance.refuses(node.name),
            )
        else:
            view = successor(view, node, listed=listed)
        self._replace(node.name, view)

    def gpu_node_deleted(self, name: str, uid: str) -> None:
        """Take in that the API server told of a GpuNode's deletion: it does not come back."""
        self._buried[uid] = None
        while len(self._buried) > REMEMBERED:
            self._buried.popitem(last=False)
        self.gpu_node_gone(name, uid)

    def gpu_nodes_are(self, uids: Collection[str], version: str) -> None:
        """Take in the UIDs of all GpuNodes as of a *version*.

        One that is known from a reply alone, for the watch was down, may be gone without a word.
        """
        for view in tuple(self.views.values()):
            known = view.node
            if known.metadata.uid not in uids and known.version <= version_number(version):
                self.gpu_node_deleted(known.name, known.metadata.uid)

    def gpu_node_gone(self, name: str, uid: str = "") -> None:
        """Take in that a GpuNode was not there; *uid*, where known, tells it from its successor."""
        view = self.views.get(name)
        if view is not None and uid in ("", view.node.metadata.uid):
            self._replace(name, None)

    def node(self, name: str, *, cordoned: bool) -> None:
        """Take in a Node."""
        if name not in self.nodes and name in self.freshness.announced:
            self.arrivals.set()
        self.nodes[name] = cordoned
        view = self.views.get(name)
        if view is not None and view.cordoned != cordoned:
            self._replace(name, msgspec.structs.replace(view, cordoned=cordoned))

    def node_gone(self, name: str) -> None:
        """Take in that a Node was deleted."""
        self.nodes.pop(name, None)
        if name in self.views:
            self.arrivals.set()

    def lease(self, node: str, version: str) -> None:
        """Take in an agent's Lease."""
        if self.freshness.renewed(node, version):
            self._refresh_staleness(node)
        if node not in self.views:
            self.arrivals.set()

    def lease_gone(self, node: str) -> None:
        """Take in that an agent's Lease was deleted."""
        self.freshness.withdrawn(node)
        self._refresh_staleness(node)

    def pod(self, pod: PodFacts) -> None:
        """Take in a pod."""
        uid = pod.ref.uid
        self.pods[uid] = pod
        self.left_gangs.pop(uid, None)
        if pod.node or pod.over or pod.deleting:
            self.refused.drop(uid)
            self._needs_no_plan(uid)
        elif isinstance(pod.asked, Request) and uid not in self.assigned:
            self.pending.seen(uid)
        if isinstance(pod.asked, Request):
            self.enlisted.enlist(pod.asked)
        if pod.over or (pod.node and {*self.assigned.nodes_of(uid)} - {pod.node}):
            self._suspect(uid)

    def pod_gone(self, uid: str) -> None:
        """Take in that a pod was deleted, or is no longer labelled as ours."""
        known, asked = self.pods.pop(uid, None), self.requests.pop(uid, None)
        asked = asked or (known.asked if known and isinstance(known.asked, Request) else None)
        if asked is not None and asked.gang is not None:
            self.left_gangs[uid] = None
            while len(self.left_gangs) > REMEMBERED:
                self.left_gangs.popitem(last=False)
        self.refused.drop(uid)
        self.ledger = self.ledger.release(uid)
        self._needs_no_plan(uid)
        self.pending.gone(uid)
        self.enlisted.leave(uid)
        self._suspect(uid)

    def _needs_no_plan(self, uid: str) -> None:
        self.pending.placed(uid)
        if uid in self.ledger.planned:
            kept = {pod: place for pod, place in self.ledger.planned.items() if pod != uid}
            self.ledger = self.ledger.plan(kept)

    def _suspect(self, uid: str) -> None:
        self.suspects.add(uid)
        self.departures.set()

    # What decisions leave behind.

    def remember(self, request: Request) -> None:
        """Keep a pod's request for its bind."""
        self.requests[request.pod.uid] = request
        self.enlisted.enlist(request)
        self.requests.move_to_end(request.pod.uid)
        while len(self.requests) > REMEMBERED:
            self.requests.popitem(last=False)

    def presume(self, request: Request, promise: Promise) -> None:
        """Keep the slices prioritize chose from others until the bind comes, or does not."""
        limits = self.settings
        lasts = (
            limits.presumption_with_volumes_seconds
            if request.waits_for_volumes
            else limits.presumption_seconds
        )
        self.ledger = self.ledger.presume(request.pod.uid, promise, until=self.clock() + lasts)

    def forget(self, uid: str) -> None:
        """Drop a promise that was not written; its slices may be room for somebody."""
        self.ledger = self.ledger.forget(uid)
        if self.refused:
            self.room.set()

    # What is asked.

    def entries(self) -> Iterable[tuple[NodeView, Assignment]]:
        """Yield every entry of every plan."""
        for view in self.views.values():
            for entry in view.node.spec.assignments:
                yield view, entry

    def place_of(self, uid: str) -> str:
        """Return the node where a pod has its place, "" if it has none worth coming back for.

        One that a silent agent has not realized is not: it would keep the pod from every other
        node until the reservation ends.
        """
        for node in self.assigned.nodes_of(uid):
            view = self.views[node]
            if not view.stale or view.realized(each.id for each in view.assignments_of(uid)):
                return node
        return ""

    def reservation_over(self, uid: str) -> bool:
        """Tell whether a pod has had its place for longer than it may without being bound."""
        return self.assigned.seconds(uid) > self.settings.reservation_seconds

    # Who decides.

    def not_ready(self) -> str:
        """Return why no decision can be made here and now, "" if all is well."""
        return self.not_warm() or self.tenure.why_not()

    def not_warm(self) -> str:
        """Return why no decision could be made here even as the leader, "" if all is well."""
        if self.stopping:
            return GOING_AWAY
        return self.freshness.not_ready()

    def begin_term(self) -> None:
        """Decide from here on: on what was just listed anew, and on nothing promised before."""
        self.ledger = Ledger(self.ledger.assumed)  # of binds that go on from an earlier term
        self.requests.clear()
        self.pending.begin_term()
        self.enlisted.begin_term()
        self.room.set()  # whom the predecessor refused, nobody here knows
        self.arrivals.set()

    def end_term(self) -> None:
        """Let whoever waits for a change know that it will not be decided here any more."""
        self.refused = Refusals(REMEMBERED)
        self.changes.tell_all()

    def stop(self) -> None:
        """Let whoever waits for a change know that there is no time left for it."""
        self.stopping = True
        self.changes.tell_all()

    # Time.

    def tick(self) -> None:
        """Let presumptions and reservations expire, and silent agents' nodes become stale."""
        now = self.clock()
        self.ledger = self.ledger.expire(now=now)
        self.demand.tell(now=now)
        for name in tuple(self.avoidance.nodes):
            self.refresh_failing(name)
        for name, over in tuple(self.holds.over()):
            view = self.views[name]
            if view.lapsed != over:
                log.info("reservations_over", node=name, ids=sorted(over - view.lapsed))
                self._replace(name, msgspec.structs.replace(view, lapsed=over))
        if not self.freshness.deaf:
            for name in tuple(self.views):
                self._refresh_staleness(name)

    def refresh_failing(self, name: str) -> None:
        """Let decisions see whether a node takes nothing new for its failures."""
        view = self.views.get(name)
        if view is not None and view.failing != (failing := self.avoidance.refuses(name)):
            self._replace(name, msgspec.structs.replace(view, failing=failing))

    def _refresh_staleness(self, name: str) -> None:
        view = self.views.get(name)
        if view is not None and view.stale != (stale := self.freshness.stale(name)):
            log.info("node_stale" if stale else "node_alive", node=name)
            self._replace(name, msgspec.structs.replace(view, stale=stale))

    def _replace(self, name: str, view: NodeView | None) -> None:
        before = self.views.get(name)
        if view is before:
            return
        self.assigned.planned(name, () if view is None else view.pods)
        self.holds.planned(name, before, view)
        if view is None:
            del self.views[name]
        else:
            self.views[name] = view
            for uid in view.pods:
                self.pending.placed(uid)
            self._look_for_room(before, view)
        self.fleet.changed(name)
        self.behind.set()
        self.changes.tell(name)

    def _look_for_room(self, before: NodeView | None, view: NodeView) -> None:
        """Ask for a wake-up if a refused pod fits now where it did not before."""
        if not self.room.is_set() and (
            (self.gangs_wait_for_room and (before is None or improved(before, view)))
            or self.refused.fit_now(before, view, self.ledger.assumed_on(view.name))
        ):
            self.room.set()
