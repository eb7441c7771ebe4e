"""What an order of moves holds in plans: written there, and given back.

Each change is decided again when it is our turn to write the plan: what was right before that may
not be by then.
"""

from __future__ import annotations

import contextlib

import structlog

from extender.claims import is_move
from extender.moving import Hold, Order, Release, Restraint, There, next_step
from extender.service.knowledge import Knowledge
from extender.service.pacing import Pacing
from extender.service.patience import Patience
from extender.service.plans import Plans
from extender.service.ports import PlanConflict
from nodeagent.api.gpunode import Assignment

log = structlog.get_logger()


class Holding:
    """Holds places for orders in *plans*; *pacing* says when no more may be."""

    def __init__(self, knowledge: Knowledge, plans: Plans, pacing: Pacing) -> None:
        self._knowledge = knowledge
        self._plans = plans
        self._pacing = pacing

    def there(self) -> There:
        """Return what is seen of the cluster now."""
        knowledge = self._knowledge
        return There(
            knowledge.views,
            knowledge.pods,
            knowledge.assigned,
            knowledge.ledger,
            knowledge.bounded,
            knowledge.unready,
            knowledge.constraints,
            knowledge.traits,
        )

    async def sweep(self, order: Order | None) -> None:
        """Give back what is held for any order but the one under way.

        Raises:
            ClusterUnavailable: not all was given back.
        """

        def stray(entry: Assignment) -> bool:
            return is_move(entry) and not (order is not None and order.owns(entry))

        for node in tuple(self._knowledge.holds.moving):
            view = self._knowledge.views.get(node)
            if view is not None and any(map(stray, view.reservations)):
                log.info("stray_reservations_released", node=node)
                await self._plans.release(node, stray)

    async def hold(self, order: Order, entries: tuple[tuple[str, Assignment], ...]) -> bool:
        """Write reservations to the plans of their nodes, if that is still what is to be done.

        Return whether another step may follow at once.

        Raises:
            ClusterUnavailable: some may have been written.
        """
        for node in dict.fromkeys(name for name, _ in entries):
            async with self._plans.turn(node):
                restraint = self._pacing.restraint(order)
                again = next_step(order, self.there(), restraint, overdue=False)
                view = self._knowledge.views.get(node)
                if view is None:
                    return False
                if not isinstance(again, Hold):
                    return True
                add = [entry for name, entry in again.entries if name == node]
                gone = [each.id for each in view.reservations if each.id in again.instead]
                patience = Patience(self._knowledge)
                try:
                    if add:
                        await self._plans.write(view, add=add, remove=gone, patience=patience)
                except PlanConflict:
                    return True  # somebody else was first: what is right now is another question
        return True

    async def give_back(self, order: Order, node: str) -> None:
        """Take what is held for an order from a plan, if that is still what is to be done.

        Raises:
            ClusterUnavailable: it may have been given back.
        """
        async with self._plans.turn(node):
            again = next_step(order, self.there(), Restraint(), overdue=False)
            view = self._knowledge.views.get(node)
            if view is None or not isinstance(again, Release):
                return
            add = [again.back[node]] if node in again.back else []
            ids, patience = again.ids.get(node, frozenset()), Patience(self._knowledge)
            with contextlib.suppress(PlanConflict):  # what is right now is asked for next
                await self._plans.write(view, add=add, remove=ids, patience=patience)
