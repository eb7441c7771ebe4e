"""Bugs in whoever carries orders of moves out; each function returns what plants one."""

from __future__ import annotations

import contextlib
from typing import Any
from unittest.mock import patch

import msgspec

import extender.moving.course as course
import extender.moving.ending as ending
import extender.service.holding as holding
import extender.service.moving as moving
from extender.moving import Arrived, Depart, Departure, Kind, Restraint, There
from extender.moving.arriving import its_own
from extender.service.holding import Holding
from extender.service.moving import Moving
from extender.service.pacing import Pacing
from nodeagent.api.gpunode import PodRef


def evicted_before_it_is_kept() -> Any:
    """Have a pod leave, and keep that afterwards: whoever leads next does not know of it."""
    whole = Moving._depart

    async def depart(self: Any, kept: Any, step: Depart) -> None:
        leg, pod = step.leg, step.pod
        manner = await self._departing.manner(leg.owner, pod)
        if not manner.why:
            told = Departure(pod, Kind.LIVE if manner.live else Kind.EVICTION, step.others)
            await self._departing.leave(leg, told, f"tangram-{kept.order.id}-early", lambda: True)
        await whole(self, kept, step)

    return patch.object(Moving, "_depart", depart)


def nothing_held() -> Any:
    """Have VMs leave though no place is held for them."""
    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(There, "held", lambda self, node, id: True))
    stack.enter_context(patch.object(course, "_would_inherit", lambda leg, pod, there: True))
    return stack


def off_unheard() -> Any:
    """Go on whatever the policy says by now."""
    return patch.object(Pacing, "restraint", lambda self, order: Restraint())


def stop_unheard() -> Any:
    """Have the next VM leave though somebody has stopped the order."""
    whole = course.next_step

    def next_step(order: Any, *seen: Any, **named: Any) -> Any:
        return whole(msgspec.structs.replace(order, stopping=""), *seen, **named)

    stack = contextlib.ExitStack()
    for module in (moving, holding):
        stack.enter_context(patch.object(module, "next_step", next_step))
    return stack


def not_looked_again() -> Any:
    """Have a VM leave whatever has changed since that was decided: much was read meanwhile."""
    return patch.object(Moving, "_is_still", lambda self, order, step: True)


def nowhere_to_go_back() -> Any:
    """Hold nothing for a VM that has left and come nowhere when its order ends."""
    return patch.object(ending, "_way_back", lambda order, there: iter(()))


def holds_left() -> Any:
    """Be done with an order without giving back what is held for it."""

    async def sweep(self: Any, order: Any) -> None: ...

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(ending, "_left", lambda order, there: iter(())))
    stack.enter_context(patch.object(Holding, "sweep", sweep))
    return stack


def two_orders() -> Any:
    """Begin with another order though one is under way."""
    whole = Moving.give

    async def give(self: Any, make: Any) -> Any:
        def regardless(before: Any) -> Any:
            return make(None if before is None else msgspec.structs.replace(before, over=True))

        return await whole(self, regardless)

    return patch.object(Moving, "give", give)


def made_when_planned() -> Any:
    """Count a move as made once its place is planned, whether its VM has come or not."""
    whole = course._under_way

    def under_way(
        order: Any, leg: Any, departure: Any, there: Any, *rest: Any, **named: Any
    ) -> Any:
        come = its_own(there.at(leg.target), leg)
        if come is not None:
            return Arrived(leg, come)
        return whole(order, leg, departure, there, *rest, **named)

    return patch.object(course, "_under_way", under_way)


def never_ready() -> Any:
    """Take each pod that is to leave for one that is not Ready: its next need not be, either."""

    def departure(pod: PodRef, kind: Kind, others: tuple[str, ...], unready: bool) -> Departure:
        return Departure(pod, kind, others, unready=True)

    return patch.object(moving, "Departure", departure)
