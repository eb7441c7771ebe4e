"""filter, prioritize and preempt: answered from memory, without awaiting anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import structlog

from extender import wire
from extender.ledger import promise
from extender.request import NotOurs, Request, Unanswerable, of_pod
from extender.service.state import State
from extender.verbs.filter import filter
from extender.verbs.preempt import sufficient
from extender.verbs.prioritize import prioritize

log = structlog.get_logger()


class Hooks:
    """The hooks that only decide."""

    def __init__(self, state: State) -> None:
        self._state = state

    def filter(self, args: wire.ExtenderArgs) -> wire.FilterResult:
        """Answer which candidates fit the pod."""
        names, whole = _candidates(args)
        match of_pod(args.pod, devices_per_pod=self._state.settings.devices_per_pod):
            case NotOurs():
                return _filtered(names, {}, whole)
            case Unanswerable(reason=reason):
                return _filtered((), dict.fromkeys(names, reason), whole)
            case Request() as request:
                why_not = self._state.not_ready()
                if why_not:
                    return wire.FilterResult(error=why_not)
                return self._filter(request, names, whole)
            case unexpected:
                assert_never(unexpected)

    def _filter(
        self, request: Request, names: Sequence[str], whole: Mapping[str, wire.RawNode] | None
    ) -> wire.FilterResult:
        state = self._state
        uid = request.pod.uid
        state.ledger = state.ledger.release(uid)
        state.remember(request)
        answer = filter(
            state.views, state.ledger, request, names, assigned=state.assigned.get(uid, "")
        )
        if answer.passed:
            state.refused.pop(uid, None)
            if answer.only is not None:
                state.presume(request, promise(answer.passed[0], answer.only.placed))
        else:
            state.refuse(request, {why.code for why in answer.refused.values()})
        log.debug(
            "filter_answered",
            pod=request.pod.name,
            namespace=request.pod.namespace,
            passed=len(answer.passed),
            refused=len(answer.refused),
        )
        reasons = {name: why.reason for name, why in answer.refused.items()}
        return _filtered(answer.passed, reasons, whole)

    def prioritize(self, args: wire.ExtenderArgs) -> tuple[wire.HostPriority, ...]:
        """Answer how good each candidate is for the pod; without an opinion, 0 for all."""
        names, _ = _candidates(args)
        state = self._state
        asked = of_pod(args.pod, devices_per_pod=state.settings.devices_per_pod)
        if not isinstance(asked, Request) or state.not_ready():
            return tuple(wire.HostPriority(name, 0) for name in names)
        ranked = prioritize(
            state.views,
            state.ledger,
            asked,
            names,
            assigned=state.assigned.get(asked.pod.uid, ""),
        )
        if ranked.choice is not None:
            state.presume(asked, promise(ranked.winner, ranked.choice.placed))
        return tuple(wire.HostPriority(name, ranked.scores[name]) for name in names)

    def preempt(self, args: wire.PreemptionArgs) -> wire.PreemptionResult:
        """Answer which of the proposed nodes the pod would fit without the proposed victims."""
        proposed = _victims(args)
        asked = of_pod(args.pod, devices_per_pod=self._state.settings.devices_per_pod)
        match asked:
            case NotOurs():
                return wire.PreemptionResult(proposed)
            case Unanswerable():
                return wire.PreemptionResult({})
            case Request():
                pass
            case unexpected:
                assert_never(unexpected)
        if self._state.not_ready():
            return wire.PreemptionResult({})
        nodes = sufficient(
            self._state.views,
            self._state.ledger,
            asked,
            {name: [pod.uid for pod in each.pods or ()] for name, each in proposed.items()},
        )
        return wire.PreemptionResult({name: proposed[name] for name in nodes})


def _candidates(
    args: wire.ExtenderArgs,
) -> tuple[Sequence[str], Mapping[str, wire.RawNode] | None]:
    """Return the candidates' names and, where whole nodes came, these by name."""
    if args.nodes is None:
        return args.node_names or (), None
    whole = {wire.node_name(raw): raw for raw in args.nodes.items or ()}
    return tuple(whole), whole


def _filtered(
    passed: Sequence[str], reasons: Mapping[str, str], whole: Mapping[str, wire.RawNode] | None
) -> wire.FilterResult:
    """Answer in kind: names to names, whole nodes to whole nodes.

    Every refusal is "unresolvable": up to kube-scheduler 1.37 its preemption never asks filter what
    an eviction would free, so a merely failed node would send it after victims in vain.
    """
    if whole is None:
        return wire.FilterResult(node_names=tuple(passed), failed_and_unresolvable_nodes=reasons)
    nodes = {"items": tuple(whole[name] for name in passed)}
    return wire.FilterResult(nodes=nodes, failed_and_unresolvable_nodes=reasons)


def _victims(args: wire.PreemptionArgs) -> dict[str, wire.MetaVictims]:
    """Return the proposed victims by UID, in whichever form they came."""
    if args.node_name_to_meta_victims is not None:
        return args.node_name_to_meta_victims
    return {
        name: wire.MetaVictims(
            tuple(wire.MetaPod(pod.metadata.uid) for pod in victims.pods or ()),
            victims.num_pdb_violations,
        )
        for name, victims in (args.node_name_to_victims or {}).items()
    }
