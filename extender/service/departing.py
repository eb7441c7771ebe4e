"""Having a VM leave its place: by live migration, by eviction, or by stopping it.

Asked for again and again it does no harm: a migration has a name, an eviction its pod's UID.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from extender.advice import EVICTION_REFUSED, Manner, presumed
from extender.moving import Departure, Kind, Leg
from extender.service.knowledge import Knowledge
from extender.service.ports import EvictionRefused, Evictor
from extender.service.relocation import Leaving, Migration, Relocator
from nodeagent.api.gpunode import OwnerRef, PodRef

log = structlog.get_logger()

AGAIN_SECONDS = 30.0
"""An eviction, or a stop, whose effect the watch has not shown is asked for again after so long."""

CANCELLED_SECONDS = 60.0
"""KubeVirt has so long to take a migration back; then its order ends, whatever becomes of it."""

LONGEST_PAUSE_SECONDS = 10.0
"""Between two tries of an eviction that is refused; the first pause is a second."""

NOBODY_MAKES_IT = "nobody would start the VM again once its pod has ended"
FORBIDDEN = "its VirtualMachine, or what else makes its pods, says that it is not to be moved"
LEFT_TO_OTHERS = "its evictionStrategy is External: its eviction is left to somebody else"
ONLY_LIVE = "its evictionStrategy is LiveMigrate, and KubeVirt cannot migrate it"
NOT_RESTARTED = "its eviction is refused, and it may not be restarted any more"


_DENIED = {"LiveMigrate": ONLY_LIVE, "External": LEFT_TO_OTHERS}
"""Why KubeVirt's webhook denies the eviction of a VM that cannot migrate, by its strategy."""


class _Refusal(msgspec.Struct, frozen=True):
    """Since when an eviction is refused by turns, how often, and until when it is not asked for."""

    since: float
    times: int
    until: float
    why: str


