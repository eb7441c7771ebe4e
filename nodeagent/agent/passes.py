"""One pass after the other, and what has to be remembered from one to the next.

::

    GPUs ─▶ claims ─▶ withdraw ties ─▶ destroy, create ─▶ tie ─▶ offer ─▶ publish

What is no longer planned is withdrawn from the kubelet, and the claims are read after that, before
anything is destroyed. What is published as realized has been offered to the kubelet before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from nodeagent.actuate import Actuator, Intent, Outcome
from nodeagent.agent.handout import Handout
from nodeagent.agent.reporter import Reporter
from nodeagent.api.gpunode import GpuNode, Inventory, Mode
from nodeagent.driver import DriverError, Host
from nodeagent.journal import Journal
from nodeagent.settings import Settings

REBOOTED = "the node has rebooted since; its GPU instance is gone"


class Passes:
    """Makes passes over one node; *clock* counts seconds."""

    def __init__(
        self,
        actuator: Actuator,
        handout: Handout,
        reporter: Reporter,
        journal: Journal,
        *,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._actuator = actuator
        self._handout = handout
        self._reporter = reporter
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._retries: dict[str, _Retry] = {}
        self._lost: frozenset[str] = frozenset()
        self._blocked_passes = 0

    async def make(self, node: GpuNode) -> float:
        """Bring about the plan of *node*, and return in how many seconds to look again.

        Raises:
            ApiError | DriverError | KubeletError: it could not be finished; make another.
        """
        plan = tuple({each.id: each for each in node.spec.assignments}.values())
        planned = frozenset(each.id for each in plan)
        before = self._reporter.before(node)
        try:
            host = await self._actuator.look()
        except DriverError as error:
            await self._reporter.tell_trouble(node, "DriverUnavailable", str(error))
            raise
        self._lost = planned & (self._lost | _ended_by_reboot(before, host))
        await self._handout.withdraw(before.realized, plan)
        now = self._clock()
        outcome = await self._actuator.converge(
            host,
            Intent(
                plan=plan,
                claimed=self._handout.claimed(host, self._journal.made),
                postponed={id for id, retry in self._retries.items() if retry.at > now},
                lost=self._lost,
            ),
        )
        self._note_failures(outcome, planned)
        wanted = [each for each in plan if each.id not in self._lost]
        await self._handout.hand_out(wanted, outcome)
        await self._reporter.tell(
            node,
            plan,
            outcome,
            realized=[r for r in self._handout.ties.realized if r.id not in self._lost],
            failed=self._failed(outcome),
        )
        return self._next_in(outcome)

    def _note_failures(self, outcome: Outcome, planned: Iterable[str]) -> None:
        """Remember what was refused and when to try again; forget what no longer matters."""
        now = self._clock()
        settled = outcome.live | outcome.impossible.keys()
        self._retries = {
            id: retry
            for id, retry in self._retries.items()
            if id in planned and id not in settled and (retry.at > now or id in outcome.failures)
        }
        for id, reason in outcome.failures.items():
            failures = self._retries[id].failures + 1 if id in self._retries else 1
            at = now + self._settings.retry_after(failures)
            self._retries[id] = _Retry(reason, failures, at)

    def _failed(self, outcome: Outcome) -> Mapping[str, str]:
        return {
            **{id: retry.reason for id, retry in self._retries.items()},
            **outcome.impossible,
            **dict.fromkeys(self._lost, REBOOTED),
        }

    def _next_in(self, outcome: Outcome) -> float:
        self._blocked_passes = self._blocked_passes + 1 if outcome.blocked else 0
        dues = [self._settings.rescan_seconds, self._reporter.due_in]
        dues += (max(0.0, retry.at - self._clock()) for retry in self._retries.values())
        if self._blocked_passes:
            dues.append(self._settings.retry_after(self._blocked_passes))
        return min(dues)


class _Retry(msgspec.Struct, frozen=True):
    """An assignment whose creation failed so many times, and when to try again."""

    reason: str
    failures: int
    at: float


def _ended_by_reboot(before: Inventory, host: Host) -> frozenset[str]:
    """Return the assignments that a reboot has ended: their pods never start again.

    A container is started again by its kubelet, and gets its GPU instance again.
    """
    if host.mode is Mode.CONTAINER:
        return frozenset()
    ended = {each.id for each in before.failed if each.reason == REBOOTED}
    if before.boot_id and before.boot_id != host.boot_id:
        ended |= {each.id for each in before.realized}
    return frozenset(ended)
