"""An order as it is told: JSON for programs, and what the command line prints."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from extender.advice.document import Who
from extender.moving.order import Admitted, Leg, Order, Seat


class _Said(msgspec.Struct, frozen=True, rename="camel"):
    """How every value of this module looks as JSON."""


class Stage(StrEnum):
    """How far a move, or an order, has come."""

    MADE = "made"
    UNDER_WAY = "under-way"
    TO_COME = "to-come"
    NOT_MADE = "not-made"
    """The order ended before it, or with it."""


class At(_Said, frozen=True):
    """Where something is, or is to be: memory slices of a GPU by UUID."""

    node: str
    gpu: str
    start: int
    size: int


class Moved(_Said, frozen=True):
    """One move of an order; ``how`` is "" where that is not known yet."""

    vm: Who
    source: At
    target: At
    stage: Stage
    how: str = ""


class Awaited(_Said, frozen=True):
    """A pod that the moves are made for, and where it is to go."""

    pod: Who
    on: At


class Underway(_Said, frozen=True):
    """The last order of moves: "" for none. ``by`` is who has given it, "" if that is not known.

    ``outcome`` is "" while it is under way, else one of done, stopped and given-up, with ``why``;
    ``stopping``: nobody is told to leave any more, for that reason; ``waiting``: nobody for now.
    ``held`` is what keeps the VM under way from having arrived, though its pod has; "" for nothing.
    """

    order: str = ""
    digest: str = ""
    since: str = ""
    by: str = ""
    goals: tuple[str, ...] = ()
    moves: tuple[Moved, ...] = ()
    places: tuple[Awaited, ...] = ()
    outcome: str = ""
    why: str = ""
    stopping: str = ""
    waiting: str = ""
    over: bool = True
    held: str = ""


def told(order: Order | None, waiting: str = "", held: str = "") -> Underway:
    """Return what is told of an order, None for none, why it waits, and what holds its VM up."""
    if order is None:
        return Underway()
    return Underway(
        order.id,
        order.digest,
        order.since,
        order.by,
        order.goals,
        tuple(_move(order, at, leg) for at, leg in enumerate(order.legs)),
        tuple(_place(each) for each in order.places),
        "" if order.ending is None else order.ending.value,
        order.why,
        order.stopping,
        waiting,
        order.over,
        held,
    )


def _move(order: Order, at: int, leg: Leg) -> Moved:
    who = Who(leg.owner.namespace, leg.owner.kind, leg.owner.name)
    how, stage = "", Stage.TO_COME
    if at < order.at:
        how, stage = order.made[at].kind, Stage.MADE
    elif order.ending is not None:
        stage = Stage.NOT_MADE
    elif at == order.at and order.departed is not None:
        how, stage = order.departed.kind.value, Stage.UNDER_WAY
    return Moved(who, _at(leg.source), _at(leg.target), stage, how)


def _place(place: Admitted) -> Awaited:
    return Awaited(Who(place.pod.namespace, "Pod", place.pod.name), _at(place.seat))


def _at(seat: Seat) -> At:
    return At(seat.node, seat.gpu, seat.start, seat.size)


def namespaces(said: Underway) -> frozenset[str]:
    """Return the namespaces of whose VMs is told."""
    whose = [each.vm for each in said.moves] + [each.pod for each in said.places]
    return frozenset(who.namespace for who in whose) - {""}


HIDDEN = "for a reason that names VMs you may not know of"


def veiled(said: Underway, may_know: Callable[[str], bool]) -> Underway:
    """Return what is told to whoever may know of the VMs of some namespaces only.

    Goals name pods, and so may reasons: they are left out for whoever may not know of all.
    """

    def seen(who: Who) -> Who:
        return who if may_know(who.namespace) else Who()

    replace, all_known = msgspec.structs.replace, all(map(may_know, namespaces(said)))
    return replace(
        said,
        goals=said.goals if all_known else (),
        why=said.why if all_known or not said.why else HIDDEN,
        held=said.held if all_known or not said.held else HIDDEN,
        moves=tuple(replace(each, vm=seen(each.vm)) for each in said.moves),
        places=tuple(replace(each, pod=seen(each.pod)) for each in said.places),
    )
