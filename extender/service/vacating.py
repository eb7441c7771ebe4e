"""Places being cleared for pods: victims evicted, the place taken, or all of it given up.

::

    claim in the plan ─▶ evict who is in the way ─▶ nothing is left ─▶ the claim becomes the pod's
        │                       │ refused: again                       place, in one write
        └───────────────────────┴─▶ give up: the preemptor has gone or has a place elsewhere, an
                                    eviction is refused for long, or nobody left in time

Who is in the way of a pod that an order of moves admits is moved, not evicted: that is waited for,
until they have come to their places. Before, they might have to come back.

All of this is found in the plan, whoever wrote it: a leader that begins goes on where the last one
ended. What it does twice does no harm; an eviction names the pod's UID.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Set
from datetime import datetime
from functools import partial
from typing import NamedTuple

import structlog

from extender.claims import claims, claims_of, is_ahead, is_claim, is_move, vacated
from extender.metrics import Preempted
from extender.request import Request
from extender.service.clearing import clearing
from extender.service.evictable import evictable
from extender.service.evicting import Evicting
from extender.service.knowledge import Knowledge
from extender.service.patience import Patience
from extender.service.plans import Plans
from extender.service.ports import Cluster, ClusterUnavailable, PlanConflict, PodFacts
from extender.service.preemption_telling import PreemptionTeller
from extender.snapshot import NodeView
from extender.verbs import bind as decide
from extender.verbs.inherit import waited_for
from extender.verbs.verdicts import unsuitable
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import Assignment, PodRef

log = structlog.get_logger()


EVICTION_REFUSED = "an eviction is refused"


def waits(facts: PodFacts) -> bool:
    """Tell whether a pod is one that waits for a place."""
    return not (facts.node or facts.over or facts.deleting)


class GivenUp(NamedTuple):
    """A place that came to nothing: of which pod, by UID, where, and why.

    ``moved``: an order of moves was to make it, and nobody was to be evicted for the pod.
    """

    uid: str
    node: str
    why: str
    moved: bool = False


class Vacating:
    """Carries claims out; ``new_id`` gives assignments their ids, ``utc_now`` their time.

    ``fits_now`` tells whether a pod has come to fit somewhere, where nobody need go for it.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        plans: Plans,
        cluster: Cluster,
        evicting: Evicting,
        teller: PreemptionTeller,
        *,
        fits_now: Callable[[Request], bool],
        new_id: Callable[[], str],
        utc_now: Callable[[], datetime],
    ) -> None:
        self._knowledge = knowledge
        self._plans = plans
        self._cluster = cluster
        self._evicting = evicting
        self._teller = teller
        self._fits_now = fits_now
        self._new_id = new_id
        self._utc_now = utc_now
        self._blocked: dict[str, float] = {}
        self._shown: set[str] = set()
        self._since: dict[str, float] = {}

    def waiting(self) -> dict[str, str]:
        """Return the nodes on which preemptors wait for their places, by the preemptor's UID."""
        found = {}
        for node in self._knowledge.holds.claimed:
            for claim in claims(self._knowledge.views[node]):
                assert claim.owner is not None  # or it were none
                if is_ahead(claim):
                    continue
                found[claim.owner.name] = node
        return found

    @property
    def preemptions(self) -> int:
        """For how many pods others are being evicted, but for those that end for very long."""
        views, claimed = self._knowledge.views, self._knowledge.holds.claimed
        own = (claim for node in claimed for claim in claims(views[node]) if not is_move(claim))
        waiting = {claim.owner.name for claim in own if claim.owner is not None}
        now, most = self._knowledge.clock(), self._knowledge.settings.claim_seconds
        return sum(now - self._since.get(uid, now) < most for uid in waiting)

    async def go_on(self) -> Collection[GivenUp]:
        """Do for each claim what there is to do; return what was given up.

        For whom nothing can be done now, something will be: the plan has it.
        """
        waiting, now = self.waiting(), self._knowledge.clock()
        self._evicting.forget()
        self._teller.forget(waiting)
        self._shown &= waiting.keys()
        self._since = {uid: self._since.get(uid, now) for uid in waiting}
        over = []
        for uid, node in (*waiting.items(), *self._lapsed()):
            try:
                why = await self._advance(node, uid)
                if why:
                    moved = await self._give_up(node, uid, why)
                    over.append(GivenUp(uid, node, why, moved))
            except ClusterUnavailable as error:
                log.warning("preemption_postponed", uid=uid, node=node, error=str(error))
        return over

    def _lapsed(self) -> Collection[tuple[str, str]]:
        """Return the preemptors whose claims have lapsed, with the nodes."""
        return {
            (each.owner.name, node)
            for node in self._knowledge.holds.claimed
            for each in self._knowledge.views[node].reservations
            if is_claim(each)
            and each.owner is not None
            and each.id in self._knowledge.views[node].lapsed
        }

    async def _advance(self, node: str, uid: str) -> str:
        """Evict, or take the place; return why it is to be given up, "" while it is not."""
        knowledge = self._knowledge
        view, facts = knowledge.views.get(node), knowledge.pods.get(uid)
        if view is None:
            return ""
        if facts is None or not (facts.node or waits(facts)):
            return "the pod is gone"
        if facts.node or uid in knowledge.assigned:
            return "the pod has a place elsewhere"
        asked, own = facts.asked, claims_of(view, uid)
        moved = any(map(is_move, own))  # those in the way are moved; here they are waited for
        preempts = isinstance(asked, Request) and asked.preempts and knowledge.settings.preempts
        if not isinstance(asked, Request) or not (moved or preempts):
            return "nobody is to be evicted for the pod"
        if not own:
            return "those in the way did not leave in time"
        if not self._ripe(own):
            return ""
        way = knowledge.in_the_way(view, uid)
        if not way and vacated(view, own):
            return await self._take(node, asked)
        if not (view.stale or view.unsettled) and unsuitable(view, asked.wanted) is not None:
            return "the node takes nothing new"
        if moved:
            return ""
        return await self._evict(view, asked, way)

    def _ripe(self, own: Collection[Assignment]) -> bool:
        """Tell whether those who left for an order of moves have come to their places."""
        return all(each.id in self._knowledge.ripe_claims for each in own if is_move(each))

    async def _evict(self, view: NodeView, preemptor: Request, there: Set[str]) -> str:
        """Evict who is in the way, until one may not be; return why to give up, "" if not."""
        knowledge, evicting = self._knowledge, self._evicting
        units = evictable(knowledge, view, preemptor)
        if any(uid not in units and not evicting.leaves(uid) for uid in there):
            return "a pod in the way may not be evicted"
        going = {each.uid for uid in there & units.keys() for each in units[uid]}
        # Of a gang those in the way go last: by them the others are known.
        if all(map(evicting.leaves, going)):
            self._show(view.name, preemptor)
            known = [facts for uid in there if (facts := knowledge.pods.get(uid)) is not None]
            if ending := [facts.ref for facts in known if facts.deleting]:
                await self._teller.waits(preemptor.pod, view.name, ending)
            return ""
        if not await self._waits(preemptor.pod):
            return "the pod is gone"  # the watch may be late
        order = {uid: (evicting.refused_since(uid), uid in there, uid) for uid in going}
        ordered = sorted(going, key=order.__getitem__)
        if not any(map(evicting.leaves, going)):  # before the first of them goes
            if not self._is_still_to_go(ordered[0], view.name, preemptor):
                return ""
            victims = [knowledge.pods[uid] for uid in ordered]
            refused = await evicting.rehearse(victims, preemptor.pod)
            if refused:
                return EVICTION_REFUSED if evicting.refused_for_long(refused) else ""
        for uid in ordered:
            if evicting.leaves(uid):
                continue
            still = partial(self._is_still_to_go, uid, view.name, preemptor)
            if not still():
                return ""
            if not await evicting.evict(knowledge.pods[uid], preemptor.pod, still):
                return EVICTION_REFUSED if still() and evicting.refused_for_long(uid) else ""
        return ""

    def _show(self, node: str, preemptor: Request) -> None:
        """Have kube-scheduler ask for a pod once more when all leave, that it may nominate it."""
        knowledge, uid = self._knowledge, preemptor.pod.uid
        if uid not in self._shown and clearing(knowledge, preemptor, (node,)):
            self._shown.add(uid)
            knowledge.room.set()

    def _is_still_to_go(self, victim: str, node: str, preemptor: Request) -> bool:
        """Tell whether a pod is to be evicted for another as things are at this moment."""
        knowledge, uid = self._knowledge, preemptor.pod.uid
        if knowledge.not_ready():
            return False
        view, facts = knowledge.views.get(node), knowledge.pods.get(uid)
        if view is None or facts is None or not waits(facts) or uid in knowledge.assigned:
            return False
        if self._has_found_room(uid) or self._fits_now(preemptor):
            return False
        units = evictable(knowledge, view, preemptor)
        way = knowledge.in_the_way(view, uid)
        return any(each.uid == victim for pod in way & units.keys() for each in units[pod])

    def _has_found_room(self, uid: str) -> bool:
        """Tell whether kube-scheduler was told of room for a pod when it asked last.

        It may be about to be bound there: until that has come to something, or it is refused again,
        nobody is evicted for it. Of whom it has not asked since we lead, that is not known.
        """
        knowledge = self._knowledge
        return uid in knowledge.requests and uid not in knowledge.refused.uids

    async def _waits(self, pod: PodRef) -> bool:
        """Read whether a pod still waits for a place.

        Raises:
            ClusterUnavailable: that could not be read.
        """
        facts = await self._cluster.read_pod(pod.namespace, pod.name)
        return facts is not None and facts.ref.uid == pod.uid and waits(facts)

    async def _take(self, node: str, request: Request) -> str:
        """Make the claim the pod's place; return why that cannot be, "" if it is, or may be yet."""
        knowledge, pod, conflicts = self._knowledge, request.pod, 0
        patience = Patience(knowledge)
        async with self._plans.turn(node):
            while (view := knowledge.views.get(node)) is not None:
                own = claims_of(view, pod.uid)
                if not (own and self._ripe(own) and vacated(view, own)):
                    return ""
                if pod.uid in knowledge.assigned:
                    return ""
                choice = waited_for(view, knowledge.ledger, knowledge.bounded(request))
                if choice is None:
                    return self._not_yet(pod.uid)
                entries = decide.assignments(
                    request,
                    choice,
                    ids=iter(self._new_id, None),
                    since=rfc3339.microseconds(self._utc_now()),
                )
                ids = [each.id for each in own]
                try:
                    await self._plans.write(view, add=entries, remove=ids, patience=patience)
                except PlanConflict as conflict:
                    conflicts += 1
                    await patience.pause(conflict, conflicts)
                    continue
                self._blocked.pop(pod.uid, None)
                moved = any(map(is_move, own))
                if not moved:
                    knowledge.work.preemptions.ended(Preempted.PLACED)
                log.info(
                    "admission_placed" if moved else "preemption_placed",
                    pod=pod.name,
                    namespace=pod.namespace,
                    uid=pod.uid,
                    node=node,
                    policy_version=knowledge.in_force.version,
                )
                knowledge.room.set()
                return ""
        return ""

    def _not_yet(self, uid: str) -> str:
        """Return why to give up if a place is not to be had for long though nobody is there."""
        now = self._knowledge.clock()
        since = self._blocked.setdefault(uid, now)
        patience = self._knowledge.settings.eviction_patience_seconds
        return "" if now - since < patience else "the place is not what it was"

    async def _give_up(self, node: str, uid: str, why: str) -> bool:
        """Take a pod's claims back; whoever was evicted for it is not brought back.

        Return whether they were those of an order of moves.
        """
        view = self._knowledge.views.get(node)
        moved = view is not None and any(
            is_move(each) and each.owner is not None and each.owner.name == uid
            for each in view.reservations
        )
        await self._plans.unclaim(node, uid)
        self._blocked.pop(uid, None)
        if not moved:
            self._knowledge.work.preemptions.ended(Preempted.GIVEN_UP)
        event = "admission_given_up" if moved else "preemption_given_up"
        log.info(event, uid=uid, node=node, reason=why)
        self._knowledge.room.set()
        return moved
