"""preempt: the scheduler's proposals for CPU and memory vetted, from memory, awaiting nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from extender import wire
from extender.request import NotOurs, Request, Unanswerable, of_pod
from extender.service.evictable import evictable
from extender.service.knowledge import Knowledge
from extender.service.seam import Seam, told
from extender.verbs.preempt import sufficient
from extender.verbs.victims import cheapest_on

MOST_FILLED = 64
"""Nodes; the scheduler needs one, and each takes up to a millisecond of the hooks' time."""

FOR_SEVERAL = 2
"""The same for a pod of several vGPUs, which takes up to 0.1 s a node."""


class Vetting:
    """The hook preempt."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def preempt(self, args: wire.PreemptionArgs) -> wire.PreemptionResult:
        """Answer which of the proposed nodes the pod would fit without the proposed victims.

        Where none are proposed, as from Kubernetes 1.38 on, they are filled in.
        """
        proposed = _victims(args)
        asked = of_pod(args.pod, devices_per_pod=self._knowledge.settings.devices_per_pod)
        match asked:
            case NotOurs():
                # A node without victims would be an error to kube-scheduler.
                return wire.PreemptionResult({n: each for n, each in proposed.items() if each.pods})
            case Unanswerable():
                return wire.PreemptionResult({})
            case Request() as request:
                return wire.PreemptionResult(self.vet(request, proposed))
            case unexpected:
                assert_never(unexpected)

    @property
    def seam(self) -> Seam:
        """The seam that it is behind."""
        return self._knowledge.seam

    @told
    def vet(
        self, request: Request, proposed: Mapping[str, wire.MetaVictims]
    ) -> Mapping[str, wire.MetaVictims]:
        """Return where a request fits without the *proposed* victims, and who these are."""
        knowledge = self._knowledge
        if knowledge.not_ready() or not knowledge.tenancy.known(request.pod.namespace):
            return {}
        found = {}
        to_fill = [name for name, victims in proposed.items() if not victims.pods]
        most = MOST_FILLED if len(request.wanted) == 1 else FOR_SEVERAL
        for name in to_fill[:most]:
            if filled := self._filled(request, name):
                found[name] = wire.MetaVictims(tuple(map(wire.MetaPod, filled)))
        for name, victims in proposed.items():
            uids = [pod.uid for pod in victims.pods or ()]
            # Each node's victims leave something of the caps they count for.
            if uids and sufficient(
                knowledge.views,
                knowledge.ledger,
                knowledge.bounded(request, leaving=uids),
                {name: uids},
            ):
                found[name] = victims
        return found

    def _filled(self, request: Request, node: str) -> Sequence[str]:
        """Return the victims for a pod on a node for which none were proposed, if there are any.

        kube-scheduler lets none be named that is not on the very node.
        """
        knowledge = self._knowledge
        view = knowledge.views.get(node)
        if not knowledge.settings.preempts or not request.preempts or request.gang is not None:
            return ()
        if view is None:
            return ()
        best = cheapest_on(
            view,
            knowledge.ledger,
            evictable(knowledge, view, request),
            lambda leaving: knowledge.bounded(request, leaving=leaving),
        )
        uids = () if best is None else tuple(each.uid for each in best.victims)
        return uids if all(view.assignments_of(uid) for uid in uids) else ()


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
