"""The fleet while requests are placed on it one after the other."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from extender.packing.choose import Bin, Choice, choose
from extender.packing.classes import Condensed
from extender.packing.demand import Footprint
from extender.packing.problem import GpuState
from extender.packing.queues import Place, Queue, Ranking
from extender.packing.seats import Seat
from extender.packing.spread import Spread


class Board:
    """GPUs by what is on them now; ``seats`` in the order in which they were given."""

    def __init__(self, condensed: Condensed, nodes_looked_at: int | None) -> None:
        self.seats: list[Seat] = []
        self._condensed = condensed
        self._nodes_looked_at = nodes_looked_at
        self.problem, self.demand = condensed.problem, condensed.demand
        self._fleet = condensed.problem.fleet
        self._states = list(self._fleet.states)
        self._index = {state: index for index, state in enumerate(self._states)}
        self._state: NDArray[np.int32] = self._fleet.state.copy()
        self._before: list[int] = []  # the state of each seat's GPU before it was given
        self._queues: dict[Place, Queue] = {}
        self._rankings: dict[tuple[tuple[str, ...], tuple[int, ...]], Ranking] = {}
        self._candidates: dict[tuple[tuple[str, ...], Spread, tuple[int, ...]], list[int]] = {}
        self._costs: dict[tuple[str, int, int], tuple[float, ...]] = {}
        self._choices: dict[tuple[tuple[str, ...], int], Choice | None] = {}

    def place(self, requests: Sequence[int]) -> int:
        """Place requests with one footprint, each as well as can be; return how many found room."""
        at = self.demand.footprint_of[requests[0]]
        kind, groups = self.demand.footprints[at], self._condensed.eligible[at]
        if kind.on_one_gpu:
            return self._on_one_gpu(requests, kind, groups)
        placed = 0
        while placed < len(requests) and self._on_one_node(requests[placed], kind, groups):
            placed += 1
        return placed

    def occupy(self, seat: Seat) -> None:
        """Put a vGPU where it is said to go."""
        before = int(self._state[seat.gpu])
        after = self._states[before].after(seat.profile_id, seat.placement)
        self.seats.append(seat)
        self._before.append(before)
        self._set(seat.gpu, self._known(after))

    def undo(self, mark: int) -> None:
        """Take back all seats but the first *mark*."""
        while len(self.seats) > mark:
            self._set(self.seats.pop().gpu, self._before.pop())

    def _on_one_gpu(self, requests: Sequence[int], kind: Footprint, groups: tuple[int, ...]) -> int:
        ranking = self._ranking(kind, groups)
        placed = 0
        while placed < len(requests) and ranking.heap:
            cost, tie, place = ranking.heap[0]
            if self._queue(place).first(self._state) is None:
                heapq.heappop(ranking.heap)
                ranking.known.discard(place)
                continue
            choice = self._choice(kind.wanted, place[1])
            assert choice is not None  # else it would not be ranked
            after = self._after(choice, place[1])[-1]
            next_choice = self._choice(kind.wanted, after)
            # The next one goes the same way, unless this makes a better place for it.
            alike = next_choice is None or (next_choice.cost, next_choice.tie) >= (cost, tie)
            many = len(requests) - placed if alike else 1
            placed += self._repeat(requests[placed : placed + many], choice, place)
        return placed

    def _repeat(self, requests: Sequence[int], choice: Choice, place: Place) -> int:
        """Give each request the same choice on a GPU of a place while there are any."""
        *before, after = place[1], *self._after(choice, place[1])
        queue = self._queue(place)
        gpus: list[int] = []
        for request in requests:
            gpu = queue.first(self._state)
            if gpu is None:
                break
            for each, state in zip(choice.placed, before, strict=True):
                self.seats.append(Seat(request, each.wanted, gpu, each.profile_id, each.placement))
                self._before.append(state)
            self._state[gpu] = after
            gpus.append(gpu)
        self._enter(gpus, (place[0], after))
        return len(gpus)

    def _after(self, choice: Choice, state: int) -> list[int]:
        """Return the states a GPU goes through as the choice's instances are created."""
        states = []
        for each in choice.placed:
            state = self._known(self._states[state].after(each.profile_id, each.placement))
            states.append(state)
        return states

    def _on_one_node(self, request: int, kind: Footprint, groups: tuple[int, ...]) -> bool:
        key = (kind.wanted, kind.spread, groups)
        nodes = self._candidates.pop(key, [])
        found = self._cheapest(kind, nodes)
        if found is None:  # what was best once is used up, or nothing was known
            nodes = self._promising(kind, groups)
            found = self._cheapest(kind, nodes)
        if found is None:
            return False
        if self._nodes_looked_at is not None:
            self._candidates[key] = nodes
        self._take(request, *found)
        return True

    def _cheapest(self, kind: Footprint, nodes: list[int]) -> tuple[Choice, list[int]] | None:
        """Return the best choice of the first nodes with room; take out those without."""
        looked_at: list[tuple[tuple[int, int, int], Choice, list[int]]] = []
        at = 0
        while at < len(nodes) and len(looked_at) != self._nodes_looked_at:
            first, end = self._fleet.first[nodes[at] : nodes[at] + 2].tolist()
            gpus = list(range(first, end))
            bins = [self._bin(int(self._state[gpu])) for gpu in gpus]
            choice = choose(bins, kind.wanted, kind.spread)
            if isinstance(choice, Choice):
                looked_at.append(((choice.cost, choice.tie, nodes[at]), choice, gpus))
                at += 1
            else:
                del nodes[at]
        best = min(looked_at, key=lambda each: each[0], default=None)
        return None if best is None else (best[1], best[2])

    def _take(self, request: int, choice: Choice, gpus: Sequence[int]) -> None:
        for each in choice.placed:
            gpu = gpus[each.bin]
            self.occupy(Seat(request, each.wanted, gpu, each.profile_id, each.placement))

    def _promising(self, kind: Footprint, groups: tuple[int, ...]) -> list[int]:
        """Return the nodes that may have room for a VM, those first that may do it cheapest.

        What it costs at least is taken for each name by itself: the cheapest steps of all GPUs.
        """
        fleet = self._fleet
        nodes = np.flatnonzero(np.isin(self._condensed.group, groups))
        if not nodes.size:
            return []
        many = 1 if kind.spread is Spread.DISTINCT else len(kind.wanted)
        across = np.arange(int(np.diff(fleet.first)[nodes].max()))
        gpus = fleet.first[nodes, None] + across
        beyond = gpus >= fleet.first[nodes + 1, None]
        state = self._state[np.where(beyond, 0, gpus)]
        least = np.zeros(len(nodes))
        for wanted, needed in Counter(kind.wanted).items():
            each = np.array([self._steps(wanted, s, many) for s in range(len(self._states))])
            costs = np.where(beyond[:, :, None], np.inf, each[state]).reshape(len(nodes), -1)
            if costs.shape[1] < needed:
                return []
            least += np.partition(costs, needed - 1, axis=1)[:, :needed].sum(axis=1)
        possible = np.flatnonzero(np.isfinite(least))
        best = possible[np.argsort(least[possible], kind="stable")]
        chosen: list[int] = nodes[best].tolist()
        return chosen

    def _steps(self, wanted: str, state: int, many: int) -> tuple[float, ...]:
        """Return what one after the other costs on a GPU; infinite where there is no room."""
        key = (wanted, state, many)
        known = self._costs.get(key)
        if known is None:
            costs: list[float] = []
            while len(costs) < many and (choice := self._choice((wanted,), state)) is not None:
                costs.append(choice.cost)
                state = self._after(choice, state)[-1]
            known = self._costs[key] = (*costs, *[np.inf] * (many - len(costs)))
        return known

    def _ranking(self, kind: Footprint, groups: tuple[int, ...]) -> Ranking:
        ranking = self._rankings.get((kind.wanted, groups))
        if ranking is None:
            ranking = self._rankings[kind.wanted, groups] = Ranking()
            for place in {*self._condensed.class_of, *self._queues}:
                if place[0] in groups:
                    self._rank(ranking, kind.wanted, place)
        return ranking

    def _rank(self, ranking: Ranking, wanted: tuple[str, ...], place: Place) -> None:
        if place not in ranking.known and (choice := self._choice(wanted, place[1])):
            ranking.known.add(place)
            heapq.heappush(ranking.heap, (choice.cost, choice.tie, place))

    def _set(self, gpu: int, state: int) -> None:
        self._state[gpu] = state
        self._enter([gpu], (int(self._condensed.group[self._fleet.node_of[gpu]]), state))

    def _enter(self, gpus: Sequence[int], place: Place) -> None:
        """Note that GPUs have come into a state: they are the next of their kind to be used."""
        self._queue(place).extend(gpus)
        for (wanted, groups), ranking in self._rankings.items():
            if place[0] in groups:
                self._rank(ranking, wanted, place)

    def _queue(self, place: Place) -> Queue:
        queue = self._queues.get(place)
        if queue is None:
            group, state = place
            known = state < len(self._fleet.states)
            gpus = self._condensed.gpus(group, state).tolist() if known else ()
            queue = self._queues[place] = Queue(state, gpus)
        return queue

    def _choice(self, wanted: tuple[str, ...], state: int) -> Choice | None:
        """Return where *wanted* goes on one GPU in a state, if it fits."""
        key = (wanted, state)
        if key not in self._choices:
            choice = choose([self._bin(state)], wanted)
            self._choices[key] = choice if isinstance(choice, Choice) else None
        return self._choices[key]

    def _bin(self, state: int) -> Bin:
        model, occupancy = self._states[state].model, self._states[state].occupancy
        return Bin("", model.tables, occupancy, model.serves)

    def _known(self, state: GpuState) -> int:
        index = self._index.setdefault(state, len(self._states))
        if index == len(self._states):
            self._states.append(state)
        return index
