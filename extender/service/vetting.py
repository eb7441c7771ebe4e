"""preempt: the scheduler's proposals vetted, from memory, awaiting nothing.

How many disruption budgets a proposal would violate is the scheduler's own count. It prefers nodes
where that is none, but where there is no such it takes another: so these are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from extender import wire
from extender.planning.gangs import Standing
from extender.request import NotOurs, Request, Unanswerable, of_pod
from extender.service.clearing import leaving
from extender.service.enlisted import key
from extender.service.gangs import Gangs
from extender.service.knowledge import Knowledge
from extender.service.seam import Seam, told
from extender.verbs.preempt import sufficient


class Vetting:
    """The hook preempt."""

    def __init__(self, knowledge: Knowledge, gangs: Gangs) -> None:
        self._knowledge = knowledge
        self._gangs = gangs

    def preempt(self, args: wire.PreemptionArgs) -> wire.PreemptionResult:
        """Answer which of the proposed nodes the pod would fit without the proposed victims.

        A node without any, as kube-scheduler proposes them from 1.38 on, is dropped, unless a place
        is being cleared there for the pod: then those are named who leave it. Nobody else is, for
        kube-scheduler deletes whom it is told to: past disruption budgets and eviction strategies,
        and with nothing held for the pod. Whom to evict, the leader decides.
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
        proposed = self._open(request, proposed)
        found = {}
        if knowledge.settings.nominates:
            for name, victims in proposed.items():
                if not victims.pods and (uids := leaving(knowledge, request, name)):
                    # Their budgets have let them go: 0 violations.
                    found[name] = wire.MetaVictims(tuple(map(wire.MetaPod, uids)))
        for name, victims in proposed.items():
            uids = [pod.uid for pod in victims.pods or ()]
            # Each node's victims leave something of the caps they count for.
            if victims.num_pdb_violations:
                continue
            if uids and sufficient(
                knowledge.views,
                knowledge.ledger,
                knowledge.bounded(request, leaving=uids),
                {name: uids},
            ):
                found[name] = victims
        return found

    def _open(
        self, request: Request, proposed: Mapping[str, wire.MetaVictims]
    ) -> Mapping[str, wire.MetaVictims]:
        """Return the *proposed* nodes on which filter might let a request pass: of a gang, few.

        Until all of it have their places filter lets none of it pass, whoever goes; from then on it
        lets each pass where its place is. Who comes later is an ordinary pod.
        """
        if request.gang is None:
            return proposed
        gangs, of, uid = self._gangs, key(request.gang), request.pod.uid
        whole = gangs.standing(of) in (Standing.RESERVED, Standing.BEGUN) and not gangs.lost(of)
        if not whole or not gangs.may_go_on(request):
            return {}
        if uid not in self._knowledge.assigned:
            return proposed
        place = self._knowledge.assigned[uid]
        return {name: victims for name, victims in proposed.items() if name == place}


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
