"""GPUs, what is on them and may be moved at what cost, and what is to be made possible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cached_property

import msgspec

from extender.packing.tables import Tables
from nodeagent.api.geometry import Occupancy, Placement, Profile


class How(StrEnum):
    """The kind of a move."""

    LIVE = "live-migration"
    """The VM runs on while it moves."""
    EVICTION = "eviction"
    """The VM stops, as its disruption budget allows, and starts where it is moved to."""
    RESTART = "restart"
    """Likewise, whatever its budget says: its owner has left that to whoever moves it."""


class Movable(msgspec.Struct, frozen=True):
    """A VM's leave to be moved: how, and the disturbance that costs.

    ``budget`` names the PodDisruptionBudget that counts it, "" if none does.
    """

    how: How
    cost: int
    budget: str = ""


class Occupant(msgspec.Struct, frozen=True):
    """A GPU instance that exists or is promised; ``stays`` is why it is not ``movable``.

    ``kind`` is what GPUs must serve to take it: a resource, for whoever has it.
    """

    id: str
    kind: str
    profile_id: int
    placement: Placement
    movable: Movable | None = None
    stays: str = ""


class Host(msgspec.Struct, frozen=True):
    """A GPU of a node with all that is on it; ``serves`` maps kinds to profile ids.

    Where it is not ``open`` nothing may come; what is there may leave.
    """

    uuid: str
    node: str
    tables: Tables
    serves: Mapping[str, int]
    occupants: tuple[Occupant, ...] = ()
    open: bool = True

    def profile(self, kind: str) -> Profile | None:
        """Return the profile that serves a kind here, if any may come."""
        profile_id = self.serves.get(kind) if self.open else None
        return None if profile_id is None else self.tables.geometry.by_id.get(profile_id)

    def state(self) -> Occupancy:
        """Return the state its occupants come to."""
        return self.tables.holding((each.profile_id, each.placement) for each in self.occupants)


class Wanted(msgspec.Struct, frozen=True):
    """A GPU instance of a kind that somebody waits for."""

    id: str
    kind: str


class Admit(msgspec.Struct, frozen=True):
    """All that is wanted has its place afterwards."""

    wanted: tuple[Wanted, ...]


class Headroom(msgspec.Struct, frozen=True):
    """So many more of a kind would fit at once afterwards."""

    kind: str
    count: int


class Consolidate(msgspec.Struct, frozen=True):
    """So many GPUs, and whole nodes, have nothing on them afterwards."""

    gpus: int = 0
    nodes: int = 0


class Drain(msgspec.Struct, frozen=True):
    """These GPUs, by UUID, have nothing on them afterwards."""

    gpus: frozenset[str]


Goal = Admit | Headroom | Consolidate | Drain


class Problem(msgspec.Struct, frozen=True, dict=True):
    """Goals that are to hold together, and all there is to attain them with.

    ``budgets`` are how many VMs of each PodDisruptionBudget may be away at once: moves are made one
    after the other, so one is enough. A plan has at most ``most_moves`` and costs at most
    ``most_cost``, where these are given.
    """

    hosts: Sequence[Host]
    goals: tuple[Goal, ...]
    budgets: Mapping[str, int] = {}
    most_moves: int | None = None
    most_cost: int | None = None

    def leave(self, occupant: Occupant) -> Movable | None:
        """Return how an occupant may be moved now; None if it may not."""
        leave = occupant.movable
        if leave is None or (leave.budget and self.budgets.get(leave.budget, 0) < 1):
            return None
        return leave

    def why_staying(self, occupant: Occupant) -> str:
        """Return why an occupant may not be moved now, "" if it may."""
        leave = occupant.movable
        if leave is None:
            return occupant.stays or "may not be moved"
        if leave.budget and self.budgets.get(leave.budget, 0) < 1:
            return f"the PodDisruptionBudget {leave.budget} allows no disruption"
        return ""

    @cached_property
    def drained(self) -> frozenset[str]:
        """The GPUs on which nothing is to be left."""
        return frozenset().union(*(each.gpus for each in self.goals if isinstance(each, Drain)))

    @cached_property
    def wanted(self) -> tuple[Wanted, ...]:
        """All that is to find a place, for somebody or as headroom."""
        return tuple(self._wanted())

    def _wanted(self) -> Iterator[Wanted]:
        for number, goal in enumerate(self.goals):
            if isinstance(goal, Admit):
                yield from goal.wanted
            elif isinstance(goal, Headroom):
                for at in range(goal.count):
                    yield Wanted(f"headroom/{number}/{at}", goal.kind)

    @cached_property
    def empty_gpus(self) -> int:
        """How many GPUs are to be empty."""
        return max((each.gpus for each in self.goals if isinstance(each, Consolidate)), default=0)

    @cached_property
    def empty_nodes(self) -> int:
        """How many nodes are to be empty."""
        return max((each.nodes for each in self.goals if isinstance(each, Consolidate)), default=0)
