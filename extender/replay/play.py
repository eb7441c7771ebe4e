"""A record played: what happens in it, one after the other, decided anew.

Departures come first at any moment, then whoever waits, then who arrives: so room is seen before
others come, as it is live. What only happens live is left out: plans of the pending queue as one,
evictions for higher priority, and places held for VMs that restart.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum

from extender.packing.spread import Spread
from extender.policy import InForce
from extender.replay.meter import Meter
from extender.replay.played import Fate, Played
from extender.replay.recorded import Arrival, Recorded
from extender.replay.seating import Guest, Seating
from extender.replay.stays import Stay, stays
from extender.replay.world import World
from extender.request import Gang, Request
from nodeagent.api.gpunode import PodRef

EVENTS_A_STEP = 500
"""After so many, whoever shows progress is told."""


class _What(IntEnum):
    """What happens, in the order in which it does at one moment."""

    NODE_CLOSES = 0
    RESIDENT_FREES = 1
    POD_FREES = 2
    RESIDENT_LEAVES = 3
    POD_LEAVES = 4
    GIVES_UP = 5
    NODE_COMES = 6
    POD_COMES = 7


_Event = tuple[float, _What, int]
"""When, what, and to whom, by number."""


def play(
    recorded: Recorded,
    policy: InForce,
    *,
    name: str = "",
    lasting: Sequence[Stay] | None = None,
    progress: Callable[[int], None] = lambda events: None,
) -> Played:
    """Return what becomes of a record under a policy, called by *name*.

    How long pods stay is as the record has it, or as *lasting* says, one for each arrival.
    *progress* is told now and then how many more events have been played.
    """
    game = _Game(recorded, policy, stays(recorded) if lasting is None else lasting)
    for count in game.run():
        progress(count)
    return Played(name, policy.version, tuple(game.fates), game.meter, game.until)


def events_of(recorded: Recorded) -> int:
    """Return how many events a replay has at the most: pods that come, leave, and have left."""
    freed = sum(each.freed is not None for each in recorded.departures)
    return 2 * len(recorded.arrivals) + len(recorded.residents) + 2 * len(recorded.nodes) + freed


class _Game:
    """A replay under way."""

    def __init__(self, recorded: Recorded, policy: InForce, lasting: Sequence[Stay]) -> None:
        self._recorded = recorded
        self._stays = lasting
        self.meter = Meter()
        self._world = World(recorded, policy, self.meter.look_at)
        guests = [Guest(request_of(each), each.nodes, Fate()) for each in recorded.arrivals]
        self.fates = [each.fate for each in guests]
        self._seating = Seating(self._world, guests, self._seated)
        self._freed = {
            each.uid: each.freed for each in recorded.departures if each.freed is not None
        }
        self.until = recorded.ends
        self._events: list[_Event] = list(self._foreseen())
        heapq.heapify(self._events)

    def _foreseen(self) -> Iterator[_Event]:
        left = {each.uid: each.at for each in self._recorded.departures}
        for number, node in enumerate(self._recorded.nodes):
            if node.since:
                yield node.since, _What.NODE_COMES, number
            if node.until is not None:
                yield node.until, _What.NODE_CLOSES, number
        for number, resident in enumerate(self._recorded.residents):
            if resident.uid in left:
                yield left[resident.uid], _What.RESIDENT_LEAVES, number
        for number, arrival in enumerate(self._recorded.arrivals):
            yield arrival.at, _What.POD_COMES, number
            if math.isfinite(self._stays[number].waits_until):
                yield self._stays[number].waits_until, _What.GIVES_UP, number

    def run(self) -> Iterator[int]:
        """Play everything up to the record's end, yielding now and then how much that was."""
        played, roomier = 0, False
        while self._events and self._events[0][0] <= self.until:
            at, what, number = heapq.heappop(self._events)
            self.meter.now = at
            roomier |= self._happens(at, what, number)
            following = self._events[0][:2] if self._events else (math.inf, _What.POD_COMES)
            if roomier and following >= (at, _What.POD_COMES):
                self._seating.again(at)
                roomier = False
            played += 1
            if played == EVENTS_A_STEP:
                yield played
                played = 0
        yield played

    def _happens(self, at: float, what: _What, number: int) -> bool:
        """Let something happen; return whether there may be room afterwards that was not before."""
        match what:
            case _What.NODE_COMES:
                self._world.came(self._recorded.nodes[number])
            case _What.RESIDENT_FREES:
                self._world.freed(self._recorded.residents[number].uid)
            case _What.POD_FREES:
                self._world.freed(self._recorded.arrivals[number].uid)
            case _What.NODE_CLOSES:
                self._world.closed(self._recorded.nodes[number].name)
                return False
            case _What.RESIDENT_LEAVES:
                resident = self._recorded.residents[number].uid
                self._leaves(resident, self._freed.get(resident, at), _What.RESIDENT_FREES, number)
            case _What.POD_LEAVES:
                fate, uid = self.fates[number], self._recorded.arrivals[number].uid
                assert fate.placed_at is not None
                fate.ended_at = at
                free = self._stays[number].frees(fate.placed_at, at)
                self._leaves(uid, free, _What.POD_FREES, number)
            case _What.GIVES_UP:
                self._seating.gives_up(number, at)
                return False
            case _What.POD_COMES:
                self._seating.comes(number, at)
                return False
        return True

    def _leaves(self, uid: str, freed: float, what: _What, number: int) -> None:
        """Take a pod's places from it; they are free at once, or when they are *freed*."""
        if freed <= self.meter.now:
            self._world.gone(uid)
            return
        self._world.leaves(uid)
        heapq.heappush(self._events, (freed, what, number))

    def _seated(self, number: int, at: float) -> None:
        """Foresee the end of a pod that has its place."""
        ends = self._stays[number].ends(at)
        if ends <= self.until:
            heapq.heappush(self._events, (max(ends, at), _What.POD_LEAVES, number))


def request_of(arrival: Arrival) -> Request:
    """Return what a pod asks for, as decisions see it."""
    gang = arrival.gang
    return Request(
        PodRef(arrival.namespace, arrival.name, arrival.uid),
        tuple(sorted(arrival.wanted)),
        gang=None if gang is None else Gang(arrival.namespace, gang.name, gang.size),
        priority=arrival.priority,
        spread=arrival.spread if len(arrival.wanted) > 1 else Spread.ANY,
    )
