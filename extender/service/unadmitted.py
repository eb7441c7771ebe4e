"""Telling people of pods that a kubelet has refused, though all they asked for was ready.

It is rare: a device went between the kubelet's look and the pod's coming, or a pod that nobody
placed was given it. Whoever looks at the pod, or at its VM, is to know why that came to nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from extender.service.events import PodEvents
from extender.service.ports import ClusterUnavailable, PodFacts

if TYPE_CHECKING:
    from extender.service.knowledge import Knowledge

log = structlog.get_logger()

REASON = "VgpuNotAdmitted"

PACE_SECONDS = 1.0
"""Between two pods: each is up to three requests of the API server."""

MOST_REMEMBERED = 1000
"""Those of whom nobody could be told for long, as by a replica that does not lead, are dropped."""


class Unadmitted:
    """The pods refused by kubelets of whom people are yet to be told, by UID."""

    def __init__(self) -> None:
        self.pods: dict[str, PodFacts] = {}
        self.there = asyncio.Event()

    def add(self, pod: PodFacts) -> None:
        """Take in that a kubelet has refused a pod."""
        self.pods[pod.ref.uid] = pod
        while len(self.pods) > MOST_REMEMBERED:
            del self.pods[next(iter(self.pods))]
        self.there.set()


class UnadmittedTeller:
    """Tells of those that *knowledge* has, through *events*."""

    def __init__(self, knowledge: Knowledge, events: PodEvents) -> None:
        self._knowledge = knowledge
        self._events = events

    async def run(self) -> None:
        """Tell of one pod after the other until cancelled."""
        while True:
            await self._knowledge.unadmitted.there.wait()
            await self.step()
            await asyncio.sleep(PACE_SECONDS)

    async def step(self) -> None:
        """Tell of the pod that was refused first; once it is told of, it is forgotten."""
        waiting = self._knowledge.unadmitted
        if not waiting.pods:
            waiting.there.clear()
        elif not self._knowledge.not_ready():
            pod = next(iter(waiting.pods.values()))
            try:
                await self._events.warn(pod.ref, REASON, _message(pod))
            except ClusterUnavailable as error:
                log.warning("event_not_written", reason=REASON, pod=pod.ref.name, error=str(error))
                if error.passing:
                    return
            waiting.pods.pop(pod.ref.uid, None)


def _message(pod: PodFacts) -> str:
    return (
        f"the kubelet of node {pod.node} found no device for this pod, though its GPU instance was"
        " ready. Its place is given back, and the pod that its owner makes in its stead is placed"
        " anew. If it happens again there: are pods given devices that Tangram has not placed?"
    )
