"""Evicting one pod: asked for, told of, and asked for again where it is refused for now."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from extender.metrics import Evicted
from extender.service.events import PodEvents, Warn
from extender.service.knowledge import Knowledge
from extender.service.ports import ClusterUnavailable, EvictionRefused, Evictor, PodFacts
from nodeagent.api.gpunode import PodRef

log = structlog.get_logger()

EVICTED_REASON = "VgpuPreempted"

AGAIN_SECONDS = 30.0
"""An eviction whose effect the watch has not shown is asked for again after so long."""

LONGEST_PAUSE_SECONDS = 10.0
"""Between two tries of an eviction that is refused; the first pause is a second."""

SPARED_FOR = 5.0
"""Times the patience with a refused eviction."""


class _Refusal(msgspec.Struct, frozen=True):
    """Since when an eviction is refused, how often it was, and when it may be asked for again."""

    since: float
    times: int
    until: float


class Evicting:
    """Evicts through *evictor*, and tells of it through *events*, where there are any.

    ``spared`` tells until when pods are not to be evicted, for that was refused too long.
    """

    def __init__(self, knowledge: Knowledge, evictor: Evictor, events: PodEvents | None) -> None:
        self._knowledge = knowledge
        self._evictor = evictor
        self._events = events
        self._evicted: dict[str, float] = {}
        self._refusals: dict[str, _Refusal] = {}
        self.spared: dict[str, float] = {}

    def forget(self) -> None:
        """Forget what is of no use any more."""
        now = self._knowledge.clock()
        self.spared = {uid: until for uid, until in self.spared.items() if until > now}
        self._evicted = {uid: at for uid, at in self._evicted.items() if at + AGAIN_SECONDS > now}
        known = self._knowledge.assigned
        self._refusals = {uid: each for uid, each in self._refusals.items() if uid in known}

    def leaves(self, uid: str) -> bool:
        """Tell whether a pod ends, or is about to, without being evicted once more."""
        facts = self._knowledge.pods.get(uid)
        return facts is None or facts.over or facts.deleting or uid in self._evicted

    def refused_since(self, uid: str) -> float:
        """Return since when a pod's eviction is refused, on the service's clock; inf if it is not.

        One that is not sure is tried before others are evicted for nothing.
        """
        refusal = self._refusals.get(uid)
        return float("inf") if refusal is None else refusal.since

    def refused_for_long(self, uid: str) -> bool:
        """Tell whether a pod's eviction is refused for too long; then it is spared for a while."""
        refusal = self._refusals.get(uid)
        now, patience = self._knowledge.clock(), self._knowledge.settings.eviction_patience_seconds
        if refusal is None or now - refusal.since < patience:
            return False
        del self._refusals[uid]
        self.spared[uid] = now + SPARED_FOR * patience
        return True

    async def evict(self, victim: PodFacts, preemptor: PodRef, still: Callable[[], bool]) -> bool:
        """Evict a pod, unless that was refused just now; return whether it was.

        *still* is asked at the last moment whether it is to go.

        Raises:
            ClusterUnavailable: it may have been.
        """
        knowledge, uid = self._knowledge, victim.ref.uid
        before = self._refusals.get(uid)
        if before is not None and knowledge.clock() < before.until:
            return False
        told = _told(victim, preemptor)
        warn = await self._about(victim.ref)
        if not still():
            return False
        try:
            await self._evictor.evict(victim.ref)
        except EvictionRefused as error:
            knowledge.work.preemptions.evicted(Evicted.REFUSED)
            now = knowledge.clock()
            times = 1 if before is None else before.times + 1
            pause = max(error.retry_after, min(2.0 ** (times - 1), LONGEST_PAUSE_SECONDS))
            since = now if before is None else before.since
            self._refusals[uid] = _Refusal(since, times, now + pause)
            log.info("eviction_refused", **told, times=times, error=str(error))
            return False
        self._refusals.pop(uid, None)
        self._evicted[uid] = knowledge.clock()
        knowledge.work.preemptions.evicted(Evicted.EVICTED)
        log.info("pod_evicted", **told, policy_version=knowledge.in_force.version)
        await self._tell(warn, _why(victim.ref, preemptor))
        return True

    async def _about(self, pod: PodRef) -> Warn | None:
        if self._events is None:
            return None
        try:
            return await self._events.about(pod)
        except ClusterUnavailable as error:
            log.warning("event_not_written", pod=pod.name, error=str(error))
            return None

    async def _tell(self, warn: Warn | None, text: str) -> None:
        """Tell people; that they cannot be told holds nothing up."""
        if warn is None:
            return
        try:
            await warn(EVICTED_REASON, text)
        except ClusterUnavailable as error:
            log.warning("event_not_written", reason=EVICTED_REASON, error=str(error))


def _why(victim: PodRef, preemptor: PodRef) -> str:
    """Tell why a pod was evicted; who reads its Events may not know of other namespaces' pods."""
    known = victim.namespace == preemptor.namespace
    whom = f"pod {preemptor.name}, which is" if known else "a pod"
    return f"vGPU: evicted to make room for {whom} of higher priority"


def _told(victim: PodFacts, preemptor: PodRef) -> dict[str, str]:
    return {
        "pod": victim.ref.name,
        "namespace": victim.ref.namespace,
        "uid": victim.ref.uid,
        "node": victim.node,
        "preemptor": preemptor.name,
        "preemptor_namespace": preemptor.namespace,
        "preemptor_uid": preemptor.uid,
    }
