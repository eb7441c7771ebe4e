"""filter, prioritize and preempt: answered from memory, without awaiting anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from itertools import starmap
from typing import assert_never

import msgspec

from extender import wire
from extender.explain.explanation import Then
from extender.planning.gangs import Standing
from extender.request import NotOurs, Request, Unanswerable, of_pod
from extender.service.clearing import clearing
from extender.service.enlisted import key
from extender.service.gangs import Gangs
from extender.service.knowledge import Knowledge
from extender.service.seam import Seam, told
from extender.service.vetting import Vetting
from extender.verbs.filter import Filtered, filter
from extender.verbs.prioritize import Ranked, prioritize
from extender.verbs.verdicts import (
    GANG_INCOMPLETE,
    GANG_MALFORMED,
    PLANNING,
    Code,
    Refused,
)

NAMESPACE_UNKNOWN = "vGPU: the pod's namespace is not known yet"


class Judged(msgspec.Struct, frozen=True, gc=False):
    """What filter decides: who passed, why the others did not; or why nothing can be said now.

    ``codes`` are those of all the reasons. On the node ``cleared`` a place is being made for it.
    """

    passed: Sequence[str] = ()
    refused: Mapping[str, str] = {}
    codes: Set[Code] = frozenset()
    error: str = ""
    cleared: str = ""


class Hooks:
    """The hooks that only decide."""

    def __init__(self, knowledge: Knowledge, gangs: Gangs) -> None:
        self._knowledge = knowledge
        self._gangs = gangs
        self.vetting = Vetting(knowledge, gangs)

    @property
    def seam(self) -> Seam:
        """The seam that they are behind."""
        return self._knowledge.seam

    def filter(self, args: wire.ExtenderArgs) -> wire.FilterResult:
        """Answer which candidates fit the pod."""
        names, whole = _candidates(args)
        match of_pod(args.pod, devices_per_pod=self._knowledge.settings.devices_per_pod):
            case NotOurs():
                return _filtered(names, {}, whole)
            case Unanswerable(reason=reason):
                return _filtered((), dict.fromkeys(names, reason), whole)
            case Request() as request:
                judged = self.judge(request, names)
                if judged.error:
                    return wire.FilterResult(error=judged.error)
                return _filtered(judged.passed, judged.refused, whole, judged.cleared)
            case unexpected:
                assert_never(unexpected)

    @told
    def judge(self, request: Request, names: Sequence[str]) -> Judged:
        """Judge which of the named nodes fit a request; what filter decides."""
        why_not = self._knowledge.not_ready()
        if why_not or not self._knowledge.tenancy.known(request.pod.namespace):
            return Judged(error=why_not or NAMESPACE_UNKNOWN)
        return self._judge(request, names)

    def _judge(self, request: Request, names: Sequence[str]) -> Judged:
        knowledge = self._knowledge
        began, uid = knowledge.clock(), request.pod.uid
        knowledge.release(uid)
        if uid in knowledge.gone:
            return self._judge_gone(request, names)
        if uid not in knowledge.requests:
            now = knowledge.clock()
            knowledge.demand.asked(request, knowledge.views.values(), now=now)
        knowledge.remember(request)
        assigned = knowledge.place_of(uid)
        unplaced = uid not in knowledge.assigned
        if unplaced:
            knowledge.pending.came(uid)
        if request.gang is not None:
            if unplaced:
                self._note(request, names)
            why_wait = self._why_wait_for_gang(request, names, assigned)
            if why_wait is not None:
                return self._waits(request, names, why_wait, began)
        asked = knowledge.bounded(request)
        answer = filter(
            knowledge.fleet,
            knowledge.ledger,
            asked,
            names,
            assigned=assigned,
            held=knowledge.holds.nodes_of(request.owner),
            yields=knowledge.pending.yields(uid),
        )
        if request.gang is None:
            if unplaced:
                nodes = knowledge.fleet.names if answer.everywhere else names
                knowledge.pending.filtered(request, nodes)
            if self._is_planned_first(request, names, assigned, answer):
                return self._waits(request, names, PLANNING, began)
        if answer.passed:
            knowledge.refused.drop(uid)
            if answer.only is not None:
                knowledge.presume(request, answer.passed[0], answer.only)
                self._chose(request, answer.passed[0], answer.only.cost)
            return Judged(answer.passed, answer.refused, answer.codes)
        knowledge.refuse(request, answer.codes, asked.bounds, began=began)
        cleared = clearing(knowledge, request, answer.refused)
        return Judged((), answer.refused, answer.codes, cleared=cleared)

    def _note(self, request: Request, names: Sequence[str]) -> None:
        """Note where a member of a gang may go; one refused is planned anew if that is elsewhere.

        kube-scheduler offers a part of the nodes at a time. While a gang is refused, those of all
        its filters count: they grow no more one day, and neither does the gang ask for plans.
        """
        knowledge, gang = self._knowledge, request.gang
        if gang is None or key(gang) not in knowledge.enlisted.no_room:
            knowledge.pending.filtered(request, names)
        elif knowledge.pending.filtered_among_more(request, names):
            knowledge.room.set()

    def _judge_gone(self, request: Request, names: Sequence[str]) -> Judged:
        """Answer for a pod of whose end we know, and remember nothing of it.

        kube-scheduler has yet to hear of that, or the pod merely lost its label; remembered, it
        would be planned with, and count as a member of its gang, for ever.
        """
        knowledge = self._knowledge
        if request.gang is not None or knowledge.gone[request.pod.uid]:
            refused = dict.fromkeys(names, GANG_INCOMPLETE.reason)
            return Judged((), refused, {GANG_INCOMPLETE.code})
        answer = filter(
            knowledge.fleet,
            knowledge.ledger,
            knowledge.bounded(request),
            names,
            assigned=knowledge.place_of(request.pod.uid),
            held=knowledge.holds.nodes_of(request.owner),
        )
        return Judged(answer.passed, answer.refused, answer.codes)

    def _waits(self, request: Request, names: Sequence[str], why: Refused, began: float) -> Judged:
        """Answer that a pod has to wait for others."""
        self._knowledge.refuse(request, {why.code}, began=began)
        return Judged((), dict.fromkeys(names, why.reason), {why.code})

    def _is_planned_first(
        self, request: Request, names: Sequence[str], assigned: str, answer: Filtered
    ) -> bool:
        """Tell whether a pod is to wait for the plan of its burst; if so, have that made."""
        knowledge = self._knowledge
        if assigned or knowledge.holds.nodes_of(request.owner).intersection(names):
            return False
        if not knowledge.pending.waits_for_plan(request.pod.uid, room=len(answer.passed)):
            return False
        knowledge.room.set()  # have it planned, and woken
        return True

    def _why_wait_for_gang(
        self, request: Request, names: Sequence[str], assigned: str
    ) -> Refused | None:
        assert request.gang is not None
        gangs, of = self._gangs, key(request.gang)
        match gangs.standing(of):
            case Standing.BEGUN:
                return None if gangs.may_go_on(request) else GANG_INCOMPLETE
            case Standing.RESERVED if not gangs.lost(of) and gangs.may_go_on(request):
                if assigned in names:
                    return None
                gangs.lose(of)  # a place that kube-scheduler cannot use any more
                return GANG_INCOMPLETE
            case Standing.MALFORMED:
                return GANG_MALFORMED
            case Standing.COMPLETE if of in self._knowledge.enlisted.no_room:
                return self._knowledge.enlisted.no_room[of]
            case Standing.COMPLETE if of in self._knowledge.enlisted.left_out:
                return PLANNING  # as soon as a plan has a place for it: another now would have none
            case Standing.COMPLETE:
                self._knowledge.room.set()
                return GANG_INCOMPLETE
            case _:
                return GANG_INCOMPLETE

    def prioritize(self, args: wire.ExtenderArgs) -> tuple[wire.HostPriority, ...]:
        """Answer how good each candidate is for the pod; without an opinion, 0 for all."""
        names, _ = _candidates(args)
        asked = of_pod(args.pod, devices_per_pod=self._knowledge.settings.devices_per_pod)
        if not isinstance(asked, Request):
            return tuple(wire.HostPriority(name, 0) for name in names)
        ranked = self.rank(asked, names)
        return tuple(starmap(wire.HostPriority, ranked.scores.items()))

    @told
    def rank(self, asked: Request, names: Sequence[str]) -> Ranked:
        """Rank the named nodes for a request; what prioritize decides."""
        knowledge = self._knowledge
        if knowledge.not_ready() or not knowledge.tenancy.known(asked.pod.namespace):
            return Ranked(dict.fromkeys(names, 0))
        ranked = prioritize(
            knowledge.fleet,
            knowledge.ledger,
            knowledge.bounded(asked),
            names,
            assigned=knowledge.place_of(asked.pod.uid),
            held=knowledge.holds.nodes_of(asked.owner),
        )
        if ranked.choice is not None and asked.pod.uid not in knowledge.gone:
            knowledge.presume(asked, ranked.winner, ranked.choice)
            self._chose(asked, ranked.winner, ranked.choice.cost, ranked.next_best or ("", 0))
        return ranked

    def _chose(
        self, request: Request, node: str, cost: int, next_best: tuple[str, int] = ("", 0)
    ) -> None:
        """Remember why a pod's node was chosen."""
        version = self._knowledge.in_force.version
        self._knowledge.decided.add(request.pod.uid, Then(node, cost, *next_best, version))

    def preempt(self, args: wire.PreemptionArgs) -> wire.PreemptionResult:
        """Answer which of the proposed nodes the pod would fit without the proposed victims."""
        return self.vetting.preempt(args)


