"""What the extender knows: a view of each node, the pods that concern it, and its promises.

Changes come in one at a time on the event loop; each replaces a view as a whole, so a decision
between two awaits sees one consistent state.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Set

import msgspec
import structlog

from extender.ledger import Ledger, promise
from extender.metrics import Work
from extender.packing.choose import Choice
from extender.policy import InForce, Policy, PolicyName
from extender.policy.bounds import Bounds
from extender.policy.selectors import Labels
from extender.policy.values import Times
from extender.request import Request
from extender.service.alike import entries_as_pods, pod_as_known
from extender.service.assigned import Assigned
from extender.service.avoidance import Avoidance
from extender.service.causes import Causes
from extender.service.changes import Changes
from extender.service.decided import Decided
from extender.service.demand import Demand
from extender.service.ended import Ended
from extender.service.enlisted import Enlisted, key
from extender.service.freshness import Freshness
from extender.service.holds import Holds
from extender.service.pending import Pending
from extender.service.ports import Feed, PodFacts
from extender.service.realizing import Realizing
from extender.service.refusals import Refusals, improved
from extender.service.right_of_way import RightOfWay
from extender.service.seam import Seam, told
from extender.service.tenancy import Tenancy
from extender.service.tenure import Tenure
from extender.service.unadmitted import Unadmitted
from extender.service.unseen import Unseen
from extender.settings import Settings
from extender.snapshot import NodeView
from extender.succession import left_behind, successor, unanswered
from extender.verbs.fleet import Fleet
from extender.verbs.reasons import Code
from nodeagent.api.gpunode import Assignment, GpuNode, version_number
from nodeagent.api.rivals import Rival

log = structlog.get_logger()

REMEMBERED = 20_000  # requests kept between a pod's hooks, and refused pods; the oldest go first

PROMISES = "Knowledge.ledger"
"""What a change of the ledger that follows from nothing else is told as: before, and after."""

GOING_AWAY = "vGPU: the extender is going away"


class Knowledge:
    """The mutable heart: one per process, used from one event loop.

    By pod UID: ``pods`` as the watch has them; ``requests`` as filter read them, for bind names a
    pod without showing it; ``refused``, to be woken; ``assigned``, the node whose plan has a place
    for the pod. ``nodes`` tells which are cordoned, ``rivals`` who else owns a node's GPUs.

    ``pending`` are the pods without a place; ``enlisted`` those in gangs; ``unseen`` those that
    filter asked about and the watch has not shown; ``gone`` those of whose end we know, and whether
    they were in a gang; ``ended`` those of them that were read to have ended.

    ``work`` counts and times what is done, ``decided`` is why pods' nodes were chosen; ``causes``
    tells why there was no room, ``realizing`` what agents have yet to do; ``planned_at`` is when
    pods were last planned jointly.

    Events say what there is to do: ``room`` has appeared for a refused pod, a pod has made its
    ``departures`` (``suspects`` are their UIDs), a node has made its ``arrivals``, the ``fleet`` is
    ``behind`` the nodes' changes, a node somebody waits for is ``vacating``. ``ripe_claims`` are
    those of an order of moves, by id, that may be places as soon as nobody is there.

    ``way`` tells what is done here when to wait for an answer.

    The policy may be changed at any time (:meth:`adopt`); its times come before the settings'.
    """

    def __init__(
        self,
        settings: Settings,
        policy: InForce | Policy | PolicyName,
        *,
        clock: Callable[[], float],
        tenure: Tenure,
        seam: Seam | None = None,
    ) -> None:
        self.seam = seam or Seam(clock)
        self._given = settings
        self.in_force = InForce.of(policy).proven_on(())
        self.settings = _timed(settings, self.in_force.times)
        self.clock = self.seam.clock
        self.tenure = tenure
        self.views: dict[str, NodeView] = {}
        self.fleet = Fleet(self.views)
        self._buried: OrderedDict[str, None] = OrderedDict()
        self.nodes: dict[str, bool] = {}
        self.rivals: dict[str, Rival] = {}
        self._labels: dict[str, Labels] = {}
        self.freshness = Freshness(settings, lambda: self.clock(), self.nodes)
        self._ledger = Ledger()
        self.work = Work()
        self.causes = Causes(self.work)
        self.realizing = Realizing(self.work, lambda: self.clock())
        self.planned_at: float | None = None
        self.pods: dict[str, PodFacts] = {}
        self.requests: OrderedDict[str, Request] = OrderedDict()
        self.refused = Refusals(REMEMBERED)
        self.assigned = Assigned(lambda: self.clock())
        self.avoidance = Avoidance(settings, lambda: self.clock(), self.seam)
        self.holds = Holds(
            self.settings.restart_hold_seconds,
            lambda: self.clock(),
            claims_last=self.settings.claim_seconds,
        )
        self.tenancy = Tenancy(self.views, self.assigned, self.holds, self.in_force.rules)
        self.pending = Pending(settings, lambda: self.clock(), self.seam)
        self.enlisted = Enlisted(self.seam)
        self.unseen = Unseen(REMEMBERED)
        self.unadmitted = Unadmitted()
        self.gone: OrderedDict[str, bool] = OrderedDict()
        self.ended = Ended(REMEMBERED)
        self.demand = Demand(clock())
        self.decided = Decided(REMEMBERED)
        self.gangs_wait_for_room = False
        self.room = asyncio.Event()
        self.behind = asyncio.Event()
        self.vacating = asyncio.Event()
        self.ripe_claims: frozenset[str] = frozenset()
        self.suspects: set[str] = set()
        self.departures = asyncio.Event()
        self.arrivals = asyncio.Event()
        self.stopping = False
        self.changes = Changes()
        self.way = RightOfWay()

    @property
    def ledger(self) -> Ledger:
        """All promises beyond the plans."""
        return self._ledger

    @ledger.setter
    def ledger(self, ledger: Ledger) -> None:
        self.seam.note(PROMISES, self._ledger, ledger)
        self._ledger = ledger

    # What the cluster reports.

    @told
    def feed_synced(self, feed: Feed) -> None:
        """Note that *feed* is complete and being watched."""
        self.freshness.synced(feed)
        for name in tuple(self.views) if feed is Feed.LEASES else ():
            self._refresh_staleness(name)
        self.arrivals.set()

    @told
    def feed_interrupted(self, feed: Feed) -> None:
        """Note that *feed* brings nothing new at present."""
        self.freshness.interrupted(feed)

    @told
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
        entries_as_pods(node.spec.assignments, self.pods)
        view = self.views.get(node.name)
        if view is None:
            view = NodeView(
                node,
                self.in_force.policy,
                left_behind(node),
                stale=self.freshness.stale(node.name),
                agent=self.freshness.agent(node.name),
                cordoned=self.nodes.get(node.name, False),
                rival=self.rivals.get(node.name),
                failing=self.avoidance.refuses(node.name),
                unanswered=unanswered(node),
                labels=self._looked_at(node.name),
            )
        else:
            view = successor(view, node, listed=listed)
        self._replace(node.name, view)

    @told
    def gpu_node_deleted(self, name: str, uid: str) -> None:
        """Take in that the API server told of a GpuNode's deletion: it does not come back."""
        self._buried[uid] = None
        while len(self._buried) > REMEMBERED:
            self._buried.popitem(last=False)
        self.gpu_node_gone(name, uid)

    @told
    def gpu_nodes_are(self, uids: Collection[str], version: str) -> None:
        """Take in the UIDs of all GpuNodes as of a *version*.

        One that is known from a reply alone, for the watch was down, may be gone without a word.
        """
        for view in tuple(self.views.values()):
            known = view.node
            if known.metadata.uid not in uids and known.version <= version_number(version):
                self.gpu_node_deleted(known.name, known.metadata.uid)

    @told
    def gpu_node_gone(self, name: str, uid: str) -> None:
        """Take in that a GpuNode was not there; its *uid* tells it from its successor."""
        view = self.views.get(name)
        if view is not None and view.node.metadata.uid == uid:
            self._replace(name, None)

    @told
    def node(
        self,
        name: str,
        *,
        cordoned: bool,
        rival: Rival | None = None,
        labels: Labels | None = None,
    ) -> None:
        """Take in a Node."""
        if name not in self.nodes and name in self.freshness.announced:
            self.arrivals.set()
        self.nodes[name] = cordoned
        if rival is None:
            self.rivals.pop(name, None)
        elif self.rivals.get(name) != rival:
            self.rivals[name] = rival
            if name in self.views or name in self.freshness.announced:
                log.warning("rival_owner", node=name, rival=rival.name, remedy=rival.remedy)
        self._labels[name] = labels or {}
        labels = self._looked_at(name)
        view = self.views.get(name)
        if view is None:
            return
        if view.labels != labels and self.refused:
            self.room.set()  # it may have come into another pool
        if (view.cordoned, view.rival, view.labels) != (cordoned, rival, labels):
            changed = msgspec.structs.replace(view, cordoned=cordoned, rival=rival, labels=labels)
            self._replace(name, changed)

    def _looked_at(self, name: str) -> Labels:
        """Return the labels of a Node that the rules look at: the others change nothing."""
        labels, keys = self._labels.get(name, {}), self.in_force.rules.node_keys
        return {key: labels[key] for key in keys & labels.keys()} if keys else {}

    @property
    def labels(self) -> Mapping[str, Labels]:
        """All labels of each Node."""
        return self._labels

    @told
    def node_gone(self, name: str) -> None:
        """Take in that a Node was deleted."""
        self.nodes.pop(name, None)
        self.rivals.pop(name, None)
        self._labels.pop(name, None)
        if name in self.views:
            self.arrivals.set()

    @told
    def namespace(self, name: str, labels: Labels) -> None:
        """Take in a Namespace: its labels tell whose it is."""
        if self.tenancy.namespace(name, labels):
            self.fleet.begin_anew()
            self.room.set()

    @told
    def namespace_gone(self, name: str) -> None:
        """Take in that a Namespace was deleted."""
        self.tenancy.namespace_gone(name)

    @told
    def lease(self, node: str, version: str, agent: str = "") -> None:
        """Take in an agent's Lease; *agent* names the process that holds it, if that is known."""
        if self.freshness.renewed(node, version, agent):
            self._refresh_staleness(node)
            view = self.views.get(node)
            if view is not None and view.agent != agent:
                self._replace(node, msgspec.structs.replace(view, agent=agent))
        if node not in self.views:
            self.arrivals.set()

    @told
    def lease_gone(self, node: str) -> None:
        """Take in that an agent's Lease was deleted."""
        self.freshness.withdrawn(node)
        self._refresh_staleness(node)

    @told
    def pod(self, pod: PodFacts) -> None:
        """Take in a pod, unless it was read to have ended and this is late news of its life."""
        if pod.ref.uid in self.ended and not pod.over:
            return
        before = self.recognize(pod)
        uid = pod.ref.uid  # the very object that is known already
        if pod.not_admitted and uid in self.assigned and not (before and before.not_admitted):
            self.work.not_admitted()
            self.unadmitted.add(pod)
            log.warning("pod_not_admitted", pod=pod.ref.name, node=pod.node)
        self.pods[uid] = pod
        self.unseen.drop(uid)
        self.gone.pop(uid, None)
        if pod.node or pod.over or pod.deleting:
            self.refused.drop(uid)
            self._needs_no_plan(uid)
        elif isinstance(pod.asked, Request) and uid not in self.assigned:
            self.pending.seen(uid)
        if isinstance(pod.asked, Request):
            self.enlisted.enlist(pod.asked)
            if pod.node and (before is None or not before.node):
                self._begun(pod.asked)
        if pod.over or (pod.node and {*self.assigned.nodes_of(uid)} - {pod.node}):
            self._suspect(uid)

    def recognize(self, pod: PodFacts) -> PodFacts | None:
        """Let what was read of a pod refer to what is known of it; return how it was before."""
        before = self.pods.get(pod.ref.uid)
        pod_as_known(pod, before, self._entries_of(pod.ref.uid))
        return before

    def _begun(self, asked: Request) -> None:
        """Let the members that wait for one of their gang to be bound ask again."""
        members = () if asked.gang is None else self.enlisted.members[key(asked.gang)]
        if any(self.refused.get(uid) for uid in members):
            self.room.set()

    @told
    def pod_gone(self, uid: str) -> None:
        """Take in that a pod was deleted, or is no longer labelled as ours."""
        self._left(uid, self.pods.pop(uid, None))
        self._suspect(uid)

    @told
    def read_ended(self, uid: str) -> None:
        """Take in that a pod was read to have ended, or that there is none of this UID."""
        self.ended.add(uid)
        self._left(uid, self.pods.get(uid))

    def _left(self, uid: str, known: PodFacts | None) -> None:
        asked = self.requests.get(uid)
        asked = asked or (known.asked if known and isinstance(known.asked, Request) else None)
        in_gang = asked is not None and asked.gang is not None
        self.gone[uid] = in_gang or self.gone.pop(uid, False)
        while len(self.gone) > REMEMBERED:
            self.gone.popitem(last=False)
        self.unseen.drop(uid)
        self._forget_pod(uid)

    def _forget_pod(self, uid: str) -> None:
        """Remember nothing that a pod asked for."""
        self.requests.pop(uid, None)
        self.refused.drop(uid)
        self.release(uid)
        self._needs_no_plan(uid)
        self.pending.gone(uid)
        if self.enlisted.leave(uid) in self.enlisted.no_room:
            self.room.set()  # whoever is left of the gang needs less

    def _presume_less(self, ledger: Ledger) -> None:
        """Put a ledger in place of ours that presumes as much for pods, or less."""
        if self.gangs_wait_for_room and len(ledger.presumed) < len(self.ledger.presumed):
            self.room.set()  # alone of all a gang takes nothing that is presumed for others
        self.ledger = ledger

    def _forget_unseen(self, *, now: float) -> None:
        """Forget the pods that neither kube-scheduler nor the watch has spoken of for long.

        But not one that has a place: that is given back once the pod was read.
        """
        for uid in tuple(self.unseen.over(since=now - self.settings.unseen_pod_seconds)):
            if uid in self.assigned:
                self.unseen.asked(uid, now=now)
            else:
                self._forget_pod(uid)

    def _needs_no_plan(self, uid: str) -> None:
        self.pending.placed(uid)
        if uid in self.ledger.planned:
            kept = {pod: place for pod, place in self.ledger.planned.items() if pod != uid}
            self.ledger = self.ledger.plan(kept)

    def _suspect(self, uid: str) -> None:
        self.suspects.add(uid)
        self.departures.set()

    # What decisions leave behind.

    @told
    def remember(self, request: Request) -> None:
        """Keep a pod's request for its bind."""
        self.requests[request.pod.uid] = request
        if request.pod.uid not in self.pods:
            self.unseen.asked(request.pod.uid, now=self.clock())
        self.enlisted.enlist(request)
        self.requests.move_to_end(request.pod.uid)
        while len(self.requests) > REMEMBERED:
            self.requests.popitem(last=False)

    def presume(self, request: Request, node: str, choice: Choice) -> None:
        """Keep the slices chosen on *node* from others until the bind comes, or does not."""
        limits = self.settings
        lasts = (
            limits.presumption_with_volumes_seconds
            if request.waits_for_volumes
            else limits.presumption_seconds
        )
        self.ledger = self.ledger.presume(
            request.pod.uid,
            promise(node, choice.placed, request.pod.namespace),
            until=self.clock() + lasts,
        )

    def release(self, uid: str) -> None:
        """End a pod's presumption: it has gone, or kube-scheduler asks about it anew."""
        self._presume_less(self.ledger.release(uid))

    def refuse(
        self, request: Request, codes: Set[Code], bounds: Bounds | None = None, *, began: float
    ) -> None:
        """Keep a pod that no node takes within its *bounds*, to be woken, and count why.

        It is told of if it is news, with how long it took since the filter call *began*.
        """
        before = self.refused.get(request.pod.uid)
        self.refused.add(request, codes)
        self.work.refused(codes)
        self.causes.refused((request.wanted, bounds), codes)
        if before is None or before.codes != codes:
            log.info(
                "pod_refused",
                pod=request.pod.name,
                namespace=request.pod.namespace,
                uid=request.pod.uid,
                codes=sorted(code.value for code in codes),
                policy_version=self.in_force.version,
                seconds=round(self.clock() - began, 6),
            )

    @told
    def confirm(self, uid: str) -> None:
        """Drop a promise that has been written: the plan has it now."""
        self.ledger = self.ledger.confirm(uid)

    @told
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

    def _entries_of(self, uid: str) -> Iterable[Assignment]:
        """Yield the entries of all plans for a pod."""
        for node in self.assigned.nodes_of(uid):
            yield from self.views[node].assignments_of(uid)

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

    def bounded(self, request: Request, *, leaving: Collection[str] = ()) -> Request:
        """Return a request with what the rules leave it at this moment.

        To be asked for anew after every await: others are promised things meanwhile.
        """
        return self.tenancy.bounded(request, self.ledger, leaving=leaving)

    # The policy.

    @told
    def adopt(self, policy: InForce) -> InForce:
        """Go by another policy from here on, and return it; what has its place keeps it.

        Learned weights that nothing is known of yet decide nowhere (``guarding`` finds out).
        Decisions never await between looking at the rules and promising, so that each goes by one
        policy as a whole.
        """
        before = self.in_force
        self.in_force = policy if policy.policy.proven is not None else policy.after(before)
        policy = self.in_force
        seconds = policy.policy.plan_seconds
        given = msgspec.structs.replace(self._given, plan_solve_seconds=seconds)
        self.settings = _timed(given, policy.times)
        self.holds.lasts = self.settings.restart_hold_seconds
        for name, view in tuple(self.views.items()):
            labels = self._looked_at(name)
            if policy.policy != before.policy or view.labels != labels:
                by = msgspec.structs.replace(view, policy=policy.policy, labels=labels)
                self._replace(name, by)
        self.tenancy.adopt(policy.rules)
        self.fleet.begin_anew()
        self.room.set()  # who was refused may be allowed now
        log.info("policy_adopted", policy_version=policy.version, before=before.version)
        return policy

    # Who decides.

    def not_ready(self) -> str:
        """Return why no decision can be made here and now, "" if all is well."""
        return self.not_warm() or self.tenure.why_not()

    def not_warm(self) -> str:
        """Return why no decision could be made here even as the leader, "" if all is well."""
        if self.stopping:
            return GOING_AWAY
        return self.freshness.not_ready()

    @told
    def begin_term(self) -> None:
        """Decide from here on: on what was just listed anew, and on nothing promised before."""
        self.ledger = Ledger(self.ledger.assumed)  # of binds that go on from an earlier term
        self.requests.clear()
        self.pending.begin_term()
        self.enlisted.begin_term()
        self.room.set()  # whom the predecessor refused, nobody here knows
        self.arrivals.set()

    @told
    def end_term(self) -> None:
        """Let whoever waits for a change know that it will not be decided here any more."""
        self.refused = Refusals(REMEMBERED)
        self.changes.tell_all()

    @told
    def stop(self) -> None:
        """Let whoever waits for a change know that there is no time left for it."""
        self.stopping = True
        self.changes.tell_all()

    # Time.

    @told
    def tick(self) -> None:
        """Let presumptions and reservations expire, and silent agents' nodes become stale."""
        now = self.clock()
        self._presume_less(self.ledger.expire(now=now))
        self.demand.tell(now=now)
        self._forget_unseen(now=now)
        for name in tuple(self.avoidance.nodes):
            self.refresh_failing(name)
        for name, over in tuple(self.holds.over()):
            view = self.views[name]
            if view.lapsed != over:
                log.info("reservations_over", node=name, ids=sorted(over - view.lapsed))
                self._replace(name, msgspec.structs.replace(view, lapsed=over))
        if not self.freshness.deaf:
            for name in tuple(self.freshness.silent()):
                self._refresh_staleness(name)

    @told
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
        self.tenancy.changed(name, before, view)
        self.realizing.changed(name, before, view)
        if view is None:
            del self.views[name]
        else:
            self.views[name] = view
            for uid in view.pods:
                self.pending.placed(uid)
            self._look_for_room(before, view)
        if name in self.holds.claimed:
            self.vacating.set()
        self.fleet.changed(name, before)
        self.behind.set()
        self.changes.tell(name)

    def _look_for_room(self, before: NodeView | None, view: NodeView) -> None:
        """Ask for a wake-up if a refused pod fits now where it did not before."""
        if not self.room.is_set() and (
            (self.gangs_wait_for_room and (before is None or improved(before, view)))
            or (self.tenancy.rules and self.refused and (before is None or improved(before, view)))
            or self.refused.fit_now(before, view, self.ledger.assumed_on(view.name))
        ):
            self.room.set()


def _timed(settings: Settings, times: Times) -> Settings:
    """Return the settings with the times a policy has for them."""
    said = {name: each for name, each in msgspec.structs.asdict(times).items() if each is not None}
    return msgspec.structs.replace(settings, **said)
