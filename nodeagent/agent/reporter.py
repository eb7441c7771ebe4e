"""Reporting: what is put into the inventory, and when it is worth a write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
import structlog

from nodeagent.actuate import Outcome
from nodeagent.agent.findings import Findings, dated, ready
from nodeagent.agent.news import Told, news
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import Assignment, Failed, GpuNode, Inventory, Realized
from nodeagent.discover import inventory
from nodeagent.journal import Journal, JournalError, Kept
from nodeagent.publish import Publisher

log = structlog.get_logger()


class Reporter:
    """Tells the API server what the node has; *epoch* names this process.

    A newer plan is told of after *patience* seconds even if nothing else is news.
    """

    def __init__(
        self,
        publisher: Publisher,
        journal: Journal,
        *,
        epoch: str,
        patience: float,
        clock: Callable[[], float],
        utc_now: Callable[[], datetime],
    ) -> None:
        self._publisher = publisher
        self._journal = journal
        self._epoch = epoch
        self._patience = patience
        self._clock = clock
        self._utc_now = utc_now
        self._told: Told | None = None
        self._tried: Told | None = None  # the last word, whatever has become of it
        self._unanswered = False  # a write since may have been carried out, or not
        self._sequence = 0

    def before(self, node: GpuNode) -> Inventory:
        """Return what readers of *node* were told last, perhaps by an earlier agent.

        An object that says nothing yet may have taken the place of one that was deleted: what was
        told in that one counts. So does what was told when an older word has taken its place.
        """
        told = self._told_of(node)
        return told.inventory if told else self._newest(node)

    def listed(self, node: GpuNode) -> None:
        """Compare what was told with what the API server has: it may have lost some of it."""
        told = self._told_of(node)
        if told:
            status, known = node.status, told.inventory
            kept = status.agent_epoch == self._epoch and status.sequence >= known.sequence
            self._told = told if kept else None

    def heard(self, node: GpuNode) -> bool:
        """Compare what was told with what the watch brings; return whether to tell it again now.

        A write that nobody waits for any more may be carried out after the next one, and take its
        place. What another agent wrote is written over by the next pass, no sooner: if it lives,
        the two would go on without end.
        """
        told, status = self._told_of(node), node.status
        if told is None or node.version <= told.version:
            return False
        if status.agent_epoch == self._epoch and status.sequence >= told.inventory.sequence:
            return False
        self._told = None
        return status.agent_epoch == self._epoch

    @property
    def due_in(self) -> float:
        """In how many seconds a newer plan is to be told of, at the latest."""
        if self._told is None or self._told.behind_since is None:
            return self._patience
        return max(0.0, self._told.behind_since + self._patience - self._clock())

    async def tell(
        self,
        node: GpuNode,
        plan: Sequence[Assignment],
        outcome: Outcome,
        *,
        realized: Iterable[Realized],
        awaited: Mapping[str, str],
        failed: Mapping[str, str],
        findings: Findings,
        resources: Iterable[str] = (),
    ) -> None:
        """Tell what a pass came to, if that is news; only *resources* are handed out, if any.

        Who is *awaited* is kept beside that.

        Raises:
            ApiError: it may not have been told.
        """
        if self._journal.damage:
            findings = _not_ready(findings, "JournalUnreadable", self._journal.damage)
        elif not outcome.host.gpus:
            findings = _not_ready(findings, "NoGpus", "the driver lists no GPU")
        before = self.before(node)
        now = msgspec.structs.replace(
            self._next(inventory(outcome.host, outcome.observed, plan)),
            observed_generation=node.metadata.generation,
            resources=tuple(sorted(resources)),
            rivals=tuple(sorted(findings.rivals)),
            realized=tuple(realized),
            failed=tuple(Failed(each.id, failed[each.id]) for each in plan if each.id in failed),
            conditions=findings.conditions(before, now=self._now()),
        )
        now = await self._keep(node, plan, now, awaited)
        await self._tell(node, now, frozenset(each.id for each in plan))

    async def tell_trouble(self, node: GpuNode, reason: str, message: str) -> None:
        """Tell that the node is not ready, and leave the rest as it was found last.

        That may have been told in a write that nobody had an answer to, and that is carried out
        after all: who reads it first must not be told of less then, for no pass has found less.

        Raises:
            ApiError: it may not have been told.
        """
        tried = self._tried
        told = tried if tried and tried.uid == node.metadata.uid else self._told_of(node)
        before = told.inventory if told else self._confirmed(node)
        now_ready = dated(ready(reason, message), before, now=self._now())
        others = tuple(each for each in before.conditions if each.type != now_ready.type)
        now = msgspec.structs.replace(self._next(before), conditions=(now_ready, *others))
        await self._begin(node)
        await self._tell(node, now, told.planned if told else ())

    async def _tell(self, node: GpuNode, now: Inventory, planned: Collection[str]) -> None:
        """Write *now*, which takes account of the *planned* assignments, if it is news."""
        told = self._told_of(node)
        late = self.due_in <= 0.0
        if told and not self._unanswered and not news(told, now, planned, overdue=late):
            behind = None
            if node.metadata.generation > told.inventory.observed_generation:
                behind = self._clock() if told.behind_since is None else told.behind_since
            self._told = Told(
                told.uid, told.inventory, told.planned.union(planned), behind, told.version
            )
            return
        self._sequence = now.sequence  # of this attempt alone, whatever becomes of it
        self._unanswered = True
        self._tried = Told(node.metadata.uid, now, frozenset(planned))
        version = await self._publisher.tell(node, now)
        self._unanswered = False
        self._told = msgspec.structs.replace(self._tried, version=version)
        log.info(
            "inventory_published",
            node=node.name,
            sequence=now.sequence,
            generation=now.observed_generation,
            realized=len(now.realized),
            failed={each.id: each.reason for each in now.failed},
        )

    async def _keep(
        self,
        node: GpuNode,
        plan: Sequence[Assignment],
        now: Inventory,
        awaited: Mapping[str, str],
    ) -> Inventory:
        """Keep what is to be told of *node*, and who is *awaited*; return what is to be told.

        What is realized since is not told if it cannot be kept: who is bound then may come when an
        agent is there that knows nothing of it.
        """
        before = self._journal.kept
        followed = before.followed_by(self._epoch, node.status)
        kept = Kept(tuple(plan), now, followed, awaited)
        if before.inventory.sequence >= self._sequence and before.says(kept):
            return now
        known = {*before.inventory.realized, *self.before(node).realized}
        try:
            await self._journal.keep(kept)
        except JournalError as error:
            log.error("inventory_not_kept", error=str(error))
            realized = tuple(each for each in now.realized if each in known)
            return msgspec.structs.replace(now, realized=realized)
        return now

    async def _begin(self, node: GpuNode) -> None:
        """Keep what this agent begins with, unless it has kept something: that came later.

        Else the next one, if this one never comes to more than to tell of trouble, could not know
        its words, should they be carried out late, for those of an agent that came before.
        """
        kept = self._journal.kept
        if kept.inventory.agent_epoch == self._epoch:
            return
        before = msgspec.structs.replace(
            self.before(node), agent_epoch=self._epoch, sequence=self._sequence
        )
        followed = kept.followed_by(self._epoch, node.status)
        try:
            await self._journal.keep(Kept(kept.plan, before, followed, kept.awaited))
        except JournalError as error:
            log.error("inventory_not_kept", error=str(error))

    def _next(self, inventory: Inventory) -> Inventory:
        """Return *inventory* as this agent's next word."""
        return msgspec.structs.replace(
            inventory, agent_epoch=self._epoch, sequence=self._sequence + 1
        )

    def _newest(self, node: GpuNode) -> Inventory:
        """Return what an agent told last: what *node* says, or what was kept."""
        kept = self._journal.kept
        return kept.inventory if kept.newer_than(node.status) else node.status

    def _confirmed(self, node: GpuNode) -> Inventory:
        """Return what an earlier agent told of this very object, and what must not be forgotten.

        That of an object deleted before it is not told of this one: nobody has looked since. Nor is
        a newer plan than the object says: it may come from a backup, with another plan since.
        """
        if node.status.agent_epoch:
            newest = self._newest(node)
            seen = min(newest.observed_generation, node.status.observed_generation)
            return msgspec.structs.replace(newest, observed_generation=seen)
        kept = self._journal.kept.inventory
        return Inventory(boot_id=kept.boot_id, realized=kept.realized, failed=kept.failed)

    def _told_of(self, node: GpuNode) -> Told | None:
        """Return what was told of this very object; another of the same name knows nothing."""
        return self._told if self._told and self._told.uid == node.metadata.uid else None

    def _now(self) -> str:
        return rfc3339.seconds(self._utc_now())


def _not_ready(findings: Findings, reason: str, message: str) -> Findings:
    return msgspec.structs.replace(findings, not_ready=(reason, message))
