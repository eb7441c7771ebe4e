"""Bundles on their way to GPUs: counted by class, each to be given to one GPU of a group.

Any GPU of a class will do, except for a VM whose vGPUs need several GPUs: those are given theirs
first, together on a node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.packing.bundles import Counts, Part
from extender.packing.classes import Condensed
from extender.packing.demand import Footprint
from extender.packing.spread import Spread
from extender.packing.suites import Suite, total


class Piece(NamedTuple):
    """An item on a GPU, not yet anybody's."""

    item: int
    gpu: int
    parts: tuple[Part, ...]


class _Ticket(NamedTuple):
    """A bundle for a GPU in a state, by what it consists of."""

    state: int
    items: Counts


class Tickets:
    """The bundles that the GPUs of one group receive."""

    def __init__(
        self, condensed: Condensed, group: int, receive: Iterable[tuple[int, Counts, int]]
    ) -> None:
        self._condensed = condensed
        self._fleet = condensed.problem.fleet
        self._group = group
        self._left: dict[int, Counter[Counts]] = defaultdict(Counter)
        self._given: set[int] = set()
        self._loose: dict[int, list[Piece]] = defaultdict(list)  # by node
        self._receive = list(receive)

    def lodge(
        self, suites: Iterable[Suite], give: Mapping[tuple[int, Counts], list[Counts]]
    ) -> Mapping[int, list[list[Piece]]]:
        """Give the GPUs of suites what they receive; return the pieces of each VM, by its need.

        ``give`` has, for (class, what the suite has of a GPU), bundles to be used up.
        """
        lodged: dict[int, list[list[Piece]]] = defaultdict(list)
        for suite in suites:
            theirs: list[list[Piece]] = [[] for _ in suite.needs]
            for gpu, shares in suite.gpus:
                state = int(self._fleet.state[gpu])
                index = self._condensed.class_of[self._group, state]
                steps = self._condensed.bundles(state)[give[index, total(shares)].pop()].steps
                owners = {
                    item: iter([vm for vm, each in enumerate(shares) for _ in range(each[item])])
                    for item, _ in steps
                }
                for item, parts in steps:
                    owner = next(owners[item], None)
                    pieces = self._loose[suite.node] if owner is None else theirs[owner]
                    pieces.append(Piece(item, gpu, parts))
                self._given.add(gpu)
            for need, pieces in zip(suite.needs, theirs, strict=True):
                lodged[need].append(pieces)
        return lodged

    def divide(self) -> None:
        """Divide the bundles of each class among the states of its GPUs."""
        by_class: dict[int, list[tuple[Counts, int]]] = defaultdict(list)
        for index, items, count in self._receive:
            by_class[index].append((items, count))
        taken = Counter(int(self._fleet.state[gpu]) for gpu in self._given)
        for index, bundles in by_class.items():
            self._divide(index, bundles, taken)

    def _divide(
        self, index: int, bundles: Iterable[tuple[Counts, int]], taken: Mapping[int, int]
    ) -> None:
        """Divide a class's bundles among its states, the fullest first."""
        states = iter(self._condensed.classes[index].states)
        room = state = 0
        for items, count in sorted(bundles):
            while count:
                while not room:
                    state = next(states)
                    room = len(self._condensed.gpus(self._group, state)) - taken[state]
                many = min(room, count)
                self._left[state][items] += many
                room, count = room - many, count - many

    def host(self, kind: Footprint, many: int) -> list[list[Piece]]:
        """Find nodes for so many VMs of a kind; return the pieces of each that found one."""
        hosted: list[list[Piece]] = []
        progress = True
        while progress and len(hosted) < many:
            progress = False
            for node in self._candidates(kind):
                while len(hosted) < many and (pieces := self._on_node(kind, node)):
                    hosted.append(pieces)
                    progress = True
                if len(hosted) == many:
                    break
        return hosted

    def hand_out(self) -> dict[int, Iterator[Piece]]:
        """Give every remaining bundle to a GPU; return the pieces that are nobody's by item."""
        pieces: dict[int, list[Piece]] = defaultdict(list)
        for loose in self._loose.values():
            for piece in loose:
                pieces[piece.item].append(piece)
        for state, left in self._left.items():
            gpus = self._condensed.gpus(self._group, state).tolist()
            free = (gpu for gpu in gpus if gpu not in self._given)
            for items, count in left.items():
                steps = self._condensed.bundles(state)[items].steps
                for _, gpu in zip(range(count), free, strict=False):
                    for item, parts in steps:
                        pieces[item].append(Piece(item, gpu, parts))
        return {item: iter(each) for item, each in pieces.items()}

    def _candidates(self, kind: Footprint) -> list[int]:
        """Return the nodes that may have room for the VM, the fullest first."""
        room: NDArray[np.int64] = np.zeros(len(self._fleet.nodes), dtype=np.int64)
        for node, loose in self._loose.items():
            room[node] += len(loose)
        for state, left in self._left.items():
            useful = max((_useful(kind, items) for items, n in left.items() if n), default=0)
            if useful:
                gpus = self._condensed.gpus(self._group, state)
                room += useful * np.bincount(self._fleet.node_of[gpus], minlength=len(room))
        nodes = np.flatnonzero(room >= len(kind.items))
        fullest = np.argsort(-self._fleet.taken_slices[nodes], kind="stable")
        chosen: list[int] = nodes[fullest].tolist()
        return chosen

    def _on_node(self, kind: Footprint, node: int) -> list[Piece] | None:
        """Gather the VM's pieces on a node, or return None and leave everything as it is."""
        need = Counter(kind.items)
        distinct = kind.spread is Spread.DISTINCT
        mine: list[Piece] = []
        loose: list[Piece] = []

        def offer(pieces: Iterable[Piece]) -> None:
            for piece in pieces:
                shared = distinct and any(each.gpu == piece.gpu for each in mine)
                if need[piece.item] and not shared:
                    need[piece.item] -= 1
                    mine.append(piece)
                else:
                    loose.append(piece)

        # Where GPUs must differ, the GPU with the most pieces must give to the most VMs.
        held = Counter(piece.gpu for piece in self._loose[node])
        offer(sorted(self._loose[node], key=lambda piece: (-held[piece.gpu], piece.gpu)))
        spent: Counter[_Ticket] = Counter()
        given: set[int] = set()
        gpus = range(int(self._fleet.first[node]), int(self._fleet.first[node + 1]))
        while +need:
            best: tuple[int, int, int, _Ticket] | None = None
            for gpu in gpus:
                if gpu in given or gpu in self._given:
                    continue
                state = int(self._fleet.state[gpu])
                for items, count in self._left.get(state, {}).items():
                    ticket = _Ticket(state, items)
                    useful = _covered(need, items, distinct=distinct)
                    if useful and count > spent[ticket]:
                        option = (useful, -sum(items), -gpu, ticket)
                        best = option if best is None else max(best, option)
            if best is None:
                return None
            gpu, ticket = -best[2], best[3]
            spent[ticket] += 1
            given.add(gpu)
            steps = self._condensed.bundles(ticket.state)[ticket.items].steps
            offer(Piece(item, gpu, parts) for item, parts in steps)
        for ticket, count in spent.items():
            self._left[ticket.state][ticket.items] -= count
        self._given |= given
        self._loose[node] = loose
        return mine


def _useful(kind: Footprint, items: Counts) -> int:
    """Return how many of the items of a bundle a VM of the kind could use."""
    return _covered(kind.needs, items, distinct=kind.spread is Spread.DISTINCT)


def _covered(need: Mapping[int, int], items: Counts, *, distinct: bool) -> int:
    useful = sum(min(count, items[item]) for item, count in need.items())
    return min(useful, 1) if distinct else useful
