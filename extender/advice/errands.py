"""What a plan comes to for whoever carries it out: entries of plans, nodes, and pods that wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from extender.advice.yard import Yard
from extender.moves import Move, Place, Plan
from extender.request import Request
from nodeagent.api.gpunode import Assignment


class Errand(NamedTuple):
    """A move, the entry that makes it (as it is by then), and the nodes it leaves and goes to."""

    move: Move
    entry: Assignment
    source: str
    target: str


class Arrival(NamedTuple):
    """A pod that waits, and where it goes after all moves."""

    request: Request
    place: Place
    node: str


class Errands(NamedTuple):
    """A plan's moves in their order, and where the pods that wait go then."""

    moves: tuple[Errand, ...] = ()
    places: tuple[Arrival, ...] = ()


def errands(there: Yard, found: Plan) -> Errands:
    """Return what is to be done for a plan."""
    return Errands(tuple(_moves(there, found)), tuple(_places(there, found)))


def _moves(there: Yard, found: Plan) -> Iterator[Errand]:
    entries: dict[str, Assignment] = {}
    for move in found.moves:
        entry = entries.get(move.occupant, there.whose[move.occupant].entry)
        assert entry is not None  # or it would stay
        source, target = there.gpus[move.source][0].name, there.gpus[move.target][0].name
        yield Errand(move, entry, source, target)
        entries[move.occupant] = msgspec.structs.replace(
            entry, gpu=move.target, start=move.placement.start, size=move.placement.size
        )


def _places(there: Yard, found: Plan) -> Iterator[Arrival]:
    for place in found.places:
        waiting = there.waiting.get(place.wanted)
        if waiting is not None:
            yield Arrival(waiting.request, place, there.gpus[place.gpu][0].name)
