"""What advice rests on: all that is known of the cluster at one moment."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from extender.explain.situation import PodState
from extender.ledger import Ledger
from extender.policy.bounds import Terms
from extender.request import Request
from extender.snapshot import NodeView


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


class Manner(msgspec.Struct, frozen=True):
    """How a VM would leave if it was to do so now; ``why`` it would not, "" where it would.

    ``live``: while it runs. ``guarded``: only as far as its disruption budgets allow.
    """

    live: bool = False
    guarded: bool = True
    why: str = ""


class Setting(msgspec.Struct, frozen=True):
    """Nodes, pods by UID, what is promised; ``terms`` are the rules', None where there are none.

    ``waiting`` are the pods to be admitted that are known, by namespace and the name asked by.
    ``guards`` are the disruption budgets of pods, by UID, as far as they were looked up;
    ``guarded``: they are looked up at all. ``manners`` tell how pods would leave, by UID, likewise.
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
