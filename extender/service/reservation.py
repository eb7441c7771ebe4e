"""Gangs carried out: the places of all members written to the plans, or of none.

All members are assumed before the first write, so that nobody else takes what is still to be
written. Each node's part is one patch; if one is lost, all of them are taken back. What a killed
writer leaves half written is found by ``sweep``, its own or a successor's. Before that gives places
back, it reads the pods: a Binding that a predecessor posted counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import structlog

from extender.ledger import Planned
from extender.packing.choose import Choice
from extender.planning.gangs import Standing
from extender.planning.joint import Waiting
from extender.request import Request
from extender.service.enlisted import Key, key
from extender.service.gangs import Gangs
from extender.service.knowledge import Knowledge
from extender.service.patience import Patience
from extender.service.plans import Plans
from extender.service.ports import Cluster, ClusterUnavailable, PlanConflict
from extender.service.trust import Trust
from extender.service.unbound import read_past_bindings
from extender.verbs import bind as decide
from extender.verbs.planned import planned
from extender.verbs.verdicts import GANG_NO_ROOM
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import Assignment

log = structlog.get_logger()


class Reservations:
    """Reserves gangs. ``new_id`` gives assignments their ids, ``utc_now`` their time."""

    def __init__(
        self,
        knowledge: Knowledge,
        gangs: Gangs,
        plans: Plans,
        cluster: Cluster,
        *,
        new_id: Callable[[], str],
        utc_now: Callable[[], datetime],
    ) -> None:
        self._knowledge = knowledge
        self._gangs = gangs
        self._plans = plans
        self._trust = Trust(knowledge)
        self._cluster = cluster
        self._new_id = new_id
        self._utc_now = utc_now

    async def decide(
        self,
        of: Key,
        waiting: Sequence[Waiting],
        considered: Collection[str],
        places: Mapping[str, Planned],
        *,
        began: float,
    ) -> None:
        """Reserve a gang whole, or note that there is no room for it, or that it was left out.

        A plan says nothing of a gang that it has not *considered*; of one with more members than a
        plan takes, none ever will. The plan *began* at that time.
        """
        members = [w for w in waiting if w.request.gang is not None and key(w.request.gang) == of]
        enlisted = self._knowledge.enlisted
        unseen = not all(each.uid in considered for each in members)
        if unseen and len(members) <= self._knowledge.settings.plan_pods:
            enlisted.leave_out(of)
            return
        requests = [each.request for each in members]
        if not members or not all(each.uid in places for each in members):
            over = self._knowledge.tenancy.over_cap(requests, self._knowledge.ledger)
            why = over or GANG_NO_ROOM
            enlisted.refuse(of, why)
            log.info(
                "gang_refused",
                namespace=of[0],
                gang=of[1],
                members=len(members),
                reason=why.reason,
                uids=[each.uid for each in members],
                policy_version=self._knowledge.in_force.version,
                seconds=round(self._knowledge.clock() - began, 6),
            )
            return
        enlisted.welcome(of)
        if self._gangs.standing(of) is not Standing.COMPLETE:
            return  # a member has gone meanwhile
        try:
            reserved = await self._reserve(of, requests, places)
        except ClusterUnavailable as error:
            log.warning("gang_postponed", namespace=of[0], gang=of[1], error=str(error))
            self._knowledge.room.set()
            return
        if not reserved:
            self._knowledge.room.set()  # plan it again, with what is there now

    async def _reserve(
        self, of: Key, requests: Sequence[Request], places: Mapping[str, Planned]
    ) -> bool:
        """Write the places of all members to the plans, or of none; return which.

        Raises:
            ClusterUnavailable: what was written could not all be taken back; the sweep will.
        """
        knowledge, ledger = self._knowledge, self._knowledge.ledger
        for request in requests:
            place = places[request.pod.uid]
            view = knowledge.views.get(place.node)
            if view is None or self._right(request, place) is None:
                return False
        version, began = knowledge.in_force.version, knowledge.clock()
        for request in requests:
            ledger = ledger.assume(request.pod.uid, places[request.pod.uid].promise)
        knowledge.ledger = ledger
        by_node: dict[str, list[Request]] = defaultdict(list)
        for request in requests:
            by_node[places[request.pod.uid].node].append(request)
        self._gangs.at_work.add(of)
        patience = Patience(knowledge)
        try:
            for node, here in sorted(by_node.items()):
                if not await self._write(of, node, here, places, patience):
                    await self._take_back(of)
                    return False
        except ClusterUnavailable:
            await self._take_back(of)
            raise
        finally:
            self._gangs.at_work.discard(of)
            self._gangs.pulse(of)
            for request in requests:
                knowledge.forget(request.pod.uid)
        log.info(
            "gang_reserved",
            namespace=of[0],
            gang=of[1],
            members=len(requests),
            uids=[each.pod.uid for each in requests],
            policy_version=version,
            seconds=round(knowledge.clock() - began, 6),
        )
        return True

    def _right(self, request: Request, place: Planned) -> Choice | None:
        """Return a member's places, if its node's view still allows them."""
        view = self._knowledge.views[place.node]
        own = self._knowledge.ledger.forget(request.pod.uid)
        asked = self._knowledge.bounded(request)
        return planned(view, own.plan({request.pod.uid: place}), asked)

    async def _write(
        self,
        of: Key,
        node: str,
        requests: Sequence[Request],
        places: Mapping[str, Planned],
        patience: Patience,
    ) -> bool:
        """Write the places of the members on one node in one patch; return whether they are.

        Raises:
            ClusterUnavailable: the plan could not be written, or kept changing, for as long as
                there is *patience*.
        """
        since, conflicts = rfc3339.microseconds(self._utc_now()), 0
        async with self._plans.turn(node):
            while (view := self._knowledge.views.get(node)) is not None:
                if self._gangs.lost(of):
                    return False
                entries: list[Assignment] = []
                for request in requests:
                    choice = self._right(request, places[request.pod.uid])
                    gone = request.pod.uid not in self._knowledge.pending.waiting
                    if choice is None or gone:
                        return False
                    ids = iter(self._new_id, None)
                    entries += decide.assignments(request, choice, ids=ids, since=since)
                try:
                    with self._trust.probing(node, [each.id for each in entries]):
                        await self._plans.write(view, add=entries, patience=patience)
                except PlanConflict as conflict:
                    conflicts += 1
                    await patience.pause(conflict, conflicts)
                    continue
                return True
        return False

    async def _take_back(self, of: Key) -> None:
        """Withdraw what was written of a gang, once no member of it can be bound any more.

        While it was written none of its binds went on here; one whose Binding another process has
        posted keeps all its places.
        """
        self._gangs.lose(of)
        await self.withdraw(of)

    async def sweep(self) -> None:
        """Withdraw the gangs that are lost, and those a killed writer left half written."""
        for of, standing in self._gangs.stand():
            if (
                standing is Standing.HALF or self._gangs.lost(of)
            ) and of not in self._gangs.at_work:
                self._gangs.lose(of)
                try:
                    await self.withdraw(of)
                except ClusterUnavailable as error:
                    log.warning("gang_postponed", namespace=of[0], gang=of[1], error=str(error))

    async def withdraw(self, of: Key) -> None:
        """Take back all places of a lost gang, unless one of its members turns out to be bound."""
        self._gangs.at_work.add(of)
        try:
            reserved = [uid for uid, member in self._gangs.members(of) if member.reserved]
            given_back = {uid: self._plans.ids_of(uid) for uid in reserved}
            if bound := await self._bound(given_back):
                self._gangs.keep(of, bound)
                return
            for uid, ids in given_back.items():
                await self._plans.withdraw(self._knowledge.assigned.get(uid, ""), ids)
            self._gangs.given_back(of)
            log.info("gang_withdrawn", namespace=of[0], gang=of[1])
        finally:
            self._gangs.at_work.discard(of)
        self._knowledge.room.set()

    async def _bound(self, given_back: Mapping[str, Collection[str]]) -> str:
        """Return the UID of a pod that turns out to be bound, "" if none does.

        Nor will any be, then, to its entries of these ids.
        """
        patience = Patience(self._knowledge)
        for uid, ids in given_back.items():
            view = self._knowledge.views.get(self._knowledge.assigned.get(uid, ""))
            entries = () if view is None else view.assignments_of(uid)
            for pod in dict.fromkeys(e.pod for e in entries if e.pod is not None):
                facts = await read_past_bindings(self._cluster, pod, ids, patience)
                if facts is not None and facts.node:
                    return uid
        return ""
