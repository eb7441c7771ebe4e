"""The whole of what is known, as its policy, its term and the time change it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec
import structlog

from extender.claims import claims, is_move
from extender.ledger import Ledger
from extender.policy import InForce
from extender.policy.selectors import Labels
from extender.request import Request
from extender.service.knowledge.known import REMEMBERED, timed, told
from extender.service.knowledge.nodes import NodesKnown
from extender.service.knowledge.pods import PodsKnown
from extender.service.ports import Feed, PodFacts
from extender.service.refusals import Refusals
from extender.service.seam import restores
from extender.snapshot import NodeView
from nodeagent.api.gpunode import Assignment

log = structlog.get_logger()

GOING_AWAY = "vGPU: the extender is going away"


class Knowledge(NodesKnown, PodsKnown):
    """The mutable heart: one per process, used from one event loop.

    What it has :class:`~extender.service.knowledge.known.Known` says. The policy may be changed at
    any time (:meth:`adopt`); its times come before the settings'.
    """

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
    def namespace(self, name: str, labels: Labels) -> None:
        """Take in a Namespace: its labels tell whose it is."""
        if self.tenancy.namespace(name, labels):
            self.fleet.begin_anew()
            self.room.set()

    @told
    def namespace_gone(self, name: str) -> None:
        """Take in that a Namespace was deleted."""
        self.tenancy.namespace_gone(name)

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
        self.settings = timed(given, policy.times)
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
        # Of binds that go on from an earlier term, and of what every replica remembers.
        self.ledger = Ledger(self.ledger.assumed, lost=self.ledger.lost)
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

    # Going on from what was known elsewhere (``restating``).

    @restores
    def restore_view(self, view: NodeView) -> None:
        """Put a node as it was seen in its place."""
        by = msgspec.structs.replace(view, policy=self.in_force.policy)
        self._replace(view.name, by)

    @restores
    def restore_pod(self, pod: PodFacts) -> None:
        """Know a pod as the watch had it."""
        self.pods[pod.ref.uid] = pod

    @restores
    def restore_request(self, request: Request) -> None:
        """Remember a request as filter read it."""
        self.requests[request.pod.uid] = request

    @restores
    def restore_gone(self, uids: Collection[str], of_gangs: Collection[bool]) -> None:
        """Know of pods that they are no more, and which of them were in gangs."""
        self.gone.update(zip(uids, of_gangs, strict=True))

    @restores
    def restore_buried(self, uids: Collection[str]) -> None:
        """Know of GpuNodes that they were deleted."""
        self.buried.update(dict.fromkeys(uids))

    @restores
    def restore_lost(
        self, name: str, entries: Collection[Assignment], since: Collection[float]
    ) -> None:
        """Know what pods had in a plan of a node that is gone, and since when."""
        self.lost[name] = dict(zip(entries, since, strict=True))
        self._keep_lost(name)

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
        for name in self.holds.claimed:
            awaited = frozenset(self._awaited(self.views[name], now=now))
            self.holds.begin_anew(name, awaited)
        for name, over in tuple(self.holds.over()):
            view = self.views[name]
            if view.lapsed != over:
                log.info("reservations_over", node=name, ids=sorted(over - view.lapsed))
                self._replace(name, msgspec.structs.replace(view, lapsed=over))
        if not self.freshness.deaf:
            for name in tuple(self.freshness.silent()):
                self._refresh_staleness(name)

    def _awaited(self, view: NodeView, *, now: float) -> Iterator[str]:
        """Yield the claims on a node, by id, in whose way somebody is ending, be it for hours.

        Whoever waits for that has no others evicted. But none waits for who has had all of its
        grace, and where the node's agent is silent: nobody may be there to end them.
        """
        ending = set[str]()
        if not view.stale:
            known = ((uid, self.pods.get(uid)) for uid in view.pods)
            ending.update(uid for uid, pod in known if pod and self.ending.awaited(pod, now=now))
        for claim in claims(view) if ending else ():
            assert claim.owner is not None  # or it were none
            if not is_move(claim) and ending & self.in_the_way(view, claim.owner.name):
                yield claim.id
