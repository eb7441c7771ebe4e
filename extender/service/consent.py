"""Whether those who are chosen as victims may go, asked before anything is done to any of them.

By their disruption budgets, and by their evictions rehearsed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog

from extender.service.disruptions import Disruptions
from extender.service.knowledge import Knowledge
from extender.service.ports import EvictionRefused, Evictor
from nodeagent.api.gpunode import PodRef

log = structlog.get_logger()

PASSED_AT_ONCE = 32
"""Nodes between two answers of the hooks, asked for no more than the pods that are there."""

REFUSED_SECONDS = 30.0
"""For how long whose eviction was refused when it was rehearsed is not chosen."""


class Consent:
    """Asks *evictor*; ``refused`` tells until when pods are not to be chosen, for that was said."""

    def __init__(self, knowledge: Knowledge, evictor: Evictor) -> None:
        self._knowledge = knowledge
        self._evictor = evictor
        self._disruptions = Disruptions(evictor, knowledge.clock)
        self.refused: dict[str, float] = {}

    def forget(self) -> None:
        """Forget whose eviction was refused long ago."""
        now = self._knowledge.clock()
        self.refused = {uid: until for uid, until in self.refused.items() if until > now}

    def allows(self, uids: Collection[str]) -> bool:
        """Tell whether the disruption budgets, as far as they are known, let all these pods go."""
        return self._disruptions.allow(uids)

    async def given(
        self, pods: Collection[PodRef], read: set[str], others: Callable[[], Collection[str]]
    ) -> bool:
        """Tell whether these pods may go, as things are now.

        If their budgets forbid it, those of all who might go instead are known from there on, on
        the nodes that are *others*. *read* are the namespaces whose budgets have been read for this
        choice; those of these pods are added.

        Raises:
            ClusterUnavailable: budgets could not be read, or an eviction not be rehearsed.
        """
        fresh = {pod.namespace for pod in pods} - read
        await self._disruptions.read(fresh, anew=True)
        read |= fresh
        if not self._disruptions.allow([pod.uid for pod in pods]):
            await self._disruptions.read(await self._namespaces(others()))
            return False
        return not await self._is_refused(pods)

    async def _is_refused(self, pods: Collection[PodRef]) -> bool:
        """Tell whether the eviction of one of these pods is refused; if so it is spared for now."""
        for pod in pods:
            try:
                await self._evictor.rehearse(pod)
            except EvictionRefused as error:
                self.refused[pod.uid] = self._knowledge.clock() + REFUSED_SECONDS
                log.info("eviction_refused", pod=pod.name, uid=pod.uid, error=str(error))
                return True
        return False

    async def _namespaces(self, nodes: Collection[str]) -> Collection[str]:
        """Return the namespaces of the pods on some nodes."""
        knowledge, found = self._knowledge, set[str]()
        for count, node in enumerate(nodes, 1):
            view = knowledge.views.get(node)
            known = map(knowledge.pods.get, () if view is None else view.pods)
            found.update(facts.ref.namespace for facts in known if facts is not None)
            if count % PASSED_AT_ONCE == 0:
                await knowledge.way.give_way()
        return found
