"""Reporting: what is put into the inventory, and when it is worth a write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
import structlog

from nodeagent.actuate import Outcome
from nodeagent.agent.news import Told, news
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import Assignment, Condition, Failed, GpuNode, Inventory, Realized
from nodeagent.discover import inventory
from nodeagent.journal import Journal
from nodeagent.publish import Publisher

log = structlog.get_logger()


class Reporter:
    """Tells the API server what the node has; *epoch* names this process."""

    def __init__(
        self,
        publisher: Publisher,
        journal: Journal,
        *,
        epoch: str,
        utc_now: Callable[[], datetime],
    ) -> None:
        self._publisher = publisher
        self._journal = journal
        self._epoch = epoch
        self._utc_now = utc_now
        self._told: Told | None = None
        self._sequence = 0

    def before(self, node: GpuNode) -> Inventory:
        """Return what readers of *node* were told last, perhaps by an earlier agent."""
        told = self._told_of(node)
        return told.inventory if told else node.status

    async def tell(
        self,
        node: GpuNode,
        plan: Sequence[Assignment],
        outcome: Outcome,
        *,
        realized: Iterable[Realized],
        failed: Mapping[str, str],
    ) -> None:
        """Tell what a pass came to, if that is news.

        Raises:
            ApiError: it may not have been told.
        """
        reason, message = "Ready", ""
        if self._journal.damage:
            reason, message = "JournalUnreadable", self._journal.damage
        elif not outcome.host.gpus:
            reason, message = "NoGpus", "the driver lists no GPU"
        now = msgspec.structs.replace(
            inventory(outcome.host, outcome.observed, plan),
            observed_generation=node.metadata.generation,
            realized=tuple(realized),
            failed=tuple(Failed(each.id, failed[each.id]) for each in plan if each.id in failed),
            conditions=(self._ready(node, reason, message),),
        )
        await self._tell(node, now, frozenset(each.id for each in plan))

    async def tell_trouble(self, node: GpuNode, reason: str, message: str) -> None:
        """Tell that the node is not ready, and leave the rest as it was told last.

        Raises:
            ApiError: it may not have been told.
        """
        told = self._told_of(node)
        condition = self._ready(node, reason, message)
        now = msgspec.structs.replace(self.before(node), conditions=(condition,))
        await self._tell(node, now, told.planned if told else ())

    async def _tell(self, node: GpuNode, now: Inventory, planned: Collection[str]) -> None:
        """Write *now*, which takes account of the *planned* assignments, if it is news."""
        told = self._told_of(node)
        now = msgspec.structs.replace(now, agent_epoch=self._epoch, sequence=self._sequence + 1)
        if told and not news(told, now, planned):
            self._told = msgspec.structs.replace(told, planned=told.planned.union(planned))
            return
        await self._publisher.tell(node, now)
        self._sequence = now.sequence
        self._told = Told(node.metadata.uid, now, frozenset(planned))
        log.info(
            "inventory_published",
            node=node.name,
            sequence=now.sequence,
            generation=now.observed_generation,
            realized=len(now.realized),
            failed={each.id: each.reason for each in now.failed},
        )

    def _told_of(self, node: GpuNode) -> Told | None:
        """Return what was told of this very object; another of the same name knows nothing."""
        return self._told if self._told and self._told.uid == node.metadata.uid else None

    def _ready(self, node: GpuNode, reason: str, message: str) -> Condition:
        status = "True" if reason == "Ready" else "False"
        since = next(
            (c.last_transition_time for c in self.before(node).conditions if c.status == status),
            rfc3339.seconds(self._utc_now()),
        )
        return Condition("Ready", status, reason, message, since)
