"""Room for pods of higher priority: the leader evicts where kube-scheduler cannot know whom.

Through Kubernetes 1.37 the scheduler sees no shortage of GPU instances and proposes nobody. Here,
for a pod that is refused for want of room, the cheapest sufficient victims in all of the cluster
are chosen (``weighing``); its place is claimed in the plan before anybody is evicted, and from
there on it is ``vacating``'s.

Nothing begins in haste, or again and again: a pod has waited for a moment, preemptions begin one at
a time, and where none helps, or one came to nothing, pods that ask alike wait ever longer before
the next is looked for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice

import msgspec
import structlog

from extender.claims import claimant
from extender.request import Request
from extender.service.events import PodEvents
from extender.service.evicting import Evicting
from extender.service.knowledge import Knowledge
from extender.service.patience import Patience
from extender.service.plans import Plans
from extender.service.ports import Cluster, ClusterUnavailable, Evictor, PlanConflict
from extender.service.preemption_telling import PreemptionTeller
from extender.service.shapes import Shape, shape_of
from extender.service.vacating import EVICTION_REFUSED, Vacating, waits
from extender.service.weighing import Weighing
from extender.verbs.inherit import superseded
from extender.verbs.reasons import Code
from extender.verbs.victims import Preemption
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import Assignment

log = structlog.get_logger()

MOST_WATCHED = 1000
"""Refused pods looked at in one step, those refused longest ago."""


class _Pause(msgspec.Struct, frozen=True):
    """Until when no victims are looked for, on the service's clock, and the length of that."""

    seconds: float
    until: float


