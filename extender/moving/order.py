"""An order: the moves of a plan that are to be made one after the other, and how far that has come.

It is kept as JSON where every replica finds it. Each of its moves has a place held in the plan of
the node it goes to, under an id that follows from the order's: so what belongs to an order is
known by its id, and holding it again does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from extender.advice.asked import Asked
from extender.claims import claimant
from extender.snapshot import Taken
from nodeagent.api import keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, OwnerRef, PodRef

MOST_LEGS = 200
"""Moves of one order: of a GpuNode's plan, each takes an entry; of an order, half a kilobyte."""


class _Kept(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How every value of this module looks as JSON."""


class Kind(StrEnum):
    """How a VM is moved."""

    LIVE = "live-migration"
    """KubeVirt moves it while it runs."""
    EVICTION = "eviction"
    """Its pod is evicted, as far as its disruption budget allows, and its owner makes another."""
    RESTART = "restart"
    """It is stopped though its eviction is refused, for its owner allows that."""


class Outcome(StrEnum):
    """How an order ended."""

    DONE = "done"
    STOPPED = "stopped"
    """Somebody, or the policy, ended it: nobody was leaving, or was there and not Ready yet."""
    GIVEN_UP = "given-up"
    """A move could not be made, or not as it was planned."""


class Seat(_Kept, frozen=True):
    """A place on a GPU of a node; ``start`` and ``size`` are memory slices."""

    node: str
    gpu: str
    profile_id: int
    start: int
    size: int

    @property
    def taken(self) -> Taken:
        """The slices it is about."""
        return Taken(self.gpu, self.profile_id, Placement(self.start, self.size))

    def overlaps(self, other: Seat) -> bool:
        """Tell whether the two cannot both be had."""
        mine, theirs = self.taken.placement, other.taken.placement
        return self.gpu == other.gpu and bool(mine.mask & theirs.mask)


class Leg(_Kept, frozen=True):
    """One move: of the pod that ``owner`` has at the ``source`` for ``resource``, to the target.

    ``pod`` is whose it was when the plan was made; of a VM that is moved twice, another's by then.
    """

    owner: OwnerRef
    pod: PodRef
    resource: str
    source: Seat
    target: Seat


class Admitted(_Kept, frozen=True):
    """A pod that waits, and the place it is to have once the moves are made."""

    pod: PodRef
    resource: str
    seat: Seat


class Departure(_Kept, frozen=True):
    """A move under way: the ``pod`` that leaves, how, and which other pods its owner had then.

    ``unready``: it was not Ready when it was told to, so that its next need not be, either.
    """

    pod: PodRef
    kind: Kind
    others: tuple[str, ...] = ()
    unready: bool = False


GONE = "gone"
"""How a move was made whose VM was no more when its turn came."""


class Made(_Kept, frozen=True):
    """A move that was made; ``kind`` is "" for a VM that came to its target by itself."""

    kind: str = ""


class Order(_Kept, frozen=True):
    """Moves to be made, those ``made``, and the one under way, whose VM has ``departed``.

    ``digest`` tells the plan, ``id`` this order of it, ``since`` when it was given, ``by`` whom.
    ``asked`` are the goals, which are to hold in the end; of one given by an earlier version they
    are not known.
    ``for_pods``: it has no goal but its ``places``, and none without anybody who waits for one.
    ``begun`` are the times (RFC 3339) at which moves were begun lately, those of earlier orders
    among them. Once it is ``stopping``, for that reason, nobody is told to leave; once it is
    ``ending``, nothing is done but to give back what is held for it, and to hold a place for a VM
    that has ``departed`` and come nowhere; then it is ``over``.
    """

    id: str
    digest: str
    since: str
    goals: tuple[str, ...]
    legs: tuple[Leg, ...]
    by: str = ""
    places: tuple[Admitted, ...] = ()
    asked: Asked | None = None
    for_pods: bool = False
    made: tuple[Made, ...] = ()
    departed: Departure | None = None
    begun: tuple[str, ...] = ()
    stopping: str = ""
    ending: Outcome | None = None
    why: str = ""
    over: bool = False

    @property
    def at(self) -> int:
        """The index of the move that is under way, or next."""
        return len(self.made)

    @property
    def leg(self) -> Leg | None:
        """The move that is under way, or next; None once all are made."""
        return self.legs[self.at] if self.at < len(self.legs) else None

    def id_of(self, leg: int) -> str:
        """Return the id under which the target of a leg is held."""
        return f"{keys.MOVE_PREFIX}{self.id}-{leg}"

    def id_ahead(self, leg: int) -> str:
        """Return the id under which the target of a leg is kept that others have yet to leave."""
        return f"{self.id_of(leg)}{keys.AHEAD_SUFFIX}"

    def id_of_place(self, place: int) -> str:
        """Return the id under which the place of a pod that waits is claimed."""
        return f"{keys.MOVE_PREFIX}{self.id}-to-{place}"

    def left_by_itself(self, entries: Iterable[Assignment]) -> bool:
        """Tell whether a VM that is to leave next has nothing any more but what is held for it."""
        return all(map(self.owns, entries))

    def way_back(self, seat: Seat) -> Assignment:
        """Return the reservation of a place for the next pod of the VM that is under way.

        It is like what is held for any VM that restarts, and lasts as long.
        """
        leg = self.legs[self.at]
        return _entry(f"back-{self.id}-{self.at}", seat, leg.resource, leg.owner, self.since)

    def owns(self, entry: Assignment) -> bool:
        """Tell whether an entry of a plan is held for this order."""
        return entry.pod is None and entry.id.startswith(f"{keys.MOVE_PREFIX}{self.id}-")

    def hold(self, leg: int) -> Assignment:
        """Return the reservation of a leg's target, for the VM's next pod."""
        each = self.legs[leg]
        return _entry(self.id_of(leg), each.target, each.resource, each.owner, self.since)

    def claim(self, place: int) -> Assignment:
        """Return the claim of a waiting pod's place, which others have yet to leave."""
        each = self.places[place]
        id = self.id_of_place(place)
        return _entry(id, each.seat, each.resource, claimant(each.pod), self.since)

    def holds(self) -> Iterator[tuple[str, Assignment]]:
        """Yield the targets that may be held by now, the next one first, with their nodes.

        They are held ahead of their turn, but not two for one owner: its next pod would take
        either. And not where an earlier move has still to come: a VM may be parked there.
        """
        owners = set()
        for at in range(self.at, len(self.legs)):
            leg = self.legs[at]
            if leg.owner not in owners and not self._comes(leg.target, range(self.at, at)):
                yield leg.target.node, self.hold(at)
            owners.add(leg.owner)

    def ahead(self) -> Iterator[tuple[int, str, Assignment]]:
        """Yield the later moves whose targets may be kept by now, with their nodes and the claims.

        A claim lies over what the order has leave: nobody comes there in between, and no pod of the
        VM's takes it before its turn. Not where an earlier move has still to come.
        """
        for at in range(self.at + 1, len(self.legs)):
            leg = self.legs[at]
            if self._comes(leg.target, range(self.at, at)):
                continue
            whose = OwnerRef(keys.PREEMPTOR, leg.owner.namespace, self.id_ahead(at))
            entry = _entry(self.id_ahead(at), leg.target, leg.resource, whose, self.since)
            yield at, leg.target.node, entry

    def claims(self) -> Iterator[tuple[str, Assignment, str]]:
        """Yield the places that may be claimed by now, with their nodes and for whom, by UID.

        They may lie over those of VMs that are to leave.
        """
        for at, place in enumerate(self.places):
            if not self._comes(place.seat, range(self.at, len(self.legs))):
                yield place.seat.node, self.claim(at), place.pod.uid

    def ripe(self) -> frozenset[str]:
        """Return the ids of the claims that may be places by now: nobody might yet come back there.

        All who were to leave such a place have come to theirs, and nobody is to be parked there.
        """
        return frozenset(
            self.id_of_place(at)
            for at, place in enumerate(self.places)
            if not any(
                leg.source.overlaps(place.seat) or leg.target.overlaps(place.seat)
                for leg in self.legs[self.at :]
            )
        )

    def _comes(self, seat: Seat, legs: range) -> bool:
        return any(self.legs[at].target.overlaps(seat) for at in legs)


def _entry(id: str, seat: Seat, resource: str, owner: OwnerRef, since: str) -> Assignment:
    return Assignment(
        id=id,
        gpu=seat.gpu,
        profile_id=seat.profile_id,
        start=seat.start,
        size=seat.size,
        resource=resource,
        since=since,
        owner=owner,
    )