class Departing:
    """Has pods leave through an *evictor* and a *relocator*."""

    def __init__(self, knowledge: Knowledge, evictor: Evictor, relocator: Relocator) -> None:
        self._knowledge = knowledge
        self._evictor = evictor
        self._relocator = relocator
        self._asked: dict[str, float] = {}
        self._refusals: dict[tuple[str, str], _Refusal] = {}
        self._cancelling: tuple[str, float] = ("", 0.0)

    async def manner(self, owner: OwnerRef, pod: PodRef) -> Manner:
        """Return how the VM of an owner is to leave that runs in a pod, or why it would not.

        KubeVirt's own disruption budget, which it keeps of each VM that is to migrate when it is
        evicted, allows no disruption; it is in the way neither of a migration nor of a restart.

        Raises:
            ClusterUnavailable: that could not be found out.
        """
        if not await self._relocator.movable(owner):
            return Manner(why=FORBIDDEN)
        prospect = await self._relocator.prospect(owner)
        if prospect.migratable:
            return Manner(live=True, guarded=False)
        if not await self._relocator.comes_back(owner):
            return Manner(why=NOBODY_MAKES_IT)
        denied, facts = _DENIED.get(prospect.strategy, ""), self._knowledge.pods.get(pod.uid)
        if facts is not None and not presumed(facts, owner).guarded:
            return Manner(guarded=False, denied=bool(denied))
        return Manner(why=denied)

    async def rehearse(self, owner: OwnerRef, pod: PodRef) -> Manner | None:
        """Return how a VM would leave as its eviction is refused, None where it is not.

        Nobody is evicted. KubeVirt's webhook is heard, which goes by the cluster's own strategy for
        a VM that has none, and so is whoever else may refuse.

        Raises:
            ClusterUnavailable: that could not be found out.
        """
        try:
            await self._evictor.rehearse(pod)
        except EvictionRefused as error:
            log.debug("eviction_refused", pod=pod.name, namespace=pod.namespace, error=str(error))
            facts = self._knowledge.pods.get(pod.uid)
            if facts is not None and not presumed(facts, owner).guarded:
                return Manner(guarded=False, denied=True)
            return Manner(why=EVICTION_REFUSED, answer=str(error))
        return None

    async def comes_back(self, leg: Leg) -> bool:
        """Tell whether a VM that has no pod is to have another.

        Raises:
            ClusterUnavailable: that could not be found out.
        """
        return await self._relocator.comes_back(leg.owner)

    async def leave(
        self, leg: Leg, departure: Departure, name: str, still: Callable[[], bool]
    ) -> str:
        """Have a pod leave; return why it does not and will not, "" otherwise.

        *name* is the move's own, that of its migration. *still* is asked whether the pod is to
        leave once everything has been read, and nothing is awaited from there on.

        Raises:
            ClusterUnavailable: it may have been told to.
        """
        match departure.kind:
            case Kind.LIVE:
                if await self._relocator.migrate(leg.owner, name) is Migration.FAILED:
                    return "its live migration has failed"
                return ""
            case Kind.EVICTION:
                return await self._evict(leg, departure.pod, name, still)
            case Kind.RESTART:
                return await self._restart(leg, departure.pod, still)

    def refusal(self, departure: Departure, name: str) -> str:
        """Return why the eviction of a pod was refused last for the move of that *name*, "" if not.

        It is asked for again.
        """
        if departure.kind is not Kind.EVICTION:
            return ""  # it is stopped instead
        found = self._refusals.get((departure.pod.uid, name))
        return "" if found is None else found.why

    async def stays(
        self, leg: Leg, departure: Departure, name: str, *, cancels: bool, overdue: bool
    ) -> bool:
        """Tell whether a pod that was to leave stays, for all that the move can do about it.

        One that is on its way is waited for; but of a VM that is being stopped nothing is expected
        any more once that is *overdue*, and a migration is taken back if whoever asks *cancels* it.
        *name* is the move's own. Asked again and again there is an answer in the end.

        Raises:
            ClusterUnavailable: that could not be found out.
        """
        pod = departure.pod
        if self._lately(pod):
            return False
        match await self._relocator.leaves(leg.owner, pod, name):
            case Leaving.NOT:
                return True
            case Leaving.ENDING:
                return False  # which the watch is about to show
            case Leaving.STOPPING:
                return overdue
            case Leaving.MIGRATING:
                return cancels and await self._given_up(leg, name)

    async def _given_up(self, leg: Leg, name: str) -> bool:
        """Have a migration taken back; tell whether that has had its time."""
        now = self._knowledge.clock()
        if self._cancelling[0] != name:
            self._cancelling = name, now
        if now - self._cancelling[1] >= CANCELLED_SECONDS:
            log.warning("migration_not_cancelled", migration=name, namespace=leg.owner.namespace)
            return True
        await self._relocator.cancel(leg.owner, name)
        return False

    async def may_be_stopped(self, leg: Leg, pod: PodRef) -> bool:
        """Tell whether a VM may be stopped whose eviction is refused, and would start again.

        Raises:
            ClusterUnavailable: that could not be found out.
        """
        facts = self._knowledge.pods.get(pod.uid)
        if facts is None or presumed(facts, leg.owner).guarded:
            return False
        if not await self._relocator.movable(leg.owner):
            return False
        return await self._relocator.comes_back(leg.owner)

    def _lately(self, pod: PodRef) -> bool:
        """Tell whether a pod was told to go so lately that the watch need not have shown it."""
        asked = self._asked.get(pod.uid)
        return asked is not None and self._knowledge.clock() < asked + AGAIN_SECONDS

    async def _restart(self, leg: Leg, pod: PodRef, still: Callable[[], bool]) -> str:
        if self._lately(pod) or pod.uid not in self._knowledge.pods:
            return ""
        if not await self.may_be_stopped(leg, pod):
            return NOT_RESTARTED
        instance = await self._relocator.instance(leg.owner, pod)
        if not instance or not still():
            return ""
        await self._relocator.restart(leg.owner, instance)
        self._asked = {pod.uid: self._knowledge.clock()}
        return ""

    async def _evict(self, leg: Leg, pod: PodRef, name: str, still: Callable[[], bool]) -> str:
        knowledge, now = self._knowledge, self._knowledge.clock()
        if self._lately(pod):
            return ""
        before = self._refusals.get((pod.uid, name))
        if before is not None and now < before.until:
            return ""
        if before is not None and now >= before.until + LONGEST_PAUSE_SECONDS:
            before = None  # it was not asked for meanwhile: moves were paused
        if not await self._relocator.movable(leg.owner):
            return FORBIDDEN
        if not await self._relocator.comes_back(leg.owner):
            return NOBODY_MAKES_IT
        if not still():
            return ""
        try:
            await self._evictor.evict(pod)
        except EvictionRefused as error:
            times = 1 if before is None else before.times + 1
            pause = max(error.retry_after, min(2.0 ** (times - 1), LONGEST_PAUSE_SECONDS))
            since = now if before is None else before.since
            why = f"its eviction is refused: {error}"
            self._refusals = {(pod.uid, name): _Refusal(since, times, now + pause, why)}
            log.info("eviction_refused", pod=pod.name, namespace=pod.namespace, error=str(error))
            said = knowledge.in_force.moving.patience
            patience = knowledge.settings.eviction_patience_seconds if said is None else said
            return why if now - since >= patience else ""
        self._refusals = {}
        self._asked = {pod.uid: knowledge.clock()}
        return ""
