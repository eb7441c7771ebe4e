"""The pods that wait for a place, and which of them wait for a joint plan.

A burst is told by its pods coming close together. Its pods are refused at their first filter, once
and for a moment: kube-scheduler filters them all within that moment, the plan is made for all, and
they are woken. Single pods are answered at once. Nobody waits where nobody could be woken, nor who
has room on more nodes than there are pods that wait: each of these takes it from one node at most,
so that no plan could admit more. Else a steady stream of pods would be refused once each.

A pod the plan leaves out yields to those in it, once and for seconds: it would take the room of a
better answer before that is carried out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain

import msgspec

from extender.planning.joint import Waiting
from extender.request import Request
from extender.service.candidates import Candidates
from extender.service.seam import UNHEARD, Call, Seam, meant, restores, restoring, told, told_at
from extender.settings import Settings

_NEVER = float("-inf")
REMEMBERED = 20_000  # pods; the oldest are forgotten first


class Pending:
    """By pod UID, what the planner has to know; ``clock`` is monotonic, in seconds."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float], seam: Seam = UNHEARD
    ) -> None:
        self.seam = seam
        self._settings = settings
        self._clock = clock
        self.can_wake = False
        self.waiting: dict[str, Waiting] = {}
        self._arrivals: deque[float] = deque(maxlen=max(1, settings.plan_burst_pods))
        self._seen: dict[str, float] = {}
        self._unfiltered: set[str] = set()
        self._deferred: dict[str, float] = {}
        self._yielding: dict[str, float] = {}
        self.last_arrival = float("-inf")
        self._turns = 0
        self._candidates = Candidates()

    @told
    def wakes(self, can: bool) -> None:
        """Note whether pods that are refused can be woken."""
        self.can_wake = can

    def seen(self, uid: str) -> None:
        """Note a pod that has no place: from the watch, or from its first filter."""
        if uid not in self._seen:
            self.last_arrival = self._seen[uid] = self._clock()
            self._arrivals.append(self.last_arrival)
            self._unfiltered.add(uid)
            while len(self._seen) > REMEMBERED:
                oldest = next(iter(self._seen))
                del self._seen[oldest]
                self._unfiltered.discard(oldest)

    def came(self, uid: str) -> None:
        """Note that a pod without a place is being filtered."""
        self.seen(uid)
        self._unfiltered.discard(uid)

    def filtered(self, request: Request, nodes: Collection[str]) -> None:
        """Note a pod's filter, and the nodes it may go to."""
        self._may_go_to(request, self._candidates.of(nodes))

    def filtered_among_more(self, request: Request, nodes: Collection[str]) -> bool:
        """Note a pod's filter, those before count, too; return whether any of the nodes is new."""
        known = self.waiting.get(request.pod.uid)
        before = frozenset[str]() if known is None else known.nodes
        new = not before.issuperset(nodes)
        self._may_go_to(request, self._candidates.set_of(before.union(nodes)) if new else before)
        return new

    def _may_go_to(self, request: Request, candidates: frozenset[str] | tuple[str, ...]) -> None:
        uid, now = request.pod.uid, self._clock()
        self.came(uid)
        known = self.waiting.get(uid)
        since, turn = (now, 0) if known is None else (known.since, known.turn)
        self.waiting[uid] = Waiting(request, candidates, since, turn)
        while len(self.waiting) > REMEMBERED:
            self._drop(next(iter(self.waiting)))

    def placed(self, uid: str) -> None:
        """Forget a pod that has its place, or that needs none any more."""
        self._drop(uid)
        self._unfiltered.discard(uid)

    def gone(self, uid: str) -> None:
        """Forget a pod that is no more."""
        self.placed(uid)
        self._seen.pop(uid, None)

    def _drop(self, uid: str) -> None:
        self.waiting.pop(uid, None)
        self._deferred.pop(uid, None)
        self._yielding.pop(uid, None)
        if not self.waiting:
            self._candidates.forget()

    def begin_term(self) -> None:
        """Forget who waits: kube-scheduler will be back with every pod."""
        self.waiting.clear()
        self._candidates.forget()
        self._deferred.clear()
        self._yielding.clear()

    def waits_for_plan(self, uid: str, *, room: int) -> bool:
        """Tell whether a pod just filtered is to wait for the plan of the burst it belongs to.

        It has *room* on so many nodes.
        """
        now = self._clock()
        until = self._deferred.get(uid)
        if until is not None:
            return now < until
        if not self.can_wake or room > len(self.waiting) or not self._burst(now):
            self._deferred[uid] = _NEVER  # it was answered once, and waits no more
            return False
        self._deferred[uid] = now + self._settings.plan_wait_seconds
        return True

    def _burst(self, now: float) -> bool:
        arrivals, settings = self._arrivals, self._settings
        return (
            0 < settings.plan_burst_pods <= len(arrivals)
            and now - arrivals[0] <= settings.plan_burst_seconds
        )

    def yields(self, uid: str) -> bool:
        """Tell whether a pod was left out of a plan that is being carried out."""
        return self._clock() < self._yielding.get(uid, float("-inf"))

    def settled(self) -> bool:
        """Tell whether no more pods of a burst are to be expected at once."""
        if not any(until > self._clock() for until in self._deferred.values()):
            return True
        quiet = self._clock() - self.last_arrival >= self._settings.plan_settle_seconds
        return quiet and not self._unfiltered.intersection(self._recent())

    def _recent(self) -> set[str]:
        since = self._clock() - self._settings.plan_burst_seconds
        recent = set()
        for uid in reversed(self._seen):
            if self._seen[uid] < since:
                break
            recent.add(uid)
        return recent

    @told
    def no_place(self, uids: Collection[str]) -> bool:
        """Note whom a plan found no place for; return whether none had looked for one before.

        The next plan, if they are too many for one, looks at the others first.
        """
        self._turns += 1
        anew = False
        for uid in uids:
            if (known := self.waiting.get(uid)) is not None:
                anew |= not known.turn
                self.waiting[uid] = msgspec.structs.replace(known, turn=self._turns)
        return anew

    @told
    def planned(self, considered: Collection[str], left_out: Collection[str]) -> None:
        """Note a plan: nobody considered waits for it any more."""
        for uid in considered:
            if uid in self.waiting:
                self._deferred[uid] = _NEVER
        for uid in left_out:
            self._yielding.setdefault(uid, self._clock() + self._settings.plan_lasts_seconds)

    @told
    def carried_out(self) -> bool:
        """Note that nothing of the plan is open; return whether somebody yielded to it."""
        now = self._clock()
        yielding = [uid for uid, until in self._yielding.items() if until > now]
        for uid in yielding:
            self._yielding[uid] = _NEVER
        return bool(yielding)

    def expired(self, *, since: float) -> bool:
        """Tell whether somebody's waiting or yielding has come to its end after *since*."""
        now = self._clock()
        return any(
            since < until <= now
            for ends in (self._deferred, self._yielding)
            for until in ends.values()
        )

    # Going on from what was known elsewhere (``restating``).

    def restated(self) -> Iterator[Call]:
        """Return what leads here, but for the nodes that pods may go to: they decide nothing."""
        seen = self._seen.copy()
        unfiltered = frozenset(self._unfiltered)
        waiting = tuple(self.waiting.values())
        deferred, yielding = self._deferred.copy(), self._yielding.copy()
        return chain(
            (
                restoring(
                    "Pending.restore",
                    can_wake=self.can_wake,
                    arrivals=tuple(self._arrivals),
                    last_arrival=told_at(self.last_arrival),
                    turns=self._turns,
                ),
            ),
            (
                restoring("Pending.restore_seen", uid, at, uid in unfiltered)
                for uid, at in seen.items()
            ),
            (
                restoring("Pending.restore_waiting", each.request, each.since, each.turn)
                for each in waiting
            ),
            (
                restoring("Pending.restore_until", uid, _told(deferred, uid), _told(yielding, uid))
                for uid in dict.fromkeys((*deferred, *yielding))
            ),
        )

    @restores
    def restore(
        self, *, can_wake: bool, arrivals: Collection[float], last_arrival: float, turns: int
    ) -> None:
        """Take in when pods have come, and how many plans have left some out."""
        self.can_wake = can_wake
        self._arrivals.extend(arrivals)
        self.last_arrival = meant(last_arrival)
        self._turns = turns

    @restores
    def restore_seen(self, uid: str, at: float, unfiltered: bool) -> None:
        """Take in when a pod without a place was seen, and whether it is yet to be filtered."""
        self._seen[uid] = at
        if unfiltered:
            self._unfiltered.add(uid)

    @restores
    def restore_waiting(self, request: Request, since: float, turn: int) -> None:
        """Take in that a pod waits for a place."""
        self.waiting[request.pod.uid] = Waiting(request, frozenset(), since, turn)

    @restores
    def restore_until(self, uid: str, deferred: float | None, yielding: float | None) -> None:
        """Take in until when a pod waits for a plan, and yields to one."""
        for ends, until in ((self._deferred, deferred), (self._yielding, yielding)):
            if until is not None:
                ends[uid] = meant(until)


def _told(ends: Mapping[str, float], uid: str) -> float | None:
    return told_at(ends[uid]) if uid in ends else None
