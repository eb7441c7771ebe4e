"""A record played: what happens in it, one after the other, decided anew.

Departures come first at any moment, then whoever waits, then who arrives: so room is seen before
others come, as it is live. Pods are decided about one by one, a gang as a whole once all its
members are there. What only happens live is left out: plans of the pending queue as one, evictions
for higher priority, and places held for VMs that restart.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import IntEnum

from extender.packing.spread import Spread
from extender.policy import InForce
from extender.replay.line import Line, Unit
from extender.replay.meter import Meter
from extender.replay.played import Fate, Played
from extender.replay.recorded import Arrival, Place, Recorded
from extender.replay.stays import Stay, stays
from extender.replay.world import World
from extender.request import LARGEST_GANG, Gang, Request
from extender.verbs.verdicts import Code
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
        self._requests = tuple(map(request_of, recorded.arrivals))
        self.fates = [Fate() for _ in recorded.arrivals]
        self._line = Line(self._names_of)
        self._gangs: dict[Gang, Unit] = {}
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
                self._line.again(self._hopeless, functools.partial(self._placed, at=at))
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
                self._gives_up(at, number)
                return False
            case _What.POD_COMES:
                self._comes(at, number)
                return False
        return True

    def _leaves(self, uid: str, freed: float, what: _What, number: int) -> None:
        """Take a pod's places from it; they are free at once, or when they are *freed*."""
        if freed <= self.meter.now:
            self._world.gone(uid)
            return
        self._world.leaves(uid)
        heapq.heappush(self._events, (freed, what, number))

    def _comes(self, at: float, number: int) -> None:
        """Ask for a pod, or let it join its gang: those that wait are placed with it or not at all.

        Once a gang has its places, or as many wait as a gang may have, who comes later is alone.
        """
        gang = self._requests[number].gang
        if gang is None:
            self._ask((number,), at)
            return
        known = self._gangs.get(gang, ())
        if known and (len(known) >= LARGEST_GANG or self.fates[known[0]].placed_at is not None):
            self._ask((number,), at)
            return
        for each in known:
            self._line.leave(each)
        self._gather(gang, (*known, number), at)

    def _gather(self, gang: Gang, members: Unit, at: float) -> None:
        """Ask for a gang if it has enough *members*."""
        self._gangs[gang] = members
        if len(members) >= gang.size:
            self._ask(members, at)

    def _gives_up(self, at: float, number: int) -> None:
        """Let a pod wait no longer; what is left of its gang waits on, or for another member."""
        fate, gang = self.fates[number], self._requests[number].gang
        if fate.placed_at is not None:
            return
        fate.ended_at = at
        self._line.leave(number)
        if gang is not None and number in (known := self._gangs.get(gang, ())):
            self._gather(gang, tuple(each for each in known if each != number), at)

    def _ask(self, unit: Unit, at: float) -> None:
        """Decide about pods, for the first time about some of them."""
        found = self._tried(unit, at)
        for each in unit:
            fate = self.fates[each]
            if fate.asked_at is None:
                fate.asked_at, fate.refused = at, _reason(found)
        if found:
            request = self._requests[unit[0]]
            kin, priority = self._world.kin(request), self._world.tenancy.priority(request)
            self._line.join(unit, kin, self._kind(unit), priority)

    def _kind(self, unit: Unit) -> object:
        """Return what pods that stand alike to every rule have in common; a gang is like none."""
        if len(unit) > 1:
            return unit
        arrival, request = self._recorded.arrivals[unit[0]], self._requests[unit[0]]
        tenant = self._world.tenancy.tenant_of(arrival.namespace)
        return tenant, request.wanted, request.spread, request.priority, arrival.nodes

    def _names_of(self, unit: Unit) -> int:
        """Return how many names are looked at for pods: for those that may go anywhere, few."""
        return 1 + sum(len(self._recorded.arrivals[each].nodes or ()) for each in unit)

    def _hopeless(self, unit: Unit) -> bool:
        """Tell whether no node would take the first of these: then they are not placed."""
        return self._world.hopeless(self._requests[unit[0]])

    def _placed(self, unit: Unit, at: float) -> bool:
        """Try pods again that wait; tell whether they have their places now."""
        return not self._hopeless(unit) and not self._tried(unit, at)

    def _tried(self, unit: Unit, at: float) -> Collection[Code]:
        """Place pods, all or none; return why they are refused, nothing if they are not."""
        given: list[tuple[Place, ...]] = []
        for each in unit:
            found = self._world.place(self._requests[each], self._recorded.arrivals[each].nodes)
            if not isinstance(found, tuple):
                for taken_back in unit[: len(given)]:
                    self._world.gone(self._recorded.arrivals[taken_back].uid)
                return found
            given.append(found)
        for each, places in zip(unit, given, strict=True):
            fate, ends = self.fates[each], self._stays[each].ends(at)
            fate.placed_at, fate.places = at, places
            if ends <= self.until:
                heapq.heappush(self._events, (max(ends, at), _What.POD_LEAVES, each))
        return ()


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


def _reason(codes: Collection[Code]) -> str:
    """Return the reason that tells most, "" for none."""
    return "" if not codes else min(codes, key=_telling).value


_DESPITE_ROOM = (Code.OVER_CAP, Code.HEADROOM, Code.NOT_SHARED)
"""Said of nodes that do have room; then it was a rule that decided, whatever others lack."""


def _telling(code: Code) -> tuple[bool, bool, str]:
    return code not in _DESPITE_ROOM, code is not Code.NO_ROOM, code.value