class Preempting:
    """Begins preemptions, and lets ``vacating`` go on with them."""

    def __init__(
        self,
        knowledge: Knowledge,
        plans: Plans,
        cluster: Cluster,
        evictor: Evictor,
        events: PodEvents | None,
        *,
        new_id: Callable[[], str],
        utc_now: Callable[[], datetime],
    ) -> None:
        self._knowledge = knowledge
        self._plans = plans
        self._cluster = cluster
        self._teller = PreemptionTeller(knowledge, events)
        self._new_id = new_id
        self._utc_now = utc_now
        evicting = Evicting(knowledge, evictor, events)
        self._weighing = Weighing(knowledge, evictor, spared=lambda: evicting.spared)
        self._vacating = Vacating(
            knowledge,
            plans,
            cluster,
            evicting,
            self._teller,
            fits_now=self._weighing.fits_now,
            new_id=new_id,
            utc_now=utc_now,
        )
        self._since: dict[str, float] = {}
        self._pauses: dict[Shape, _Pause] = {}
        self._tried: dict[str, set[str]] = {}
        # Whoever has had others evicted, and waits again: its place may have come to nothing.
        self._again: dict[str, _Pause] = {}

    async def run(self) -> None:
        """Preempt until cancelled."""
        knowledge = self._knowledge
        while True:
            if not knowledge.not_ready():
                try:
                    await self.step()
                except ClusterUnavailable as error:
                    log.warning("preemption_postponed", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(knowledge.settings.sweep_interval_seconds):
                    await knowledge.vacating.wait()
            knowledge.vacating.clear()

    async def step(self) -> None:
        """Go on with what has begun, and begin one more if there is reason to.

        Raises:
            ClusterUnavailable: none could be begun.
        """
        knowledge, settings = self._knowledge, self._knowledge.settings
        for each in await self._vacating.go_on():
            if each.moved:
                continue  # that says nothing of whom an eviction would help
            if each.why != EVICTION_REFUSED:  # then the pod is spared, not the node
                self._tried.setdefault(each.uid, set()).add(each.node)
            facts = knowledge.pods.get(each.uid)
            if facts is not None and isinstance(facts.asked, Request):
                self._pause(shape_of(knowledge, facts.asked))
        self._look()
        if settings.preempts and self._vacating.preemptions < settings.preemptions_at_once:
            await self._begin()

    # Who may preempt.

    def _look(self) -> None:
        """Note since when pods are refused for want of room, and forget those that are no more."""
        knowledge, now = self._knowledge, self._knowledge.clock()
        watched = islice(knowledge.refused.uids, MOST_WATCHED)
        refused = [each for uid in watched if (each := knowledge.refused.get(uid)) is not None]
        self._since = {
            each.request.pod.uid: self._since.get(each.request.pod.uid, now)
            for each in refused
            if Code.NO_ROOM in each.codes and self._may_preempt(each.request)
        }
        self._tried = {uid: at for uid, at in self._tried.items() if uid in knowledge.refused.uids}
        self._again = {uid: p for uid, p in self._again.items() if uid in knowledge.pods}
        shapes = {shape_of(knowledge, each.request) for each in refused}
        self._pauses = {s: p for s, p in self._pauses.items() if s in shapes or p.until > now}
        self._weighing.remember(self._pauses)

    def _may_preempt(self, request: Request) -> bool:
        """Tell whether others may be evicted for a pod: not for one of a gang.

        Nor once kube-scheduler has been told of room for it: it may be about to be bound there.
        """
        knowledge, uid = self._knowledge, request.pod.uid
        facts = knowledge.pods.get(uid)
        return (
            request.preempts
            and request.gang is None
            and facts is not None
            and waits(facts)
            and uid in knowledge.refused.uids
            and uid not in knowledge.assigned
            and uid not in knowledge.ledger.planned
        )

    def _due(self) -> Sequence[Request]:
        """Return the pods for which victims are to be looked for, the highest priority first."""
        knowledge, now = self._knowledge, self._knowledge.clock()
        patience, waiting = knowledge.settings.preemption_patience_seconds, self._vacating.waiting()
        due: dict[Shape, Request] = {}
        for uid, since in self._since.items():
            refused = knowledge.refused.get(uid)
            if refused is None or uid in waiting or now - since < patience:
                continue
            shape = shape_of(knowledge, refused.request)
            pauses = (self._pauses.get(shape), self._again.get(uid))
            if all(pause is None or pause.until <= now for pause in pauses):
                due.setdefault(shape, refused.request)
        return sorted(due.values(), key=lambda each: -knowledge.tenancy.priority(each))

    def _pause(self, shape: Shape, *, longer: bool = True) -> None:
        """Look for no victims for such pods for a while; each time *longer*, twice as long."""
        self._pauses[shape] = self._longer(self._pauses.get(shape), 2.0 if longer else 1.0)

    def _pause_between(self, shape: Shape) -> None:
        """Look at further nodes for such pods soon, and as rarely as before once all were."""
        pause = self._pauses.get(shape) or self._longer(None)
        seconds = self._knowledge.settings.preemption_pause_seconds
        self._pauses[shape] = _Pause(pause.seconds, self._knowledge.clock() + seconds)

    def _longer(self, known: _Pause | None, times: float = 2.0) -> _Pause:
        """Return a pause that begins now, so many *times* as long as the one *known*."""
        settings = self._knowledge.settings
        seconds = settings.preemption_pause_seconds if known is None else known.seconds * times
        seconds = min(seconds, settings.preemption_longest_pause_seconds)
        return _Pause(seconds, self._knowledge.clock() + seconds)

    # Beginning.

    async def _begin(self) -> None:
        """Begin a preemption for the first pod that one helps."""
        for request in self._due():
            shape, tried = shape_of(self._knowledge, request), self._tried.get(request.pod.uid, ())
            patient = self._patient(request)
            try:
                found = await self._weighing.cheapest(request, tried, waits=patient)
                if found is None and self._weighing.has_more(shape):
                    self._pause_between(shape)
                elif found is None:
                    self._pause(shape)
                elif not found.victims:
                    self._pause(shape, longer=False)
                elif await self._claim(request, found, patient=patient):
                    self._pauses.pop(shape, None)
                    self._again[request.pod.uid] = self._longer(self._again.get(request.pod.uid))
                    return
            except ClusterUnavailable:
                self._pause(shape)  # or no other would ever come to its turn
                raise

    def _patient(self, request: Request) -> bool:
        """Tell whether to count on what is leaving anyway; not for ever, for it may be stuck."""
        now = self._knowledge.clock()
        waited = now - self._since.get(request.pod.uid, now)
        return waited < self._knowledge.settings.eviction_patience_seconds

    async def _claim(self, request: Request, meant: Preemption, *, patient: bool) -> bool:
        """Claim the place in the plan, if it is still to be had from the same; tell whether so.

        What is held for the pod's owner there gives way to that.

        Raises:
            ClusterUnavailable: that is not known; what was written will be found in the plan.
        """
        knowledge, node = self._knowledge, meant.node
        pod, victims = request.pod, {each.uid for each in meant.victims}
        facts = await self._cluster.read_pod(pod.namespace, pod.name)
        if facts is None or facts.ref.uid != pod.uid or not waits(facts):
            return False  # the watch is late
        patience, conflicts = Patience(knowledge), 0
        async with self._plans.turn(node):
            while (found := self._weighing.on(request, node, waits=patient)) is not None:
                changed = {each.uid for each in found.victims} != victims
                fits = self._weighing.fits_now(request)  # nothing is awaited until it is claimed
                if changed or fits or not self._may_preempt(request):
                    return False
                claims, view = self._claims(request, found), knowledge.views[node]
                own = superseded(view, request, found.choice)
                try:
                    await self._plans.write(view, add=claims, remove=own, patience=patience)
                except PlanConflict as conflict:
                    conflicts += 1
                    await patience.pause(conflict, conflicts)
                    continue
                knowledge.vacating.set()
                await self._teller.began(request, found)
                return True
        return False

    def _claims(self, request: Request, found: Preemption) -> Sequence[Assignment]:
        since = rfc3339.microseconds(self._utc_now())
        return [
            Assignment(
                id=self._new_id(),
                gpu=each.uuid,
                profile_id=each.profile_id,
                start=each.placement.start,
                size=each.placement.size,
                resource=each.wanted,
                since=since,
                owner=claimant(request.pod),
            )
            for each in found.choice.placed
        ]
