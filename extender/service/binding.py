"""bind: take the slices, write the plan, wait for the instance, post the Binding.

::

    choose ─▶ assume ─▶ write the plan ─▶ confirm ─▶ wait for "realized" ─▶ Binding ─▶ ""
       ▲                    │ conflict                    │ too slow         │ unknown outcome
       └────────────────────┘                             ▼                  ▼
                                                  Error, place kept    read the pod, then decide

A bind may be repeated, late, or cut off anywhere. It is idempotent by the pod's UID: what an
earlier one wrote to the plan is found there and continued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import assert_never

import msgspec
import structlog

from extender import wire
from extender.metrics import Phase
from extender.planning.gangs import Standing
from extender.request import NotOurs, Request, Unanswerable
from extender.service.enlisted import key
from extender.service.gangs import Gangs
from extender.service.knowledge import GOING_AWAY, Knowledge
from extender.service.patience import Patience
from extender.service.placing import Placer
from extender.service.plans import Plans
from extender.service.ports import Cluster, ClusterUnavailable, PodFacts
from extender.service.posting import LONGEST_TEXT, BindFailed, NotBound, Poster
from extender.service.rendezvous import GANG_BROKEN, Rendezvous
from extender.service.trust import Trust
from extender.service.underway import Underway
from extender.verbs import bind as decide
from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment, PodRef

log = structlog.get_logger()


class Binder:
    """Carries binds out, one at a time for each pod.

    ``new_id`` gives assignments their ids, ``utc_now`` their time for people.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        gangs: Gangs,
        plans: Plans,
        cluster: Cluster,
        *,
        new_id: Callable[[], str],
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._knowledge = knowledge
        self._gangs = gangs
        self._rendezvous = Rendezvous(knowledge, gangs)
        self._plans = plans
        self._trust = Trust(knowledge)
        self._placer = Placer(knowledge, plans, self._trust, new_id=new_id, utc_now=utc_now)
        self._poster = Poster(knowledge, plans, cluster)
        self._cluster = cluster
        self.underway = Underway()

    async def bind(self, args: wire.BindingArgs) -> wire.BindingResult:
        """Bind a pod to the node the scheduler chose, or say why not, before the time is up."""
        knowledge = self._knowledge
        began = knowledge.clock()
        answer_by = began + knowledge.settings.bind_answer_seconds
        pod = PodRef(args.pod_namespace, args.pod_name, args.pod_uid)
        facts = {"pod": pod.name, "namespace": pod.namespace, "uid": pod.uid, "node": args.node}
        why_not = knowledge.not_ready()
        if why_not:
            return wire.BindingResult(why_not)
        try:
            with self.underway.bind(pod.uid) as lock:
                async with asyncio.timeout(knowledge.settings.bind_answer_seconds), lock:
                    await self._bind(pod, args.node, Patience(knowledge, until=answer_by))
        except BindFailed as error:
            log.info("bind_failed", **facts, **self._told(began), reason=str(error))
            return wire.BindingResult(str(error))
        except TimeoutError:
            log.warning("bind_unfinished", **facts, **self._told(began), error="timeout")
            return wire.BindingResult("vGPU: the API server did not answer in time")
        except ClusterUnavailable as error:
            log.warning("bind_unfinished", **facts, **self._told(began), error=str(error))
            return wire.BindingResult(f"vGPU: the API server did not do it: {error}"[:LONGEST_TEXT])
        log.info("pod_bound", **facts, **self._told(began))
        return wire.BindingResult()

    def _told(self, began: float) -> dict[str, object]:
        """Return what every log line of a bind that *began* then says besides whom it is about."""
        seconds = round(self._knowledge.clock() - began, 6)
        return {"policy_version": self._knowledge.in_force.version, "seconds": seconds}

    async def _bind(self, pod: PodRef, node: str, patience: Patience) -> None:
        facts = await self._facts(pod, patience)
        if facts.node:
            if facts.node == node:
                return  # bound by an earlier call whose answer did not arrive
            raise BindFailed("vGPU: the pod is bound to another node")
        if facts.over:
            raise BindFailed("vGPU: the pod has ended")
        match facts.asked:
            case Unanswerable(reason=reason):
                raise BindFailed(reason)
            case NotOurs():
                await self._poster.post(pod, node, {}, patience.until, seen=facts)
            case Request() as request:
                await self._bind_ours(request, node, patience, seen=facts)
            case unexpected:
                assert_never(unexpected)

    async def _bind_ours(
        self, request: Request, node: str, patience: Patience, *, seen: PodFacts
    ) -> None:
        pod = request.pod
        if request.gang is not None:
            why_not = await self._rendezvous.wait(request, node, patience.until)
            if why_not:
                raise BindFailed(why_not)
        elsewhere = self._knowledge.assigned.get(pod.uid, node)
        if elsewhere != node:
            await self._poster.give_back(pod, elsewhere, patience)
        work, clock = self._knowledge.work, self._knowledge.clock
        with work.phase(Phase.PLAN, clock):
            entries = await self._placer.place(request, node, patience, unsure=seen.giving_back)
        with work.phase(Phase.REALIZE, clock):
            await self._realized(request, node, entries, patience)
        if request.gang is not None and not self._gangs.post(request):
            raise BindFailed(GANG_BROKEN)
        version = self._knowledge.in_force.version
        note = decide.annotation(self._knowledge.views[node], entries, version)
        try:
            with work.phase(Phase.POST, clock):
                await self._poster.post(
                    pod,
                    node,
                    {keys.DECISION_ANNOTATION: note},
                    patience.until,
                    seen=seen,
                    ids=[each.id for each in entries],
                    ready=lambda: self._ready(request, node, entries),
                )
        except NotBound:
            if request.gang is not None:
                self._gangs.posted(key(request.gang), pod.uid, bound=False)
            raise
        if request.gang is not None:
            self._gangs.posted(key(request.gang), pod.uid, bound=True)

    def _ready(self, request: Request, node: str, entries: Sequence[Assignment]) -> bool:
        view, ids = self._knowledge.views.get(node), {each.id for each in entries}
        return (
            view is not None
            and ids <= {each.id for each in view.assignments_of(request.pod.uid)}
            and view.realized(ids)
            and (request.gang is None or self._gangs.post(request))
        )

    async def _lost(self, request: Request, node: str, patience: Patience) -> None:
        """Give back the places of a pod that cannot have them; its gang's too, if none is bound."""
        gang = request.gang
        if gang is None or self._gangs.standing(key(gang)) is Standing.BEGUN:
            await self._poster.give_back(request.pod, node, patience)
        else:
            self._gangs.lose(key(gang))

    async def _facts(self, pod: PodRef, patience: Patience) -> PodFacts:
        """Return what is known of a pod; read it unless it is watched, and was filtered just now.

        A gang's members are read all the same: one that is gone, and of whose end the watch has not
        told, would come to where they wait for each other, and the others be bound without it. So
        is one that was read to have ended: it would be given the place held for the next.
        """
        request, ended = self._knowledge.requests.get(pod.uid), pod.uid in self._knowledge.ended
        facts = self._knowledge.pods.get(pod.uid)
        alone = request is not None and request.gang is None
        if request is not None and alone and not ended and facts is not None and not facts.node:
            return msgspec.structs.replace(facts, asked=request)
        facts = await patience.again(lambda: self._cluster.read_pod(pod.namespace, pod.name))
        if facts is None or facts.ref.uid != pod.uid:
            raise BindFailed("vGPU: the pod is gone")
        return facts

    async def _realized(
        self, request: Request, node: str, entries: Sequence[Assignment], patience: Patience
    ) -> None:
        """Wait until the agent has made the instances and tied them to device slots."""
        knowledge, uid = self._knowledge, request.pod.uid
        ids = [each.id for each in entries]
        until = patience.until - knowledge.settings.binding_start_margin_seconds
        while True:
            view = knowledge.views.get(node)
            if view is None or not {a.id for a in view.assignments_of(uid)} >= set(ids):
                raise BindFailed("vGPU: the place was taken back")
            if view.realized(ids):
                self._trust.realized(view, ids)
                return
            if knowledge.stopping:
                raise BindFailed(f"{GOING_AWAY}, the place stays reserved")
            if knowledge.tenure.why_not():
                raise BindFailed("vGPU: another extender leads by now, the place stays reserved")
            failure = view.failure(ids)
            if failure:
                self._trust.not_realized(view, ids)
                await self._lost(request, node, patience)
                raise BindFailed(f"vGPU: the GPU instance cannot be created: {failure}")
            try:
                await knowledge.changes.of(node, within=until - knowledge.clock())
            except TimeoutError:
                if not knowledge.reservation_over(uid):
                    text = "vGPU: the GPU instance is not ready yet, its place stays reserved"
                    raise BindFailed(text) from None
                # Here and not in the reclaim alone, which lets a pod be while a bind is under way:
                # one that is tried again and again would keep its place for ever.
                self._trust.not_realized(view, ids)
                await self._lost(request, node, patience)
                text = "vGPU: the GPU instance did not become ready, its place was given back"
                raise BindFailed(text) from None
