"""Telling people, by Events, why their pods wait and what would help; sparingly.

A pod is told of once it has waited for a while, then again when there is something else to say, and
not often. All together are told of at a pace: each Event is a write, and each explanation costs a
part of a second of the processor where there are thousands of nodes
(``python -m benchmarks.explaining``).
"""

from __future__ import annotations

import asyncio
from itertools import islice

import msgspec
import structlog

from extender.explain.text import brief
from extender.explain.veil import veiled
from extender.request import Request
from extender.service.events import PodEvents
from extender.service.explaining import Explainer
from extender.service.knowledge import Knowledge
from extender.service.ports import ClusterUnavailable
from nodeagent.api.gpunode import PodRef

log = structlog.get_logger()

REASON = "VgpuNotPlaced"

PATIENCE_SECONDS = 15.0
"""How long a pod is refused before it is told of: bursts, and plans, are over by then."""

PACE_SECONDS = 2.0
"""Between two pods, so at most 30 in a minute."""

IDLE_SHARE = 19.0
"""For each second that an explanation takes, so many pass before the next: it shares the
interpreter with the hooks. At 40,000 GPUs one takes a quarter of a second, and they are told of
every five."""

AGAIN_SECONDS = 300.0
"""Between two accounts of one pod."""

FORGOTTEN_SECONDS = 3600.0
"""How long API servers keep Events (``--event-ttl``): then the same words are said again."""


MOST_WATCHED = 1000
"""Refused pods, those least lately asked about; it takes half an hour to tell of as many."""


class _Told(msgspec.Struct, frozen=True):
    text: str
    looked_at: float
    said_at: float


class Teller:
    """Tells of the refused pods of *knowledge* through *events*."""

    def __init__(self, knowledge: Knowledge, explainer: Explainer, events: PodEvents) -> None:
        self._knowledge = knowledge
        self._explainer = explainer
        self._events = events
        self._since: dict[str, float] = {}
        self._told: dict[str, _Told] = {}

    async def run(self) -> None:
        """Tell of one pod after the other until cancelled."""
        clock = self._knowledge.clock
        while True:
            began = clock()
            await self.step()
            await asyncio.sleep(max(PACE_SECONDS, IDLE_SHARE * (clock() - began)))

    async def step(self) -> None:
        """Tell of the pod that has waited for it longest, if one has long enough."""
        knowledge = self._knowledge
        self._look()
        if knowledge.not_ready():
            return
        request = self._due(knowledge.clock())
        if request is None:
            return
        pod = request.pod
        before = self._told.get(pod.uid, _Told("", float("-inf"), float("-inf")))
        text, now = await self._text(pod), knowledge.clock()
        told = _Told(before.text, now, before.said_at)
        if text and (text != before.text or now - before.said_at >= FORGOTTEN_SECONDS):
            try:
                await self._events.warn(pod, REASON, text)
                told = _Told(text, now, now)
            except ClusterUnavailable as error:
                log.warning("event_not_written", reason=REASON, pod=pod.name, error=str(error))
        self._told[pod.uid] = told

    async def _text(self, pod: PodRef) -> str:
        """Return what is to be said of a pod, "" for nothing."""
        try:
            said = await self._explainer.explain(pod.namespace, pod.name)
        except TimeoutError:
            return ""  # too many people ask: it comes to its turn again
        except Exception:  # an account is a courtesy: the hooks must outlive a fault in it
            log.exception("explaining_failed", pod=pod.name, namespace=pod.namespace)
            return ""
        if said is None or said.uid != pod.uid:
            return ""
        # Whoever reads a pod's Events may not know of the VMs of other namespaces.
        return brief(veiled(said, lambda namespace: namespace == pod.namespace))

    def _look(self) -> None:
        """Note since when pods are refused, and forget those that are no more."""
        now = self._knowledge.clock()
        refused = islice(self._knowledge.refused.uids, MOST_WATCHED)
        self._since = {uid: self._since.get(uid, now) for uid in refused}
        self._told = {uid: told for uid, told in self._told.items() if uid in self._since}

    def _due(self, now: float) -> Request | None:
        """Return whom to look at: who has waited long enough, and was looked at longest ago."""
        due = [
            (self._looked_at(uid), since, uid)
            for uid, since in self._since.items()
            if now - since >= PATIENCE_SECONDS and now - self._looked_at(uid) >= AGAIN_SECONDS
        ]
        if not due:
            return None
        refused = self._knowledge.refused.get(min(due)[2])
        return None if refused is None else refused.request

    def _looked_at(self, uid: str) -> float:
        told = self._told.get(uid)
        return float("-inf") if told is None else told.looked_at
