"""Plans of moves given as orders: only the very plan that was looked at, and one at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from extender.advice import Advised, Asked
from extender.moving import Order, order_of
from extender.moving.order import MOST_LEGS
from extender.request import Request
from extender.service.advising import Advisor
from extender.service.knowledge import Knowledge
from extender.service.moving import Moving
from extender.service.relocation import OrderChanged
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import Mode


class NotApplied(Exception):
    """A plan is not carried out; the message says why, and what to do."""


class Ordering:
    """Applies plans; ``new_id`` gives orders their ids, ``utc_now`` their time."""

    def __init__(
        self,
        knowledge: Knowledge,
        advisor: Advisor,
        moving: Moving,
        *,
        new_id: Callable[[], str],
        utc_now: Callable[[], datetime],
    ) -> None:
        self._knowledge = knowledge
        self._advisor = advisor
        self._moving = moving
        self._new_id = new_id
        self._utc_now = utc_now

    async def apply(self, asked: Asked, digest: str, *, by: str = "") -> Order:
        """Have the plan for what is *asked* carried out, if it still is the one of that *digest*.

        *by* is who wants that.

        Raises:
            NotApplied: it is another by now, or may not be carried out.
            TimeoutError: there was no plan in time.
            ClusterUnavailable: the order may have been given.
        """
        wait = self._knowledge.in_force.moving.wait(self._utc_now(), ())
        if wait is not None:
            raise NotApplied(f"{wait.why.value}: no move is begun")
        found = await self._advisor.plan(asked)
        self._look(found, digest)

        def make(before: Order | None) -> Order:
            if before is not None and not before.over:
                raise NotApplied("an order of moves is under way; one at a time is carried out")
            return order_of(
                self._new_id(),
                found.errands,
                since=rfc3339.seconds(self._utc_now()),
                goals=found.advice.goals,
                by=by,
                asked=asked,
                for_pods=asked.admits_alone,
                begun=() if before is None else before.begun,
            )

        try:
            return await self._moving.give(make)
        except OrderChanged as error:
            raise NotApplied("somebody else has just given an order of moves") from error

    def _look(self, found: Advised, digest: str) -> None:
        """Look whether a plan may be carried out.

        Raises:
            NotApplied: it may not.
        """
        advice, errands = found.advice, found.errands
        if not advice.attains:
            raise NotApplied("there is no plan that attains that any more: look at it again")
        if advice.digest != digest:
            raise NotApplied("the plan is another one by now: look at it again")
        if not errands.moves:
            raise NotApplied("nothing has to move: there is room as it is")
        if len(errands.moves) > MOST_LEGS:
            raise NotApplied(f"an order has at most {MOST_LEGS} moves: ask for less")
        nodes = {node for each in errands.moves for node in (each.source, each.target)}
        for node in sorted(nodes):
            view = self._knowledge.views.get(node)
            if view is not None and view.node.status.mode is Mode.HARVESTER:
                raise NotApplied(f"a VM on {node} keeps its device with Harvester while it is off")
        for arrival in errands.places:
            if isinstance(arrival.request, Request) and arrival.request.gang is not None:
                raise NotApplied("a pod of a gang is placed together with the others of it")
