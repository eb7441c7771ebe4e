"""What preemptors are told: that a preemption begins, and whom it waits for that takes long to end.

That people cannot be told holds nothing up.
"""

from __future__ import annotations

from collections.abc import Collection

import structlog

from extender.request import Request
from extender.service.events import PodEvents
from extender.service.knowledge import Knowledge
from extender.service.ports import ClusterUnavailable
from extender.verbs.victims import Preemption
from nodeagent.api.gpunode import PodRef

log = structlog.get_logger()

PREEMPTING_REASON = "VgpuPreempting"

TOLD_AGAIN_SECONDS = 600.0
"""What is waited for is told again after so long: API servers keep Events for an hour."""

MOST_NAMED = 5


class PreemptionTeller:
    """Tells of preemptions through *events*, where there are any, and in the log."""

    def __init__(self, knowledge: Knowledge, events: PodEvents | None) -> None:
        self._knowledge = knowledge
        self._events = events
        self._next: dict[str, float] = {}

    async def began(self, request: Request, found: Preemption) -> None:
        """Tell of a preemption that begins."""
        knowledge, pod = self._knowledge, request.pod
        log.info(
            "preemption_began",
            pod=pod.name,
            namespace=pod.namespace,
            uid=pod.uid,
            node=found.node,
            priority=knowledge.tenancy.priority(request),
            victims=[each.uid for each in found.victims],
            highest=found.price.priority,
            policy_version=knowledge.in_force.version,
        )
        count = len(found.victims)
        whom = "a pod of lower priority is" if count == 1 else f"{count} pods of lower priority are"
        await self._tell(pod, f"vGPU: {whom} to be evicted to make room on {found.node}")

    async def waits(self, pod: PodRef, node: str, ending: Collection[PodRef]) -> None:
        """Tell a pod for whom it waits on a node, once they have been ending for long.

        To be called again and again as long as it is so.
        """
        now = self._knowledge.clock()
        first = now + self._knowledge.settings.eviction_patience_seconds
        if now < self._next.setdefault(pod.uid, first):
            return
        self._next[pod.uid] = now + TOLD_AGAIN_SECONDS
        log.info(
            "preemption_waits",
            pod=pod.name,
            namespace=pod.namespace,
            uid=pod.uid,
            node=node,
            victims=sorted(each.uid for each in ending),
        )
        await self._tell(
            pod, f"vGPU: {_waits(pod, node, ending)}; nobody else is evicted meanwhile"
        )

    def forget(self, waiting: Collection[str]) -> None:
        """Forget of pods, by UID, that are not among those *waiting*."""
        self._next = {uid: at for uid, at in self._next.items() if uid in waiting}

    async def _tell(self, pod: PodRef, text: str) -> None:
        if self._events is None:
            return
        try:
            await self._events.warn(pod, PREEMPTING_REASON, text)
        except ClusterUnavailable as error:
            log.warning("event_not_written", reason=PREEMPTING_REASON, error=str(error))


def _waits(pod: PodRef, node: str, ending: Collection[PodRef]) -> str:
    """Tell whom a pod waits for; who reads its Events may not know of other namespaces' pods."""
    names = sorted(each.name for each in ending if each.namespace == pod.namespace)
    more = len(ending) - len(names[:MOST_NAMED])
    listed = [*names[:MOST_NAMED], *([f"{more} more"] if more else [])]
    told = f" ({', '.join(listed)})" if names else ""
    if len(ending) == 1:
        return f"waits until a pod on {node} has ended{told}"
    return f"waits until {len(ending)} pods on {node} have ended{told}"
