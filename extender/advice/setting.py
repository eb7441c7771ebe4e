"""What advice rests on: all that is known of the cluster at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from extender.explain.situation import PodState
from extender.kubescheduler.eligible import Constraints, Traits
from extender.ledger import Ledger
from extender.policy.bounds import Terms
from extender.policy.costs import Costs
from extender.request import Request
from extender.snapshot import NodeView
from nodeagent.api.gpunode import OwnerRef

VIRTUAL_MACHINE_INSTANCE = "VirtualMachineInstance"
"""The kind of owner that KubeVirt runs."""


class Waiting(msgspec.Struct, frozen=True):
    """A pod without a place, with its bounds; ``nodes`` are those it may go to, None for all.

    ``filtered``: that is known, for kube-scheduler has asked about it.
    """

    request: Request
    nodes: frozenset[str] | None = None
    filtered: bool = True


class Guard(msgspec.Struct, frozen=True):
    """A PodDisruptionBudget by ``NAMESPACE/NAME``, and how many of its pods may be away now."""

    name: str
    allows: int


def lets_go(guards: Sequence[Guard]) -> bool:
    """Tell whether the disruption budgets of a pod let it be evicted now: several never do."""
    return len(guards) <= 1 and all(guard.allows > 0 for guard in guards)


EVICTION_REFUSED = "its eviction is refused, as a dry run has shown"
"""Why a VM stays that might leave by an eviction alone, for all else that is known."""


class Manner(msgspec.Struct, frozen=True):
    """How a VM would leave if it was to do so now; ``why`` it would not, "" where it would.

    ``live``: while it runs. ``guarded``: only as far as its disruption budgets allow. ``denied``:
    its eviction is denied whatever these allow, and it is stopped. ``answer`` is what the API
    server says to its eviction, "" where it was not asked, or refuses nothing.
    """

    live: bool = False
    guarded: bool = True
    denied: bool = False
    why: str = ""
    answer: str = ""


def presumed(pod: PodState, owner: OwnerRef) -> Manner:
    """Return how the VM of a pod is taken to leave for as long as that has not been looked up.

    Past its budgets only as its pod lets, and only what KubeVirt runs: of a StatefulSet there is
    nothing to be stopped but the pod.
    """
    stopped = pod.restartable and owner.kind == VIRTUAL_MACHINE_INSTANCE
    return Manner(guarded=not stopped)


class Setting(msgspec.Struct, frozen=True):
    """Nodes, pods by UID, what is promised; ``terms`` are the rules', None where there are none.

    ``waiting`` are the pods to be admitted that are known, by namespace and the name asked by.
    ``guards`` are the disruption budgets of pods, by UID, as far as they were looked up;
    ``guarded``: they are looked up at all. ``manners`` tell how pods would leave, by UID, likewise.
    ``constraints`` keep pods from nodes, by UID, and ``traits`` of nodes keep pods from them, by
    name: of whom they say nothing there is nothing. ``now`` is in UTC.
    """

    views: Mapping[str, NodeView]
    ledger: Ledger
    pods: Mapping[str, PodState]
    policy: str = ""
    policy_version: str = ""
    terms: Terms | None = None
    waiting: Mapping[tuple[str, str], Waiting] = {}
    guards: Mapping[str, tuple[Guard, ...]] = {}
    guarded: bool = False
    manners: Mapping[str, Manner] = {}
    costs: Costs = Costs()
    now: datetime | None = None
    constraints: Mapping[str, Constraints] = {}
    traits: Mapping[str, Traits] = {}
