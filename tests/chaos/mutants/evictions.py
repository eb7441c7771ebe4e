"""Bugs in whoever evicts pods for others; each function returns what plants one."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from extender.claims import is_claim
from extender.service import evictable
from extender.service.preempting import Preempting
from extender.service.vetting import Vetting
from extender.snapshot.taken import NodeTaken, taken_by


def whatever_their_priority() -> Any:
    """Evict pods of the same priority, and of a higher one."""
    whole = evictable._units

    def units(knowledge: Any, view: Any, priority: int, spared: Any) -> Any:
        return whole(knowledge, view, 1_000_000, spared)

    return patch.object(evictable, "_units", units)


def not_vetted() -> Any:
    """Let kube-scheduler evict whom it proposes, whether or not that makes room."""
    return patch.object(Vetting, "vet", lambda self, request, proposed: proposed)


def claim_forgotten() -> Any:
    """Give what a pod waits for to whoever comes once its victims have left."""
    whole = NodeTaken._taken

    def taken(self: Any, among: Any = None) -> Any:
        plan = self.node.spec.assignments
        waited_for = {taken_by(each) for each in plan if is_claim(each)}
        others = {taken_by(each) for each in plan if not is_claim(each)} | self._there(among)
        return whole(self, among) - (waited_for - others)

    return patch.object(NodeTaken, "_taken", taken)


def evicted_before_it_is_claimed() -> Any:
    """Evict, and claim the place afterwards: whoever leads next does not know what for."""
    whole = Preempting._claim

    async def claim(self: Any, request: Any, meant: Any, *, patient: bool) -> Any:
        known = [self._knowledge.pods.get(each.uid) for each in meant.victims]
        for victim in known:
            if victim is not None and not victim.deleting:
                await self._vacating._evicting.evict(victim, request.pod, lambda: True)
        return await whole(self, request, meant, patient=patient)

    return patch.object(Preempting, "_claim", claim)
