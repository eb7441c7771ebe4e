"""Advice as it is told: JSON for programs, and what the command line prints.

GPUs are named by their index on the node, as ``nvidia-smi`` counts them, and by UUID.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from extender.advice.pricing import Price
from extender.explain.explanation import Spot


class _Said(msgspec.Struct, frozen=True, rename="camel"):
    """How every value of this module looks as JSON."""


class Outcome(StrEnum):
    """What came of it."""

    PLAN = "plan"
    """The moves attain the goals; there may be none to make. What was to be drained as far as
    possible may not be empty then: the obstacles tell who stays."""
    INFEASIBLE = "infeasible"
    """No plan attains the goals; the moves, if any, are those that come nearest."""
    UNKNOWN = "unknown"
    """No plan was found, and one may exist."""


class Who(_Said, frozen=True):
    """A VM: its owner, or its pod. All are "" where the reader may not know of it.

    ``tenant`` is the policy's, "" where it has none for the namespace.
    """

    namespace: str = ""
    kind: str = ""
    name: str = ""
    tenant: str = ""


class Otherwise(_Said, frozen=True):
    """What it would take if a VM that moves stayed, and the ``vms`` that would move only then.

    So many ``moves`` and so much ``cost`` more; not ``attained``: nothing would do.
    """

    attained: bool
    moves: int = 0
    cost: int = 0
    vms: tuple[Who, ...] = ()


class Step(_Said, frozen=True):
    """One move: ``how``, what it ``costs`` and for what; ``number`` is the VM's in the maps.

    ``otherwise`` is why this VM and not another, None where that was not looked into.
    """

    number: int
    vm: Who
    profile: str
    source: Spot
    target: Spot
    how: str
    cost: int
    price: Price | None = None
    otherwise: Otherwise | None = None


class Placed(_Said, frozen=True):
    """Where a pod goes after all moves; or, without a name, where more of a profile would fit.

    ``number`` is its own in the maps.
    """

    number: int
    pod: Who
    profile: str
    on: Spot


class Obstacle(_Said, frozen=True):
    """Why the goals are not attained: a VM that holds slices, or something that is ``missing``.

    ``answer`` is what the API server says of that VM's eviction, "" where the reader may not know.
    """

    why: str
    vm: Who | None = None
    on: Spot | None = None
    what: str = ""
    missing: int = 0
    answer: str = ""


class Cell(_Said, frozen=True):
    """Something on a GPU; ``number`` is that of who moves or comes, 0 for what stays."""

    profile: str
    start: int
    size: int
    number: int = 0


class Map(_Said, frozen=True):
    """What a GPU holds before the moves, and after them with what is wanted in its place."""

    node: str
    gpu: int
    uuid: str
    slices: int
    before: tuple[Cell, ...]
    after: tuple[Cell, ...]


class Advice(_Said, frozen=True):
    """Which VMs to move, in this order.

    ``cost`` is in points by the policy's ``moves.costs``. No plan takes fewer than
    ``least_moves``; ``optimal``: none with as few costs less, either. Of ``asked`` things (places
    found, VMs gone, GPUs or nodes emptied) ``attained`` are. ``budgets``: PodDisruptionBudgets were
    looked up. ``gpus`` are those that change. ``digest`` tells a plan that attains the goals from
    every other: it is applied by that. ``warnings`` are what to see to before that.
    """

    outcome: Outcome
    goals: tuple[str, ...]
    policy: str
    policy_version: str
    nodes: int
    moves: tuple[Step, ...] = ()
    places: tuple[Placed, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    gpus: tuple[Map, ...] = ()
    cost: int = 0
    least_moves: int = 0
    least_cost: int | None = None
    optimal: bool = False
    asked: int = 0
    attained: int = 0
    budgets: bool = False
    digest: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def attains(self) -> bool:
        """Whether the goals are attained after the moves."""
        return self.outcome is Outcome.PLAN

    @property
    def some_stay(self) -> bool:
        """Whether the moves attain the goals, and not all leave what is to be drained."""
        return self.attains and self.attained < self.asked
