"""One pass after the other, and what has to be remembered from one to the next.

::

    GPUs ─▶ claims ─▶ withdraw ─▶ adopt, destroy ─▶ withdraw ─▶ create ─▶ tie
         ─▶ offer ─▶ publish ─▶ alarm

What is no longer planned, or not there any more, is withdrawn from the kubelet, and the claims are
read after that, before anything is destroyed or made. What is published as realized has been
offered to the kubelet before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import structlog

from nodeagent.actuate import Actuator, Intent, Outcome
from nodeagent.adoption import adoptions
from nodeagent.agent.alarms import Alarms, alarms
from nodeagent.agent.endings import GONE, REBOOTED, ended
from nodeagent.agent.findings import Findings
from nodeagent.agent.handing import Handing
from nodeagent.agent.preparing import Prepare, Preparing
from nodeagent.agent.reporter import Reporter
from nodeagent.agent.retries import Retries
from nodeagent.agent.unplanned import Unplanned
from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment, GpuNode, Inventory, Mode, Realized
from nodeagent.drift import drift
from nodeagent.driver import DriverError, Host
from nodeagent.journal import Journal
from nodeagent.purview import Purview, excluded, without
from nodeagent.settings import Settings

log = structlog.get_logger()


class Passes:
    """Makes passes over one node, of which *purview* is ours to use; *clock* counts seconds."""

    def __init__(
        self,
        actuator: Actuator,
        handout: Handing,
        reporter: Reporter,
        alarms: Alarms,
        journal: Journal,
        *,
        settings: Settings,
        purview: Purview,
        prepare: Prepare | None,
        clock: Callable[[], float],
    ) -> None:
        self._actuator = actuator
        self._handout = handout
        self._reporter = reporter
        self._alarms = alarms
        self._journal = journal
        self._settings = settings
        self._purview = purview
        self._preparing = Preparing(
            prepare,
            seconds=settings.rescan_seconds,
            within=settings.prepare_timeout_seconds,
            clock=clock,
        )
        self._retries = Retries(settings, clock)
        self._unplanned = Unplanned()
        self._over: Mapping[str, str] = {}
        self._drift: tuple[str, ...] = ()
        self._blocked_passes = 0
        self._draining = False

    @property
    def drained(self) -> bool:
        """Whether every pod that was tied has its slots, or does not want them any more."""
        return self._handout.drained

    def drain(self) -> None:
        """Begin nothing new from now on: create nothing, tie no pod."""
        self._draining = True
        self._handout.drain()

    async def make(self, node: GpuNode) -> float:
        """Bring about the plan of *node*, and return in how many seconds to look again.

        Reservations are nothing to us: until a pod is matched to one, nothing is made for it, and
        the GPU instance of the pod it was made from goes like any that has left the plan.

        Raises:
            ApiError | DriverError | KubeletError: it could not be finished; make another.
        """
        plan = tuple({e.id: e for e in node.spec.assignments if e.pod is not None}.values())
        planned = frozenset(each.id for each in plan)
        before = self._reporter.before(node)
        try:
            host = await self._actuator.look()
        except DriverError as error:
            await self._reporter.tell_trouble(node, keys.DRIVER_UNAVAILABLE, str(error))
            raise
        await self._handout.withdraw(
            before.realized, plan, host, awaited=self._journal.kept.awaited
        )
        choice = excluded(
            node.metadata.annotations.get(keys.GPUS_ANNOTATION),
            host.gpus,
            before,
            all_gpus=self._purview.all_gpus,
        )
        host = without(host, choice.gpus)
        if not self._draining and await self._preparing.prepare(host.gpus):
            host = await self._actuator.look()
            await self._handout.withdraw(
                before.realized, plan, host, awaited=self._journal.kept.awaited
            )
            host = without(host, choice.gpus)
        intent = self._intent(plan, before, host, others=choice.gpus)
        outcome = await self._actuator.converge(
            host, intent, looked=partial(self._handout.narrow, plan)
        )
        self._retries.note(outcome, planned, postponed=intent.postponed)
        await self._handout.hand_out(
            [each for each in plan if each.id not in self._over and each.id not in self._adopted()],
            outcome,
            purview=self._purview,
            in_vain=self._in_vain(plan, host),
        )
        realized = self._realized(planned)
        await self._reporter.tell(
            node,
            plan,
            outcome,
            realized=realized,
            awaited=self._handout.awaited,
            failed=self._failed(outcome),
            findings=Findings(
                drift=self._drifted(plan, outcome),
                gpus=choice.problem,
                rivals=self._rivals(),
                needed=self._preparing.needed,
            ),
            resources=self._purview.resources,
        )
        await self._alarms.tell(alarms(plan, host, realized=realized))
        return self._next_in(outcome)

    def _intent(
        self, plan: Sequence[Assignment], before: Inventory, host: Host, *, others: Collection[str]
    ) -> Intent:
        """Return what this pass is for; the *others* among the GPUs (UUIDs) are not ours to use."""
        made, handout = self._journal.made, self._handout
        over = {
            **self._over,
            **ended(plan, before, host, had=handout.had, adopted=self._adopted()),
        }
        self._over = {each.id: over[each.id] for each in plan if each.id in over}
        adopted = adoptions(
            [each for each in plan if each.id not in self._over],
            host,
            made,
            handout.holders,
            told=before,
            claimed=handout.claimed_by,
            unused=handout.unused,
        )
        later = handout.later([each for each in plan if each.id not in self._over], host, made)
        claimed_by = handout.claimed_by
        return Intent(
            plan=plan,
            claimed=handout.claimed(host, (*made, *adopted)),
            postponed={each.id for each in plan}
            if self._draining
            else self._retries.postponed() | later,
            lost=self._over.keys(),
            adopted=adopted,
            holders=handout.holders,
            unplanned=self._unplanned.holders(
                plan, host, made, told=before, kept=self._journal.kept.plan, claimed=claimed_by
            ),
            excluded=others,
            barred=self._barred(plan),
        )

    def _barred(self, plan: Iterable[Assignment]) -> Mapping[str, str]:
        """Return why nothing new is made for a resource."""
        rivals = self._rivals()
        asked = {each.resource for each in plan}
        return {
            **{
                resource: f"the agent is told not to hand out {resource} (--resource)"
                for resource in asked
                if not self._purview.hands_out(resource)
            },
            **{
                resource: f"another device plugin advertises {resource} on this node, too"
                for resource in asked & rivals.keys()
            },
        }

    def _rivals(self) -> Mapping[str, str]:
        return {
            resource: how
            for resource, how in self._handout.rivals.items()
            if self._purview.hands_out(resource)
        }

    def _in_vain(self, plan: Iterable[Assignment], host: Host) -> Sequence[Assignment]:
        """Return what a reboot has ended before a pod had it: bound meanwhile, it will yet ask."""
        if host.mode is Mode.CONTAINER:
            return ()
        had = self._handout.had
        return [e for e in plan if self._over.get(e.id) == REBOOTED and e.id not in had]

    def _adopted(self) -> frozenset[str]:
        """Return the assignments whose pod was served before us: it needs no slot."""
        return frozenset(each.assignment for each in self._journal.made if each.adopted)

    def _realized(self, planned: Collection[str]) -> list[Realized]:
        adopted = [Realized(id) for id in sorted(self._adopted()) if id in planned]
        every = (*self._handout.realized, *adopted)
        return [each for each in every if each.id not in self._over]

    def _drifted(self, plan: Iterable[Assignment], outcome: Outcome) -> tuple[str, ...]:
        gone = [each for each in plan if self._over.get(each.id) == GONE]
        claimed = self._handout.claimed(outcome.host, self._journal.made)
        found = drift(outcome.host, outcome.observed, gone=gone, claimed=claimed)
        if found != self._drift:
            log.warning("drift", differences=found)
            self._drift = found
        return found

    def _failed(self, outcome: Outcome) -> Mapping[str, str]:
        return {
            **self._retries.reasons,
            **outcome.impossible,
            **self._over,
        }

    def _next_in(self, outcome: Outcome) -> float:
        self._blocked_passes = self._blocked_passes + 1 if outcome.blocked else 0
        dues = [self._settings.rescan_seconds, self._reporter.due_in, self._retries.due_in]
        dues.append(self._handout.due_in)
        if self._blocked_passes:
            dues.append(self._settings.retry_after(self._blocked_passes))
        return min(dues)