def _candidates(
    args: wire.ExtenderArgs,
) -> tuple[Sequence[str], Mapping[str, wire.RawNode] | None]:
    """Return the candidates' names and, where whole nodes came, these by name."""
    if args.nodes is None:
        return args.node_names or (), None
    whole = {wire.node_name(raw): raw for raw in args.nodes.items or ()}
    return tuple(whole), whole


def _filtered(
    passed: Sequence[str],
    reasons: Mapping[str, str],
    whole: Mapping[str, wire.RawNode] | None,
    cleared: str = "",
) -> wire.FilterResult:
    """Answer in kind: names to names, whole nodes to whole nodes.

    Every refusal is "unresolvable": kube-scheduler's preemption never asks filter what an eviction
    would free, so a merely failed node would send it after victims in vain. But for the one node
    that is being *cleared*, of which preempt names who leaves.
    """
    failed = {name: reasons[name] for name in (cleared,) if name}
    if failed:
        reasons = {name: why for name, why in reasons.items() if name not in failed}
    nodes = None if whole is None else {"items": tuple(whole[name] for name in passed)}
    return wire.FilterResult(
        node_names=tuple(passed) if whole is None else None,
        nodes=nodes,
        failed_nodes=failed,
        failed_and_unresolvable_nodes=reasons,
    )
