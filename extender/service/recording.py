"""Writing down which devices kubelets have given to pods, where these were not those planned."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from extender.service.knowledge import Knowledge
from extender.service.plans import Plans
from extender.service.ports import ClusterUnavailable, PlanConflict
from extender.service.turns import in_turns
from extender.verbs.record import corrections
from nodeagent.api.gpunode import Mode

log = structlog.get_logger()


class Recorder:
    """Has the plans say where pods are; ``new_id`` gives changed entries their ids.

    An entry never moves: what was made for its id is known by it. So one that says otherwise is
    another.
    """

    def __init__(self, knowledge: Knowledge, plans: Plans, *, new_id: Callable[[], str]) -> None:
        self._knowledge = knowledge
        self._plans = plans
        self._new_id = new_id

    async def sweep(self) -> None:
        """Correct every plan that a kubelet has not followed."""
        async for name in in_turns(self._knowledge.views, self._knowledge.way):
            view = self._knowledge.views.get(name)
            if view is None or view.stale or view.node.status.mode is not Mode.HARVESTER:
                continue
            if corrections(view):
                try:
                    await self._record(name)
                except (ClusterUnavailable, PlanConflict) as error:
                    # The next sweep is soon enough: until then the agent keeps what pods have.
                    log.warning("recording_postponed", node=name, error=str(error))

    async def _record(self, name: str) -> None:
        async with self._plans.turn(name):
            view = self._knowledge.views.get(name)
            found = () if view is None else corrections(view)
            if view is None or not found:
                return
            add = [
                msgspec.structs.replace(each.becomes, id=self._new_id())
                for each in found
                if each.becomes is not None
            ]
            gone = [each.entry.id for each in found]
            await self._plans.write(view, add=add, remove=gone, told=True)
            log.info(
                "devices_recorded",
                node=name,
                pods=sorted({each.entry.pod.name for each in found if each.entry.pod}),
                placed_anew=len(found) - len(add),
            )
