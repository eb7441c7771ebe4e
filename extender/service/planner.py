"""The joint plan of the pods that wait: settle, solve, hand it out.

::

    filter: the pods of a burst, and of a gang, are refused for a moment
        │
        ▼
    settle ─▶ solve ─┬─▶ ledger.planned: prioritize gives the node 10, bind the GPU ─────▶ wake
        ▲            │                                                                      ▲
        │            └─▶ gangs: assume every member ─▶ write node by node ──────────────────┘
        │                   │ a place is gone             │ a write is lost    each member passes
        └───────────────────┴──────── take all back ◀─────┘                    on its node alone

Solving runs in a thread. OR-Tools lets go of the interpreter's lock while it solves; the rest of
the work shares it in the turns that ``serve`` sets (``extender.cli.switching``: 0.05 ms, where
Python's own 5 ms were what a filter waited meanwhile, with 300 pods on 160 GPUs). A process would
have to be sent the fleet with every plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from extender.planning.gangs import Standing
from extender.planning.joint import JointPlan, Limits, Waiting
from extender.planning.stages import staged_plan
from extender.service.enlisted import Key, key
from extender.service.gangs import Gangs
from extender.service.knowledge import Knowledge
from extender.service.reservation import Reservations
from extender.service.right_of_way import GivingWay

log = structlog.get_logger()

SETTLE_STEPS = 10  # looks at a burst within ``plan_settle_seconds``

Solve = Callable[[Callable[[], JointPlan]], Awaitable[JointPlan]]
"""Does a computation somewhere else than on the event loop."""


async def in_thread(work: Callable[[], JointPlan]) -> JointPlan:
    """Solve in a thread."""
    return await asyncio.to_thread(work)


class Planner:
    """Plans what waits."""

    def __init__(
        self,
        knowledge: Knowledge,
        gangs: Gangs,
        reservations: Reservations,
        *,
        solve: Solve = in_thread,
    ) -> None:
        self._knowledge = knowledge
        self._gangs = gangs
        self._reservations = reservations
        self._solve = solve
        self._looked_at = knowledge.clock()
        self._open = False

    async def settle(self) -> None:
        """Wait until the burst that is coming in, if one is, has come in."""
        settings, knowledge = self._knowledge.settings, self._knowledge
        pause = settings.plan_settle_seconds
        for _ in range(round(SETTLE_STEPS * settings.plan_settle_limit_seconds / pause)):
            if knowledge.pending.settled():
                return
            await asyncio.sleep(pause / SETTLE_STEPS)

    async def plan(self) -> None:
        """Plan the pods that wait, and reserve the gangs among them that fit.

        A plan for one pod is none: it will be placed as well when it comes.
        """
        knowledge, settings = self._knowledge, self._knowledge.settings
        waiting, complete = self._plannable()
        if len(waiting) < 2:
            knowledge.pending.planned([each.uid for each in waiting], ())
            return
        views = GivingWay(dict(knowledge.views), knowledge.way)
        ledger, clock = knowledge.ledger, knowledge.clock
        limits = Limits(settings.plan_pods, settings.plan_solve_seconds)
        bounded = [
            msgspec.structs.replace(each, request=knowledge.bounded(each.request))
            for each in waiting
        ]
        left = knowledge.tenancy.left(ledger.plan({}))
        started, version = clock(), knowledge.in_force.version
        elsewhere = knowledge.seam.elsewhere
        try:
            found = await self._solve(
                lambda: staged_plan(views, ledger, bounded, limits, left, clock=elsewhere)
            )
        except Exception:  # a plan is an improvement: the hooks must outlive a fault in it
            log.exception("planning_failed", pods=len(waiting))
            knowledge.work.planning_failed(clock() - started)
            knowledge.pending.planned([each.uid for each in waiting], ())
            return
        alone = {each.uid for each in waiting if each.request.gang is None}
        alone.intersection_update(knowledge.pending.waiting)
        namespaces = {each.uid: each.request.pod.namespace for each in waiting}
        places = found.planned(until=clock() + settings.plan_lasts_seconds, namespaces=namespaces)
        knowledge.ledger = knowledge.ledger.plan({u: p for u, p in places.items() if u in alone})
        self._open = bool(knowledge.ledger.planned)
        left_out = [u for u in found.considered if u in alone and u not in places]
        knowledge.pending.planned(found.considered, left_out if self._open else ())
        anew = knowledge.pending.no_place([u for u in found.considered if u not in places])
        took = clock() - started
        knowledge.work.planned(
            found.status.value,
            took,
            placed=len(found.places),
            left_out=len(found.considered) - len(found.places),
            gaps=found.gaps,
        )
        knowledge.planned_at = clock()
        log.info(
            "queue_planned",
            pods=len(found.considered),
            placed=len(found.places),
            status=found.status.value,
            seconds=round(took, 3),
            policy_version=version,
        )
        considered = frozenset(found.considered)
        for of in complete:
            await self._reservations.decide(of, waiting, considered, places, began=started)
        enlisted = knowledge.enlisted
        knowledge.gangs_wait_for_room = bool(enlisted.no_room or enlisted.left_out)
        if enlisted.left_out and (anew or not places.keys() <= alone):
            knowledge.room.set()  # others have had their turn: the next plan looks at more of them

    def _plannable(self) -> tuple[Sequence[Waiting], Sequence[Key]]:
        """Return the pods to plan, and the gangs among them."""
        knowledge = self._knowledge
        stands = dict(self._gangs.stand())
        complete = [
            of
            for of, standing in stands.items()
            if standing is Standing.COMPLETE
            and not self._gangs.lost(of)
            and of not in self._gangs.at_work
        ]
        placed_alone = (Standing.RESERVED, Standing.BEGUN)
        waiting = []
        for each in knowledge.pending.waiting.values():
            gang = each.request.gang
            if gang is None:
                comes_back = knowledge.holds.nodes_of(each.request.owner)
                if each.uid not in knowledge.ledger.presumed and not comes_back:
                    waiting.append(each)
            elif key(gang) in complete and stands.get(key(gang)) not in placed_alone:
                waiting.append(each)
        return tuple(waiting), complete

    def tick(self) -> bool:
        """Look at the time; return whether pods should be asked about again."""
        knowledge = self._knowledge
        before, self._looked_at = self._looked_at, knowledge.clock()
        due = knowledge.pending.expired(since=before)
        if self._open and not knowledge.ledger.planned:
            self._open = False
            # Who yielded to it, and the gangs that others were preferred to, are asked about anew.
            due |= knowledge.pending.carried_out() | knowledge.gangs_wait_for_room
        return due
