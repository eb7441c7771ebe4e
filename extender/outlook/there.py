"""A cluster at one moment, and the same as a policy has it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from extender.ledger import Ledger
from extender.planning.joint import Waiting
from extender.policy import InForce
from extender.policy.selectors import Labels
from extender.service.assigned import Assigned
from extender.service.holds import Holds
from extender.service.ports import PodFacts
from extender.service.tenancy import Tenancy
from extender.snapshot import NodeView


class There(msgspec.Struct, frozen=True):
    """What a policy is held against.

    ``labels`` are all those of each Node, ``namespaces`` those of each namespace; ``pods`` by UID;
    ``filtered`` are the pods that kube-scheduler has asked about, with the nodes they may go to.
    ``in_force`` is what decides there now, None where that is not known.
    """

    views: Mapping[str, NodeView]
    labels: Mapping[str, Labels]
    namespaces: Mapping[str, Labels]
    pods: Mapping[str, PodFacts] = {}
    filtered: Mapping[str, Waiting] = {}
    ledger: Ledger = Ledger()
    in_force: InForce | None = None


class Side:
    """A cluster with a policy in force: its ``views`` and ``tenancy``, who has a place, or a hold.

    All of its own, so that it may be worked with in a thread.
    """

    def __init__(self, there: There, policy: InForce) -> None:
        self.policy = policy
        self.there = there
        self.views = {name: _by(policy, view, there.labels) for name, view in there.views.items()}
        self.assigned = Assigned(_no_time)
        self.holds = Holds(0.0, _no_time)
        for name, view in self.views.items():
            self.assigned.planned(name, view.pods)
            self.holds.planned(name, None, view)
        self.tenancy = Tenancy(self.views, self.assigned, self.holds, policy.rules)
        for name, labels in there.namespaces.items():
            self.tenancy.namespace(name, labels)


def _by(policy: InForce, view: NodeView, labels: Mapping[str, Labels]) -> NodeView:
    """Return a view as a policy has it, with the labels of its Node that its rules look at.

    Another one in any case: what is worked out of it here is not to crowd out what decides.
    """
    known, wanted = labels.get(view.name, {}), policy.rules.node_keys
    seen = {key: known[key] for key in wanted & known.keys()}
    return msgspec.structs.replace(view, policy=policy.policy, labels=seen)


def _no_time() -> float:
    return 0.0
