"""The mover that ours is measured beside: windows with the fewest occupants first, then greedily.

Each occupant goes where the placement policy would put it, the largest first; a window from which
one cannot go is given up. No room is made for those who move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from extender.packing.relocation import Host, Move, Occupant, windows
from extender.packing.room import NoRoom, Room
from extender.packing.tables import Tables
from nodeagent.api.geometry import Occupancy, Placement


class _Window(NamedTuple):
    gpu: int
    placement: Placement
    occupants: tuple[Occupant, ...]


def greedy(hosts: Sequence[Host], wanted: str, *, most_moves: int) -> Room | NoRoom:
    """Make room as the published reference does."""
    for window in sorted(
        _windows(hosts, wanted, most_moves),
        key=lambda each: (len(each.occupants), each.gpu, each.placement.start),
    ):
        moves = _cleared(hosts, wanted, window)
        if moves is not None:
            return Room(window.gpu, window.placement, moves, gain=0)
    return NoRoom(proven=False)


def _windows(hosts: Sequence[Host], wanted: str, most_moves: int) -> Iterator[_Window]:
    for gpu, host in enumerate(hosts):
        profile = host.tables.geometry.by_id[host.serves[wanted]]
        for placement, occupants in windows(host.tables.geometry, profile, host.occupants):
            if len(occupants) <= most_moves:
                yield _Window(gpu, placement, occupants)


def _cleared(hosts: Sequence[Host], wanted: str, window: _Window) -> tuple[Move, ...] | None:
    reserved = Occupant("", wanted, hosts[window.gpu].serves[wanted], window.placement)
    layouts = {window.gpu: (*hosts[window.gpu].occupants, reserved)}
    moves = []
    for occupant in sorted(window.occupants, key=lambda each: -each.placement.size):
        best: tuple[tuple[int, int, int], Placement] | None = None
        for gpu, host in enumerate(hosts):
            state = _state(host.tables, layouts.get(gpu, host.occupants))
            profile = host.tables.geometry.by_id[host.serves[occupant.resource]]
            for option in host.tables.options(state, profile)[:1]:
                rank = (option.cost, -state.mask.bit_count(), gpu)
                if best is None or rank < best[0]:
                    best = rank, option.placement
        if best is None:
            return None
        (*_, gpu), placement = best
        layouts[gpu] = (
            *layouts.get(gpu, hosts[gpu].occupants),
            occupant._replace(placement=placement),
        )
        left = tuple(each for each in layouts[window.gpu] if each != occupant)
        layouts[window.gpu] = left
        moves.append(Move(occupant.id, window.gpu, gpu, placement))
    return tuple(moves)


def _state(tables: Tables, layout: Sequence[Occupant]) -> Occupancy:
    return tables.holding((each.profile_id, each.placement) for each in layout)
