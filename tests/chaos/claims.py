"""The judge's part for places that pods of higher priority wait for while others leave them.

* ``wrong victim``: a place is claimed over a pod that is not of lower priority, or over what is
  held or claimed for somebody else; or a pod is evicted whose place, or gang's, nobody waits for.
* ``claim broken``: somebody else is given slices that are claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment, GpuNode
from tests.chaos.pods import Pod

LATE_SECONDS = 12.0
"""Between a pod's end and what is done for it by a process that has read it before, and was slow or
frozen then: longer than a lead lasts without renewal, and a request is on its way."""


def is_claim(entry: Assignment) -> bool:
    """Tell whether an entry is a place that a pod waits for."""
    return entry.pod is None and entry.owner is not None and entry.owner.kind == keys.PREEMPTOR


class Claims:
    """Follows the claims of every plan; *pods* are all there are, by UID."""

    def __init__(self, pods: Mapping[str, Pod], clock: Callable[[], float]) -> None:
        self._pods = pods
        self._clock = clock
        self._gone: dict[str, tuple[Pod, float]] = {}
        self.evicted = 0
        self.waits_for: Callable[[Assignment, Assignment], bool] = lambda claim, other: False
        """Whether a claim waits for who has an entry, of whom an order of moves has it leave."""
        self._served: set[str] = set()

    def ended(self, pod: Pod) -> None:
        """See a pod go: whoever had read just before that it waits may act on it yet."""
        self._gone[pod.uid] = pod, self._clock()

    def _waiting(self, claim: Assignment) -> Pod | None:
        uid = claim.owner.name if claim.owner else ""
        gone, at = self._gone.get(uid, (None, 0.0))
        return self._pods.get(uid) or (gone if self._clock() - at < LATE_SECONDS else None)

    def given_way(self, hold: Assignment, fresh: Iterable[Assignment]) -> bool:
        """Tell whether a place held for an owner has given way to a claim of the owner's pod."""
        for claim in filter(is_claim, fresh):
            pod = self._waiting(claim)
            ours = pod is not None and hold.owner is not None and hold.owner.name == pod.vm
            if ours and _overlap(claim, hold):
                return True
        return False

    @property
    def served(self) -> int:
        """How many pods have got a place that they waited for."""
        return len(self._served)

    def wrote(self, before: GpuNode | None, after: GpuNode) -> Iterator[str]:
        """Yield what is wrong about a change of a plan."""
        known = {e.id: e for e in before.spec.assignments} if before else {}
        now = after.spec.assignments
        for entry in now:
            if entry.id in known:
                continue
            if is_claim(entry):
                yield from self._claimed(entry, now)
                continue
            uid = entry.pod.uid if entry.pod else ""
            for other in (*known.values(), *now):
                if is_claim(other) and _overlap(entry, other):
                    if other.owner is not None and other.owner.name == uid:
                        if not other.id.startswith(keys.MOVE_PREFIX):
                            self._served.add(uid)
                    elif other in now:
                        yield f"claim broken: {entry.id} is given what {other.owner} waits for"

    def _claimed(self, claim: Assignment, now: Iterable[Assignment]) -> Iterator[str]:
        waits = self._waiting(claim)
        for other in now:
            if other.id == claim.id or not _overlap(claim, other):
                continue
            if claim.id.startswith(keys.MOVE_PREFIX):
                if not self.waits_for(claim, other):
                    yield f"wrong victim: {claim.id} is claimed over {other.id}, which stays"
                continue
            victim = None if other.pod is None else self._pods.get(other.pod.uid)
            if other.pod is None:
                yield f"wrong victim: {claim.id} is claimed over {other.id}, which is held"
            elif waits is None or (victim is not None and victim.priority >= waits.priority):
                yield f"wrong victim: {claim.id} is claimed over {other.pod.name}"

    def evicts(self, pod: Pod, plans: Iterable[GpuNode]) -> Iterator[str]:
        """See a pod evicted; yield what is wrong about that."""
        entries = [entry for plan in plans for entry in plan.spec.assignments]
        gang = {p.uid for p in self._pods.values() if p.gang and p.gang == pod.gang} | {pod.uid}
        theirs = [e for e in entries if e.pod is not None and e.pod.uid in gang]
        waiting = [
            waits
            for claim in filter(is_claim, entries)
            if not claim.id.startswith(keys.MOVE_PREFIX)  # those in its way are moved
            if any(_overlap(claim, each) for each in theirs)
            and (waits := self._waiting(claim)) is not None
        ]
        if any(waits.priority > pod.priority for waits in waiting):
            self.evicted += 1
        else:
            yield f"wrong victim: {pod.name} is evicted, and nobody above it waits for its place"


def _overlap(entry: Assignment, other: Assignment) -> bool:
    return entry.gpu == other.gpu and bool(entry.placement.mask & other.placement.mask)
