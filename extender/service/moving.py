"""An order of moves carried out, one step after the other, whoever leads.

What the next step is says ``extender.moving``; here it is taken. Each change of the order is kept
before what it is about is done, and what is done twice does no harm: so whoever leads next goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime

import msgspec
import structlog

from extender.moving import (
    Again,
    Arrived,
    Depart,
    Departure,
    Desist,
    End,
    Hold,
    Kind,
    Leg,
    Made,
    Order,
    Outcome,
    Over,
    Release,
    Skip,
    Step,
    Wait,
    held_up,
    next_step,
    on_its_way,
)
from extender.moving.course import NOT_COME, YET_TO_COME
from extender.moving.order import GONE
from extender.policy.moving import HOUR
from extender.service.departing import Departing
from extender.service.holding import Holding
from extender.service.knowledge import Knowledge
from extender.service.move_telling import MoveTeller
from extender.service.pacing import Pacing
from extender.service.plans import Plans
from extender.service.ports import ClusterUnavailable
from extender.service.relocation import Kept, OrderChanged, Orders
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import PodRef

log = structlog.get_logger()


class Moving:
    """Carries the order out that is kept in *orders*; the *teller* tells of it."""

    def __init__(
        self,
        knowledge: Knowledge,
        plans: Plans,
        orders: Orders,
        departing: Departing,
        teller: MoveTeller,
        *,
        utc_now: Callable[[], datetime],
    ) -> None:
        self._knowledge = knowledge
        self._orders = orders
        self._departing = departing
        self._teller = teller
        self._utc_now = utc_now
        self._kept: Kept | None = None
        self._read = False
        self._taken: tuple[Order, Step] | None = None
        self._pacing = Pacing(knowledge, utc_now)
        self._holding = Holding(knowledge, plans, self._pacing)
        self._one = asyncio.Lock()
        self._due = asyncio.Event()

    async def run(self) -> None:
        """Carry orders out until cancelled."""
        knowledge = self._knowledge
        while True:
            if knowledge.not_ready():
                self._read = False  # another may lead meanwhile
            else:
                try:
                    while not knowledge.not_ready() and await self.step():
                        pass
                except OrderChanged as error:
                    self._read = False
                    log.info("order_changed", error=str(error))
                except ClusterUnavailable as error:
                    self._read = False  # what was written is not known
                    log.warning("moves_postponed", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(knowledge.settings.sweep_interval_seconds):
                    await self._due.wait()
            self._due.clear()

    # What others ask of it.

    async def order(self) -> Order | None:
        """Return the last order, as it is kept.

        Raises:
            ClusterUnavailable: it could not be read.
        """
        kept = await self._orders.read()
        return None if kept is None else kept.order

    async def give(self, make: Callable[[Order | None], Order]) -> Order:
        """Keep the order that is made after the last one, and begin with it.

        Raises:
            OrderChanged: somebody else has given one.
            ClusterUnavailable: it may have been given.
        """
        try:
            async with self._one:
                before = await self._orders.read()
                order = make(None if before is None else before.order)
                await self._keep(order, before)
        finally:
            self._due.set()
        log.info(
            "order_given", order=order.id, by=order.by, moves=len(order.legs), goals=order.goals
        )
        await self._teller.given(order)
        return order

    async def stop(self, why: str) -> Order | None:
        """Let nobody be told to leave any more by the order under way; return that order.

        Raises:
            OrderChanged: it has just come further; try again.
            ClusterUnavailable: it may have been stopped.
        """
        try:
            async with self._one:
                kept = await self._orders.read()
                if kept is None or kept.order.over or kept.order.ending or kept.order.stopping:
                    return None if kept is None else kept.order
                order = msgspec.structs.replace(kept.order, stopping=why)
                await self._keep(order, kept)
        finally:
            self._due.set()
        log.info("order_stopping", order=order.id, reason=why)
        await self._teller.stopping(order)
        return order

    def waits(self, order: Order) -> str:
        """Return why the policy keeps an order from going on for now, "" where it does not."""
        return self._pacing.waits(order)

    def held_up(self, order: Order) -> str:
        """Return what keeps the VM under way from being Ready where it went, "" for nothing."""
        return held_up(order, self._holding.there())

    # Steps.

    async def step(self) -> bool:
        """Take the next step; return whether another may follow at once.

        One that has had no effect is taken once more before it is waited.

        Raises:
            OrderChanged: somebody else has written the order.
            ClusterUnavailable: the step may have been taken.
        """
        async with self._one:
            if not self._read:
                self._kept, self._read = await self._orders.read(), True
            kept = self._kept
            live = None if kept is None or kept.order.over else kept
            self._ripen(None if live is None else live.order)
            await self._holding.sweep(None if live is None else live.order)
            if live is None:
                return False
            return await self._take(live)

    async def _take(self, kept: Kept) -> bool:
        order = kept.order
        there, restraint = self._holding.there(), self._pacing.restraint(order)
        overdue = self._pacing.overdue(order, on_its_way=on_its_way(order, there))
        step = next_step(order, there, restraint, overdue=overdue)
        again, self._taken = self._taken == (order, step), (order, step)
        another = await self._act(kept, step)
        waits = isinstance(step, Hold | Wait | Again) or (isinstance(step, Skip) and not another)
        if order.ending is None and waits:
            await self._teller.stands(order, self._holding.there(), self._waits_for(order, step))
        await asyncio.sleep(0)  # others have their turns, though a step may wait for nothing
        return another and not again

    def _waits_for(self, order: Order, step: Step) -> str:
        """Return what is waited for once a step is taken, "" for nothing."""
        match step:
            case Wait(why=why):
                return why
            case Again(departure=departure):
                return self._departing.refusal(departure, _name(order))
            case Skip():
                return YET_TO_COME
            case _:
                return ""

    async def _act(self, kept: Kept, step: Step) -> bool:
        """Take a step; return whether another may follow at once."""
        order = kept.order
        match step:
            case Hold(entries=entries):
                return await self._holding.hold(order, entries)
            case Depart():
                await self._depart(kept, step)
            case Again(leg=leg, departure=departure):
                return await self._leave(kept, leg, departure, lambda: self._is_still(order, step))
            case Desist():
                return await self._desist(kept, step)
            case Arrived(leg=leg, pod=pod):
                await self._arrived(kept, leg, pod)
            case Skip():
                return await self._skip(kept, step)
            case End(outcome=outcome, why=why):
                await self._end(kept, outcome, why)
            case Release(nodes=nodes):
                for node in nodes:
                    await self._holding.give_back(order, node)
            case Over():
                await self._keep(msgspec.structs.replace(order, over=True), kept)
                self._knowledge.room.set()
                return False
            case Wait():
                return False
        return True

    async def _keep(self, order: Order, before: Kept | None) -> None:
        self._read = False  # without an answer it is open which of the two is kept
        self._kept = await self._orders.write(order, before)
        self._read = True
        self._ripen(order)

    def _ripen(self, order: Order | None) -> None:
        """Let the places that an order has made be taken."""
        ripe = frozenset() if order is None or order.over else order.ripe()
        if ripe != self._knowledge.ripe_claims:
            self._knowledge.ripe_claims = ripe
            self._knowledge.vacating.set()

    async def _depart(self, kept: Kept, step: Depart) -> None:
        """Keep that a pod is to leave, and have it do so."""
        leg, pod = step.leg, step.pod
        manner = await self._departing.manner(leg.owner, pod)
        if manner.why:
            await self._end(kept, Outcome.GIVEN_UP, manner.why)
            return
        kind = Kind.RESTART if manner.denied else Kind.EVICTION
        kind = Kind.LIVE if manner.live else kind
        now = self._utc_now()
        lately = [e for e in kept.order.begun if datetime.fromisoformat(e) > now - HOUR]
        departure = Departure(pod, kind, step.others, step.unready)
        order = msgspec.structs.replace(
            kept.order, departed=departure, begun=(*lately, rfc3339.microseconds(now))
        )
        await self._keep(order, kept)
        await self._teller.begun(order, leg, departure)

    def _is_still(self, order: Order, step: Step) -> bool:
        """Tell whether a step is the right one at this moment."""
        if self._knowledge.not_ready():
            return False
        there, restraint = self._holding.there(), self._pacing.restraint(order)
        return next_step(order, there, restraint, overdue=False) == step

    async def _leave(
        self, kept: Kept, leg: Leg, departure: Departure, still: Callable[[], bool]
    ) -> bool:
        """Have the pod leave that was to, if it *still* is; give up if it may not."""
        order = kept.order
        refused = await self._departing.leave(leg, departure, _name(order), still)
        if not refused:
            return False  # what comes of it is seen later
        evicted = departure.kind is Kind.EVICTION
        if not evicted or not await self._departing.may_be_stopped(leg, departure.pod):
            await self._end(kept, Outcome.GIVEN_UP, refused)
            return True
        stopped = msgspec.structs.replace(departure, kind=Kind.RESTART)
        order = msgspec.structs.replace(order, departed=stopped)
        await self._keep(order, kept)
        await self._teller.begun(order, leg, stopped)
        return True

    async def _desist(self, kept: Kept, step: Desist) -> bool:
        """End the order if the pod that was to leave stays, by itself or because it is told to."""
        if not await self._departing.stays(
            step.leg,
            step.departure,
            _name(kept.order),
            cancels=step.cancels,
            overdue=step.overdue,
        ):
            return False
        await self._end(kept, step.outcome, step.why)
        return True

    async def _skip(self, kept: Kept, step: Skip) -> bool:
        """Pass over a VM that is gone; return False while its next pod is to come."""
        order, leg = kept.order, step.leg
        comes = await self._departing.comes_back(leg)
        if not self._is_still(order, Skip(leg)):
            return True
        if comes and not step.overdue:
            return False
        if comes:
            await self._end(kept, Outcome.GIVEN_UP, NOT_COME)
            return True
        await self._keep(msgspec.structs.replace(order, made=(*order.made, Made(GONE))), kept)
        await self._teller.skipped(order, leg)
        return True

    async def _arrived(self, kept: Kept, leg: Leg, pod: PodRef) -> None:
        order, departed = kept.order, kept.order.departed
        kind = "" if departed is None else departed.kind.value
        after = msgspec.structs.replace(order, made=(*order.made, Made(kind)), departed=None)
        await self._keep(after, kept)
        await self._teller.made(order, leg, pod, kind)

    async def _end(self, kept: Kept, outcome: Outcome, why: str) -> None:
        """Keep that the order comes to its end; what is held for it is given back after that."""
        order = kept.order
        after = msgspec.structs.replace(order, ending=outcome, why=why)
        await self._keep(after, kept)
        await self._teller.ends(order, outcome, why, self._holding.there())


def _name(order: Order) -> str:
    """Return the name of the move under way, by which its migration is known."""
    return f"tangram-{order.id}-{order.at}"
