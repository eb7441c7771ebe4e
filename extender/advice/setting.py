"""What advice rests on: all that is known of the cluster at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from extender.explain.situation import PodState
from extender.ledger import Ledger
from extender.policy.bounds import Terms
from extender.policy.costs import Costs
from extender.request import Request
from extender.snapshot import NodeView


class Waiting(msgspec.Struct, frozen=True):
    """A pod without a place, with its bounds; ``nodes`` are those of its last filter, if any."""

    request: Request
    nodes: frozenset[str] | None = None


class Guard(msgspec.Struct, frozen=True):
    """A PodDisruptionBudget by ``NAMESPACE/NAME``, and how many of its pods may be away now."""

    name: str
    allows: int


class Setting(msgspec.Struct, frozen=True):
    """Nodes, pods by UID, what is promised; ``terms`` are the rules', None where there are none.

    ``waiting`` are the pods to be admitted that are known, by namespace and the name asked by.
    ``guards`` are the disruption budgets of pods, by UID, as far as they were looked up;
    ``guarded``: they are looked up at all. ``migratable`` are the pods, by UID, whose VMs KubeVirt
    migrates while they run, of those for whom that was looked up. ``now`` is in UTC.
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
    migratable: frozenset[str] = frozenset()
    costs: Costs = Costs()
    now: datetime | None = None
