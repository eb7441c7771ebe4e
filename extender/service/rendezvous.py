"""Where the binds of a gang wait for each other.

::

    bind A ──▶ A has come ─┐                        ┌──▶ A: instance, Binding
    bind B ──▶ B has come ─┼─ all have, none lost ──┼──▶ B: instance, Binding
    bind C ──▶ C has come ─┘                        └──▶ C: instance, Binding

Who has come once has come: a bind that was answered "waiting" is tried again by kube-scheduler, and
the others need not meet it. They do not wait for each other's instances as well: on one node the
agent makes the next pod's only when the last one's is in use, which takes a Binding.
"""

from __future__ import annotations

from extender.planning.gangs import Standing
from extender.request import Request
from extender.service.enlisted import key
from extender.service.gangs import Gangs
from extender.service.knowledge import GOING_AWAY, Knowledge
from extender.verbs.verdicts import GANG_INCOMPLETE

GANG_BROKEN = "vGPU: the gang lost a place, all of it is given back"


class Rendezvous:
    """Holds a member's bind until the gang has come, or time is up."""

    def __init__(self, knowledge: Knowledge, gangs: Gangs) -> None:
        self._knowledge = knowledge
        self._gangs = gangs

    async def wait(self, request: Request, node: str, answer_by: float) -> str:
        """Wait until a member may go on to *node*; return why it may not, "" if it may.

        ``answer_by`` is when bind must be answered, on the monotonic clock.
        """
        assert request.gang is not None
        knowledge, gangs, of = self._knowledge, self._gangs, key(request.gang)
        knowledge.remember(request)
        standing = gangs.standing(of)
        if not gangs.may_go_on(request):
            return GANG_INCOMPLETE.reason
        if standing is Standing.BEGUN:
            return ""
        if standing is not Standing.RESERVED or gangs.lost(of):
            return GANG_INCOMPLETE.reason
        if knowledge.assigned[request.pod.uid] != node:
            gangs.lose(of)
            return "vGPU: the place of the gang's pod is on another node"
        gangs.come(request)
        until = answer_by - knowledge.settings.binding_start_margin_seconds
        while not gangs.all_come(of):
            if gangs.lost(of) or gangs.standing(of) is not Standing.RESERVED:
                return GANG_BROKEN
            if knowledge.stopping:
                return f"{GOING_AWAY}, the place stays reserved"
            if knowledge.tenure.why_not():
                return "vGPU: another extender leads by now, the place stays reserved"
            try:
                await gangs.change(of, within=until - knowledge.clock())
            except TimeoutError:
                if knowledge.reservation_over(request.pod.uid):
                    gangs.lose(of)
                    return "vGPU: the gang did not come together in time"
                return f"{GANG_INCOMPLETE.reason}, its place stays reserved"
        return ""
