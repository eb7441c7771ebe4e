"""What there may be to do next for an order of moves, and why nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from extender.moving.order import Departure, Leg, Outcome
from nodeagent.api.gpunode import Assignment, PodRef


class Hold(msgspec.Struct, frozen=True):
    """Write reservations, and claims, to the plans of nodes; some in place of claims, by ids."""

    entries: tuple[tuple[str, Assignment], ...]
    instead: frozenset[str] = frozenset()


class Depart(msgspec.Struct, frozen=True):
    """Have a pod leave, by one way or another; ``others`` are those its owner has besides.

    ``unready``: it is not Ready as it is.
    """

    leg: Leg
    pod: PodRef
    others: tuple[str, ...]
    unready: bool = False


class Again(msgspec.Struct, frozen=True):
    """Have the pod that was to leave do so: it does not seem to."""

    leg: Leg
    departure: Departure


class Desist(msgspec.Struct, frozen=True):
    """Note that the order ends, unless the pod that was to leave is on its way by now.

    It may be on its way by a migration, which is taken back if the step ``cancels`` it, or because
    its VM is being stopped; that is waited for until it is ``overdue``.
    """

    leg: Leg
    departure: Departure
    why: str
    outcome: Outcome = Outcome.STOPPED
    cancels: bool = False
    overdue: bool = False


class Wait(msgspec.Struct, frozen=True):
    """Nothing now."""

    why: str


class Arrived(msgspec.Struct, frozen=True):
    """Note that the move is made; ``pod`` is who came."""

    leg: Leg
    pod: PodRef


class Skip(msgspec.Struct, frozen=True):
    """Note that a move is made as far as that can be: its VM is gone, and its place is free.

    Unless its owner is to make its next pod: that is waited for until it is ``overdue``.
    """

    leg: Leg
    overdue: bool = False


class End(msgspec.Struct, frozen=True):
    """Note that the order comes to its end, and how."""

    outcome: Outcome
    why: str = ""


class Release(msgspec.Struct, frozen=True):
    """Give back what is still held, by ids, and hold a place for a VM; both by node."""

    ids: Mapping[str, frozenset[str]]
    back: Mapping[str, Assignment] = {}

    @property
    def nodes(self) -> Collection[str]:
        """The nodes whose plans are to change: where something is given back first.

        For an owner of whom nothing else is held, another place is held.
        """
        return tuple(sorted({*self.ids, *self.back}, key=lambda node: (node in self.back, node)))


class Over(msgspec.Struct, frozen=True):
    """Note that nothing is left to do."""


Step = Hold | Depart | Again | Desist | Wait | Arrived | Skip | End | Release | Over


class Restraint(msgspec.Struct, frozen=True):
    """Why no move may be begun: any more, while it is paused, or just now; "" where one may.

    Once it is to stop, or while it is paused, nobody is told to leave, either, who has been told
    before and has not. While it is paused, what is held stays held.
    """

    stop: str = ""
    paused: str = ""
    wait: str = ""
