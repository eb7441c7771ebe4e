"""Who comes, asks for a place, waits, and has it: what a replay and a shadow do alike.

Pods are decided about one by one, a gang as a whole once all its members are there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from extender.replay.line import Line, Unit
from extender.replay.played import Fate
from extender.replay.recorded import Place
from extender.replay.world import World
from extender.request import LARGEST_GANG, Gang, Request
from extender.verbs.verdicts import Code


class Guest(msgspec.Struct, frozen=True, gc=False):
    """A pod: what it asks for, of which nodes (None: of all), and what becomes of it."""

    request: Request
    nodes: Sequence[str] | None
    fate: Fate


class Seating:
    """Places *guests*, who are called by number, in a *world*; *seated* hears of who has a place.

    Times are in seconds, of whichever clock.
    """

    def __init__(
        self,
        world: World,
        guests: Mapping[int, Guest] | Sequence[Guest],
        seated: Callable[[int, float], None],
    ) -> None:
        self._world = world
        self._guests = guests
        self._seated = seated
        self._line = Line(self._names_of)
        self._gangs: dict[Gang, Unit] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._line)

    def comes(self, number: int, at: float) -> None:
        """Ask for a pod, or let it join its gang: those that wait are placed with it or not at all.

        Once a gang has its places, or as many wait as a gang may have, who comes later is alone.
        """
        gang = self._guests[number].request.gang
        if gang is None:
            self._ask((number,), at)
            return
        known = self._gangs.get(gang, ())
        has_places = known and self._guests[known[0]].fate.placed_at is not None
        if len(known) >= LARGEST_GANG or has_places:
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

    def gives_up(self, number: int, at: float) -> None:
        """Let a pod wait no longer; what is left of its gang waits on, or for another member."""
        guest = self._guests[number]
        fate, gang = guest.fate, guest.request.gang
        if fate.placed_at is not None:
            return
        fate.ended_at = at
        self._line.leave(number)
        if gang is not None and number in (known := self._gangs.get(gang, ())):
            self._gather(gang, tuple(each for each in known if each != number), at)

    def elsewhere(self, number: int) -> None:
        """Take in that a pod may go to other nodes than before, as its guest tells by now.

        If it waits, it does so behind those that might go there all along.
        """
        if unit := self._line.leave(number):
            self._waits(unit)

    def forget(self, number: int) -> None:
        """Remember nothing of a pod that has left: whoever calls a gang by its gang's name later
        is of another one.
        """
        gang = self._guests[number].request.gang
        if gang is None or number not in (known := self._gangs.get(gang, ())):
            return
        left = tuple(each for each in known if each != number)
        if left:
            self._gangs[gang] = left
        else:
            del self._gangs[gang]

    def again(self, at: float) -> None:
        """Try those who wait once more, for there may be room that was not there before."""
        self._line.again(self._hopeless, lambda unit: self._placed(unit, at))

    def _ask(self, unit: Unit, at: float) -> None:
        """Decide about pods, for the first time about some of them."""
        found = self._tried(unit, at)
        for each in unit:
            fate = self._guests[each].fate
            if fate.asked_at is None:
                fate.asked_at, fate.refused = at, _reason(found)
        if found:
            self._waits(unit)

    def _waits(self, unit: Unit) -> None:
        request = self._guests[unit[0]].request
        kin, priority = self._world.kin(request), self._world.tenancy.priority(request)
        self._line.join(unit, kin, self._kind(unit), priority)

    def _kind(self, unit: Unit) -> object:
        """Return what pods that stand alike to every rule have in common; a gang is like none."""
        if len(unit) > 1:
            return unit
        guest = self._guests[unit[0]]
        request = guest.request
        tenant = self._world.tenancy.tenant_of(request.pod.namespace)
        return tenant, request.wanted, request.spread, request.priority, guest.nodes

    def _names_of(self, unit: Unit) -> int:
        """Return how many names are looked at for pods: for those that may go anywhere, few."""
        return 1 + sum(len(self._guests[each].nodes or ()) for each in unit)

    def _hopeless(self, unit: Unit) -> bool:
        """Tell whether no node would take the first of these: then they are not placed."""
        return self._world.hopeless(self._guests[unit[0]].request)

    def _placed(self, unit: Unit, at: float) -> bool:
        """Try pods again that wait; tell whether they have their places now."""
        return not self._hopeless(unit) and not self._tried(unit, at)

    def _tried(self, unit: Unit, at: float) -> Collection[Code]:
        """Place pods, all or none; return why they are refused, nothing if they are not."""
        given: list[tuple[Place, ...]] = []
        for each in unit:
            guest = self._guests[each]
            found = self._world.place(guest.request, guest.nodes)
            if not isinstance(found, tuple):
                for taken_back in unit[: len(given)]:
                    self._world.gone(self._guests[taken_back].request.pod.uid)
                return found
            given.append(found)
        for each, places in zip(unit, given, strict=True):
            fate = self._guests[each].fate
            fate.placed_at, fate.places = at, places
            self._seated(each, at)
        return ()


def _reason(codes: Collection[Code]) -> str:
    """Return the reason that tells most, "" for none."""
    return "" if not codes else min(codes, key=_telling).value


_DESPITE_ROOM = (Code.OVER_CAP, Code.HEADROOM, Code.NOT_SHARED)
"""Said of nodes that do have room; then it was a rule that decided, whatever others lack."""


def _telling(code: Code) -> tuple[bool, bool, str]:
    return code not in _DESPITE_ROOM, code is not Code.NO_ROOM, code.value
