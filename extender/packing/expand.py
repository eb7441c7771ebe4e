"""From counts to names: which GPU receives which bundle, and which request each piece is for.

The fuller node comes first, then the lower name; the earlier request is served first.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from extender.packing.bundles import Counts
from extender.packing.classes import Condensed
from extender.packing.demand import Footprint
from extender.packing.seats import Seat, Tally
from extender.packing.suites import Needs, Suite
from extender.packing.tickets import Piece, Tickets


@dataclass(frozen=True)
class Expansion:
    """The seats, and the counted requests that found no node with room for all they want."""

    seats: Sequence[Seat]
    unplaced: frozenset[int]


def expand(condensed: Condensed, counted: Tally) -> Expansion:
    """Carry the counts out on the GPUs of the fleet.

    What they leave open is where the vGPUs of a VM come together: a VM for which no node is found
    is left out, and its gang with it.
    """
    demand = condensed.demand
    turn = [
        iter([r for at in types for r in demand.types[at].requests[: counted.admit.get(at, 0)]])
        for types in demand.types_of
    ]
    seats: list[Seat] = []
    unplaced: set[int] = set()
    needs = Needs(demand)
    receive, suites = _by_group(condensed, counted), _suites_by_group(condensed, counted)
    give = _by_part(counted)
    for group in sorted({*receive, *suites}):
        tickets = Tickets(condensed, group, receive.get(group, ()))
        lodged = tickets.lodge(suites.get(group, ()), give)
        tickets.divide()
        here = [
            (each, tuple(itertools.islice(turn[at], counted.send.get((at, group), 0))))
            for at, each in enumerate(demand.footprints)
        ]
        # The most demanding first: what finds no node is found out while there is most choice.
        order = sorted(range(len(here)), key=lambda at: -len(here[at][0].items))
        for at in order:
            each, requests = here[at]
            if not each.on_one_gpu:
                waiting = lodged[needs.of[at]]
                hosted = [waiting.pop() for _ in range(min(len(requests), len(waiting)))]
                hosted += tickets.host(each, len(requests) - len(hosted))
                unplaced.update(requests[len(hosted) :])
                for request, pieces in zip(requests, hosted, strict=False):
                    seats.extend(_together(request, each, pieces))
        pieces_of = tickets.hand_out()
        for each, requests in here:
            if each.on_one_gpu:
                pieces_here = pieces_of.get(each.items[0], iter(()))
                for request, piece in zip(requests, pieces_here, strict=False):
                    seats.extend(_seats(request, each.wanted, piece))
    return _without_broken_gangs(condensed, seats, unplaced)


def _by_group(condensed: Condensed, counted: Tally) -> dict[int, list[tuple[int, Counts, int]]]:
    """Return (class, items, GPUs) by group."""
    found: dict[int, list[tuple[int, Counts, int]]] = defaultdict(list)
    for (index, items), count in counted.receive.items():
        if count:
            found[condensed.classes[index].group].append((index, items, count))
    return found


def _suites_by_group(condensed: Condensed, counted: Tally) -> dict[int, list[Suite]]:
    found: dict[int, list[Suite]] = defaultdict(list)
    for suite in counted.suites:
        found[int(condensed.group[suite.node])].append(suite)
    return found


def _by_part(counted: Tally) -> dict[tuple[int, Counts], list[Counts]]:
    """Return what the GPUs of a class that give a part receive in all, one by one."""
    found: dict[tuple[int, Counts], list[Counts]] = defaultdict(list)
    for (index, part, items), count in counted.give.items():
        found[index, part].extend([items] * count)
    return found


def _seats(request: int, names: Sequence[str], piece: Piece) -> Iterator[Seat]:
    for name, (profile_id, placement) in zip(names, piece.parts, strict=True):
        yield Seat(request, name, piece.gpu, profile_id, placement)


def _together(request: int, each: Footprint, pieces: Sequence[Piece]) -> Iterator[Seat]:
    """Yield the seats of a VM on several GPUs: a piece for each name, of the name's item."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, item in zip(each.wanted, each.items, strict=True):
        names[item].append(name)
    for piece in pieces:
        yield from _seats(request, (names[piece.item].pop(),), piece)


def _without_broken_gangs(
    condensed: Condensed, seats: Sequence[Seat], unplaced: set[int]
) -> Expansion:
    requests = condensed.problem.requests
    broken = {requests[index].gang for index in unplaced} - {None}
    if broken:
        admitted = {seat.request for seat in seats}
        unplaced |= {index for index in admitted if requests[index].gang in broken}
        seats = [seat for seat in seats if seat.request not in unplaced]
    return Expansion(seats, frozenset(unplaced))
