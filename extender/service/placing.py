"""A bind's places: chosen, assumed, and written to the plan, for all that wait for the same node.

A policy that packs sends one pod after the other to the same node. Each write of its plan takes the
API server some hundredths of a second; were there one for each pod, they would wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

import msgspec
import structlog

from extender.request import Request
from extender.service.choosing import Chooser
from extender.service.knowledge import GOING_AWAY, Knowledge
from extender.service.patience import Patience
from extender.service.plans import Plans
from extender.service.ports import ClusterUnavailable, PlanConflict
from extender.service.posting import BindFailed
from extender.service.trust import Trust
from extender.snapshot import NodeView
from extender.verbs import bind as decide
from extender.verbs.inherit import superseded
from extender.verbs.verdicts import UNREPORTED
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import Assignment, PodRef

log = structlog.get_logger()


class _Place(msgspec.Struct, frozen=True):
    """What was chosen and assumed for a pod, not yet written; ``superseded`` are ids to remove."""

    pod: PodRef
    entries: tuple[Assignment, ...]
    superseded: tuple[str, ...]
    policy_version: str


class Placer:
    """Writes places to plans; ``new_id`` gives them ids, ``utc_now`` their time for people."""

    def __init__(
        self,
        knowledge: Knowledge,
        plans: Plans,
        trust: Trust,
        *,
        new_id: Callable[[], str],
        utc_now: Callable[[], datetime],
    ) -> None:
        self._knowledge = knowledge
        self._chooser = Chooser(knowledge)
        self._plans = plans
        self._trust = trust
        self._new_id = new_id
        self._utc_now = utc_now
        self._coming: dict[str, dict[str, Request]] = {}

    async def place(
        self, request: Request, node: str, patience: Patience, *, unsure: Collection[str] = ()
    ) -> Sequence[Assignment]:
        """Write the pod's places on *node* to the plan, or find them there.

        Those of ids that are *unsure*, which somebody was about to take back, are written anew.
        Whoever has its turn writes for all that wait for theirs, so that many pods on one node cost
        few writes; those find their places there.
        """
        if node not in self._knowledge.views:
            raise BindFailed(UNREPORTED.reason)
        uid, conflicts, alone = request.pod.uid, 0, False
        coming = self._coming.setdefault(node, {})
        coming[uid] = request
        try:
            async with self._plans.turn(node):
                while True:
                    if self._planned(uid, node):
                        await patience.again(lambda: self._plans.settled(node))
                    view = self._knowledge.views.get(node)
                    if view is None:
                        raise BindFailed(UNREPORTED.reason)
                    entries = view.assignments_of(uid)
                    pod = self._knowledge.pods.get(uid)
                    doubted = (*unsure, *(pod.giving_back if pod is not None else ()))
                    if entries and {each.id for each in entries}.isdisjoint(doubted):
                        return entries
                    if self._knowledge.stopping:
                        raise BindFailed(GOING_AWAY)
                    if entries:
                        place: _Place | str = self._anew(request.pod, entries)
                    else:
                        place = self._chosen(view, request)
                    if isinstance(place, str):
                        raise BindFailed(place)
                    besides = {} if alone else {u: r for u, r in coming.items() if u != uid}
                    try:
                        await self._write(view, place, besides.values(), patience)
                    except PlanConflict as conflict:
                        conflicts += 1
                        await patience.pause(conflict, conflicts)
                    except ClusterUnavailable as error:
                        if alone or error.passing or not besides:
                            raise
                        alone = True  # what is refused may be somebody else's
                    else:
                        return place.entries
        finally:
            del coming[uid]
            if not coming:
                self._coming.pop(node, None)

    def _planned(self, uid: str, node: str) -> bool:
        view = self._knowledge.views.get(node)
        return view is not None and bool(view.assignments_of(uid))

    def _anew(self, pod: PodRef, entries: Sequence[Assignment]) -> _Place:
        """Return the same places under other ids."""
        anew = tuple(msgspec.structs.replace(each, id=self._new_id()) for each in entries)
        version = self._knowledge.in_force.version
        return _Place(pod, anew, tuple(each.id for each in entries), version)

    def _chosen(self, view: NodeView, request: Request) -> _Place | str:
        """Choose and assume a pod's places on a node, as it is now, or say why not."""
        choice = self._chooser.choose(request, view.name)
        if isinstance(choice, str):
            return choice
        entries = decide.assignments(
            request,
            choice,
            ids=iter(self._new_id, None),
            since=rfc3339.microseconds(self._utc_now()),
        )
        superfluous = superseded(view, request, choice)
        version = self._knowledge.in_force.version
        return _Place(request.pod, entries, tuple(superfluous), version)

    async def _write(
        self, view: NodeView, place: _Place, besides: Iterable[Request], patience: Patience
    ) -> None:
        """Write a *place* that was chosen by *view*, and those of the pods that come *besides*."""
        knowledge, places = self._knowledge, [place]
        began = knowledge.clock()
        try:
            with self._trust.probing(view.name, [each.id for each in place.entries]):
                # To a node that is being probed nothing else may go: it refuses the others now.
                for request in besides:
                    there = knowledge.views[view.name]
                    if not there.assignments_of(request.pod.uid):
                        other = self._chosen(there, request)
                        if isinstance(other, _Place):
                            places.append(other)
                            self._trust.awaits([each.id for each in other.entries])
                await self._plans.write(
                    view,
                    add=[entry for each in places for entry in each.entries],
                    remove={id for each in places for id in each.superseded},
                    patience=patience,
                )
        except BaseException:
            # Unknown, but for a conflict: the entries may be there. The next bind, or the reclaim,
            # will see them.
            for each in places:
                knowledge.forget(each.pod.uid)
            raise
        for each in places:
            knowledge.confirm(each.pod.uid)
            log.info(
                "place_chosen",
                pod=each.pod.name,
                namespace=each.pod.namespace,
                uid=each.pod.uid,
                node=view.name,
                policy_version=each.policy_version,
                seconds=round(knowledge.clock() - began, 6),
            )
