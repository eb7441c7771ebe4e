"""Having a VM leave its place: by live migration, by eviction, or by stopping it.

Asked for again and again it does no harm: a migration has a name, an eviction its pod's UID.
"""

from __future__ import annotations

import msgspec
import structlog

from extender.moving import Departure, Kind, Leg
from extender.service.knowledge import Knowledge
from extender.service.ports import EvictionRefused, Evictor, PodFacts
from extender.service.relocation import Migration, Relocator
from nodeagent.apiserver.events import VIRTUAL_MACHINE_INSTANCE as VMI

log = structlog.get_logger()

AGAIN_SECONDS = 30.0
"""An eviction whose effect the watch has not shown is asked for again after so long."""

LONGEST_PAUSE_SECONDS = 10.0
"""Between two tries of an eviction that is refused; the first pause is a second."""

NOBODY_MAKES_IT = "nobody would start the VM again once its pod has ended"


class _Refusal(msgspec.Struct, frozen=True):
    """Since when an eviction is refused, how often it was, and when it may be asked for again."""

    since: float
    times: int
    until: float


class Departing:
    """Has pods leave through an *evictor* and a *relocator*."""

    def __init__(self, knowledge: Knowledge, evictor: Evictor, relocator: Relocator) -> None:
        self._knowledge = knowledge
        self._evictor = evictor
        self._relocator = relocator
        self._asked: dict[str, float] = {}
        self._refusals: dict[str, _Refusal] = {}

    async def kind(self, leg: Leg) -> Kind | None:
        """Return how a VM is to leave; None if it would not come back.

        Raises:
            ClusterUnavailable: that could not be found out.
        """
        if await self._relocator.migratable(leg.owner):
            return Kind.LIVE
        return Kind.EVICTION if await self._relocator.comes_back(leg.owner) else None

    async def leave(self, leg: Leg, departure: Departure, name: str) -> str:
        """Have a pod leave; return why it does not and will not, "" otherwise.

        *name* is the move's own, that of its migration.

        Raises:
            ClusterUnavailable: it may have been told to.
        """
        match departure.kind:
            case Kind.LIVE:
                if await self._relocator.migrate(leg.owner, name) is Migration.FAILED:
                    return "its live migration has failed"
                return ""
            case Kind.EVICTION:
                return await self._evict(departure)
            case Kind.RESTART:
                await self._relocator.restart(leg.owner, departure.pod)
                return ""

    def may_be_stopped(self, facts: PodFacts | None, leg: Leg) -> bool:
        """Tell whether a VM may be stopped whose eviction is refused."""
        return facts is not None and facts.restartable and leg.owner.kind == VMI

    async def _evict(self, departure: Departure) -> str:
        knowledge, pod, now = self._knowledge, departure.pod, self._knowledge.clock()
        if now < self._asked.get(pod.uid, -AGAIN_SECONDS) + AGAIN_SECONDS:
            return ""
        before = self._refusals.get(pod.uid)
        if before is not None and now < before.until:
            return ""
        try:
            await self._evictor.evict(pod)
        except EvictionRefused as error:
            times = 1 if before is None else before.times + 1
            pause = max(error.retry_after, min(2.0 ** (times - 1), LONGEST_PAUSE_SECONDS))
            since = now if before is None else before.since
            self._refusals = {pod.uid: _Refusal(since, times, now + pause)}
            log.info("eviction_refused", pod=pod.name, namespace=pod.namespace, error=str(error))
            patience = knowledge.settings.eviction_patience_seconds
            return f"its eviction is refused: {error}" if now - since >= patience else ""
        self._refusals = {}
        self._asked = {pod.uid: knowledge.clock()}
        return ""
