"""What comes of planning: moves in their order, or why they do not do."""

from __future__ import annotations

import msgspec

from extender.moves.problem import How, Occupant
from nodeagent.api.geometry import Placement


class Move(msgspec.Struct, frozen=True):
    """One VM's move to a place that is free at that moment; GPUs by UUID."""

    occupant: str
    source: str
    left: Placement
    target: str
    placement: Placement
    how: How
    cost: int


class Place(msgspec.Struct, frozen=True):
    """Where something wanted goes after all moves."""

    wanted: str
    gpu: str
    profile_id: int
    placement: Placement


class Gpu(msgspec.Struct, frozen=True):
    """What is on a GPU at a moment."""

    uuid: str
    occupants: tuple[Occupant, ...]


class Plan(msgspec.Struct, frozen=True):
    """Moves in their order, and where what is wanted goes then.

    No plan has fewer than ``least_moves``; none with as few costs less than ``least_cost``, where
    that is known. ``before`` and ``after`` have the GPUs that moves touch.
    """

    moves: tuple[Move, ...]
    places: tuple[Place, ...]
    before: tuple[Gpu, ...]
    after: tuple[Gpu, ...]
    least_moves: int
    least_cost: int | None = None

    @property
    def cost(self) -> int:
        """What all moves cost together."""
        return sum(each.cost for each in self.moves)

    @property
    def gap(self) -> int:
        """How many moves it has above the bound."""
        return len(self.moves) - self.least_moves

    @property
    def optimal(self) -> bool:
        """Whether it is proven that no plan is better."""
        return self.gap == 0 and self.least_cost == self.cost


class Obstacle(msgspec.Struct, frozen=True):
    """What keeps a goal from being attained: an ``occupant`` of a GPU, or a ``kind`` unmet."""

    why: str
    gpu: str = ""
    occupant: str = ""
    kind: str = ""
    missing: int = 0


class Infeasible(msgspec.Struct, frozen=True):
    """No plan attains the goals; ``attained`` of ``asked`` things is the most there can be.

    A thing is a place found, a VM gone from a drained GPU, an emptied GPU or node. ``nearest`` is
    the plan that attains so many, where one was found. Not ``proven``: time ran out, or the order
    of moves was not found, and a plan may exist.
    """

    asked: int
    attained: int
    obstacles: tuple[Obstacle, ...]
    nearest: Plan | None
    proven: bool
