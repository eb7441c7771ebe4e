"""The loop: observe, decide, act, publish.

A pass begins when the plan or the kubelet's claims have changed, when something is due again, and
at the latest after the rescan interval::

    GPUs ─▶ claims ─▶ withdraw ties ─▶ destroy, create ─▶ tie ─▶ offer ─▶ publish

What is no longer planned is withdrawn from the kubelet, and the claims are read after that, before
anything is destroyed. What is published as realized has been offered to the kubelet before.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
import structlog

from nodeagent import slots
from nodeagent.actuate import Actuator, Intent, Outcome
from nodeagent.api.gpunode import (
    Assignment,
    Condition,
    Failed,
    GpuNode,
    Inventory,
    Mode,
)
from nodeagent.apiserver.protocol import ApiError, ApiServer
from nodeagent.apiserver.reflector import DEFAULT_PACE, Pace
from nodeagent.discover import inventory
from nodeagent.driver import Driver, DriverError, Host
from nodeagent.journal import Journal
from nodeagent.kubelet import Device, Kubelet, KubeletError, Offer
from nodeagent.publish import Publisher, Told, news
from nodeagent.settings import Settings

log = structlog.get_logger()

_T = TypeVar("_T")

REBOOTED = "the node has rebooted since; its GPU instance is gone"


class _Retry(msgspec.Struct, frozen=True):
    """An assignment whose creation failed so many times, and when to try again."""

    reason: str
    failures: int
    at: float


class Agent:
    """The agent of one node; *epoch* names this process, *clock* counts seconds.

    :meth:`run` is all a program needs. Tests may call :meth:`heard` and :meth:`converge` instead,
    one pass at a time.
    """

    def __init__(
        self,
        node: str,
        *,
        api: ApiServer,
        driver: Driver,
        kubelet: Kubelet,
        journal: Journal,
        epoch: str,
        settings: Settings | None = None,
        pace: Pace = DEFAULT_PACE,
        clock: Callable[[], float] = time.monotonic,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._node = node
        self._epoch = epoch
        self._settings = settings or Settings()
        self._clock = clock
        self._utc_now = utc_now
        self._kubelet = kubelet
        self._journal = journal
        self._actuator = Actuator(driver, journal, within=self._settings.driver_timeout_seconds)
        self._publisher = Publisher(
            api, node, timeout=self._settings.api_timeout_seconds, pace=pace
        )
        self._due = asyncio.Event()
        self._gpu_node: GpuNode | None = None
        self._told: Told | None = None
        self._ties: slots.Ties | None = None
        self._offered: Offer | None = None
        self._retries: dict[str, _Retry] = {}
        self._lost: frozenset[str] = frozenset()
        self._blocked_passes = 0
        self._log = log.bind(node=node)

    async def run(self) -> None:
        """Serve the node until cancelled."""
        await self._journal.load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_lease(), name=f"lease-{self._node}")
            tasks.create_task(self._follow_plan(), name=f"plan-{self._node}")
            tasks.create_task(self._kubelet.run(self._due.set), name=f"kubelet-{self._node}")
            tasks.create_task(self._keep_converging(), name=f"converge-{self._node}")

    def heard(self, node: GpuNode | None) -> None:
        """Take note of the GpuNode as the API server has it, None if it has none."""
        known = self._gpu_node
        if node is not None and known is not None and _version(node) < _version(known):
            return
        self._gpu_node = node
        if _plan_of(node) != _plan_of(known):
            self._due.set()

    async def converge(self) -> float:
        """Make one pass, and return in how many seconds the next is due.

        Raises:
            ApiError | DriverError | KubeletError: the pass could not be finished; make another.
        """
        node = self._gpu_node
        if node is None:
            return self._settings.rescan_seconds
        if self._told and self._told.uid != node.metadata.uid:
            self._told = None
        plan = tuple({each.id: each for each in node.spec.assignments}.values())
        host = await self._looked(node)
        self._note_what_the_boot_ended(node, plan, host)
        ties, claims = await self._withdraw(node, plan, host)
        now = self._clock()
        outcome = await self._actuator.converge(
            host,
            Intent(
                plan=plan,
                claimed=self._claimed(ties, claims, host),
                postponed={id for id, retry in self._retries.items() if retry.at > now},
                lost=self._lost,
            ),
        )
        self._note_failures(plan, outcome)
        self._ties = slots.tied(
            ties,
            [each for each in plan if each.id not in self._lost],
            claims,
            live=outcome.live,
            capacity=slots.capacity(outcome.host),
        )
        await self._offer(self._ties, outcome)
        await self._publish(node, plan, self._ties, outcome)
        return self._next_pass(outcome)

    async def _keep_converging(self) -> None:
        failures = 0
        while True:
            self._due.clear()
            try:
                pause = await self.converge()
                failures = 0
            except (ApiError, DriverError, KubeletError) as error:
                failures += 1
                pause = self._settings.retry_after(failures)
                self._log.warning("pass_unfinished", error=str(error), retry_seconds=pause)
                await asyncio.sleep(min(pause, self._settings.first_retry_seconds))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._due.wait()

    async def _follow_plan(self) -> None:
        plans = self._publisher.follow()
        async with contextlib.aclosing(plans):
            async for node in plans:
                self.heard(node)

    async def _keep_lease(self) -> None:
        every = self._settings.lease_renew_seconds
        while True:
            try:
                await self._publisher.renew_lease(
                    holder=self._epoch,
                    now=self._utc_now(),
                    duration_seconds=round(every * self._settings.lease_missed_renewals),
                )
                pause = every
            except ApiError as error:
                self._log.warning("lease_not_renewed", error=str(error))
                pause = min(every, self._settings.first_retry_seconds)
            await asyncio.sleep(pause)

    async def _looked(self, node: GpuNode) -> Host:
        try:
            return await self._actuator.look()
        except DriverError as error:
            before = self._before(node)
            ready = self._ready(before, "DriverUnavailable", str(error))
            planned = self._told.planned if self._told else ()
            await self._tell(node, msgspec.structs.replace(before, conditions=(ready,)), planned)
            raise

    def _note_what_the_boot_ended(
        self, node: GpuNode, plan: Sequence[Assignment], host: Host
    ) -> None:
        """Find the assignments that a reboot has ended: their pods never start again.

        A container is started again by its kubelet, and gets its instance again.
        """
        if host.mode is Mode.CONTAINER:
            return
        before = self._before(node)
        ended = {each.id for each in before.failed if each.reason == REBOOTED}
        if before.boot_id and before.boot_id != host.boot_id:
            ended |= {each.id for each in before.realized}
        self._lost = (self._lost | ended) & {each.id for each in plan}

    async def _withdraw(
        self, node: GpuNode, plan: Sequence[Assignment], host: Host
    ) -> tuple[slots.Ties, slots.Claims]:
        """Untie what has left the plan and is not claimed, in the kubelet's eyes too."""
        claims = await self._claims()
        before = self._ties or slots.recovered(node.status.realized, plan, claims)
        ties = slots.kept(before, plan, claims)
        if self._offered and len(ties.ties) < len(before.ties):
            await self._make_offer(_only(self._offered, {tie.slot for tie in ties.ties}))
            claims = await self._claims()
            ties = slots.kept(before, plan, claims)
        self._ties = ties
        return ties, claims

    def _claimed(self, ties: slots.Ties, claims: slots.Claims, host: Host) -> frozenset[str]:
        """Return the assignments whose instances pods may have.

        Where a claimed slot has no tie, that is every assignment whose instance may be behind it.
        """
        tied = {tie.slot for tie in ties.ties}
        unexplained = {slots.resource_of(slot) for slot in claims if slot not in tied}
        suspect = {
            (gpu.uuid, profile_id)
            for gpu in host.gpus
            for resource, profile_id in gpu.served(host.mode).items()
            if resource in unexplained
        }
        return ties.claimed_assignments(claims) | {
            made.assignment for made in self._journal.made if (made.gpu, made.profile_id) in suspect
        }

    def _note_failures(self, plan: Sequence[Assignment], outcome: Outcome) -> None:
        planned = {each.id for each in plan}
        for assignment, retry in list(self._retries.items()):
            if assignment not in planned or assignment in outcome.live:
                del self._retries[assignment]
            elif retry.at <= self._clock() and assignment not in outcome.failures:
                del self._retries[assignment]  # it has become impossible, or waits
        for assignment, reason in outcome.failures.items():
            before = self._retries.get(assignment)
            failures = before.failures + 1 if before else 1
            at = self._clock() + self._settings.retry_after(failures)
            self._retries[assignment] = _Retry(reason, failures, at)

    async def _offer(self, ties: slots.Ties, outcome: Outcome) -> None:
        """Offer the kubelet the slots of the node, and what is behind the tied ones."""
        devices = {
            instance.assignment: Device(instance.assignment, gpu, instance.gi_id)
            for gpu, instances in outcome.observed.items()
            for instance in instances
            if instance.assignment in outcome.live
        }
        await self._make_offer(
            Offer(
                slots={
                    resource: tuple(slots.slot_name(resource, n) for n in range(count))
                    for resource, count in slots.capacity(outcome.host).items()
                },
                waiting=ties.waiting(),
                devices={
                    tie.slot: devices[tie.assignment]
                    for tie in ties.ties
                    if tie.assignment in devices
                },
            )
        )

    async def _publish(
        self, node: GpuNode, plan: Sequence[Assignment], ties: slots.Ties, outcome: Outcome
    ) -> None:
        reasons = {
            **{assignment: retry.reason for assignment, retry in self._retries.items()},
            **outcome.impossible,
            **dict.fromkeys(self._lost, REBOOTED),
        }
        reason, message = "Ready", ""
        if self._journal.damage:
            reason, message = "JournalUnreadable", self._journal.damage
        elif not outcome.host.gpus:
            reason, message = "NoGpus", "the driver lists no GPU"
        await self._tell(
            node,
            msgspec.structs.replace(
                inventory(outcome.host, outcome.observed, plan),
                observed_generation=node.metadata.generation,
                realized=tuple(each for each in ties.realized if each.id not in self._lost),
                failed=tuple(Failed(a.id, reasons[a.id]) for a in plan if a.id in reasons),
                conditions=(self._ready(self._before(node), reason, message),),
            ),
            {each.id for each in plan},
        )

    async def _tell(self, node: GpuNode, now: Inventory, planned: Collection[str]) -> None:
        """Write *now*, which takes account of the *planned* assignments, if it is news."""
        now = msgspec.structs.replace(
            now,
            agent_epoch=self._epoch,
            sequence=self._told.inventory.sequence + 1 if self._told else 1,
        )
        if self._told and not news(self._told, now, planned):
            return
        updated = await self._publisher.tell(node, now)
        self._told = Told(node.metadata.uid, now, frozenset(planned))
        self._log.info(
            "inventory_published",
            sequence=now.sequence,
            generation=now.observed_generation,
            realized=len(now.realized),
            failed={each.id: each.reason for each in now.failed},
        )
        # The GpuNode may have been deleted since: a late answer does not bring it back.
        if updated and self._gpu_node and self._gpu_node.metadata.uid == updated.metadata.uid:
            self.heard(updated)

    def _before(self, node: GpuNode) -> Inventory:
        """Return what was told last, perhaps by an earlier agent."""
        return self._told.inventory if self._told else node.status

    def _ready(self, before: Inventory, reason: str, message: str) -> Condition:
        status = "True" if reason == "Ready" else "False"
        since = next(
            (c.last_transition_time for c in before.conditions if c.status == status),
            self._utc_now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        return Condition("Ready", status, reason, message, since)

    def _next_pass(self, outcome: Outcome) -> float:
        """Return in how many seconds to look again if nothing happens."""
        self._blocked_passes = self._blocked_passes + 1 if outcome.blocked else 0
        dues = [self._settings.rescan_seconds]
        dues += (max(0.0, retry.at - self._clock()) for retry in self._retries.values())
        if self._blocked_passes:
            dues.append(self._settings.retry_after(self._blocked_passes))
        return min(dues)

    async def _claims(self) -> slots.Claims:
        return await self._of_kubelet(self._kubelet.claims())

    async def _make_offer(self, offer: Offer) -> None:
        self._offered = offer
        await self._of_kubelet(self._kubelet.offer(offer))

    async def _of_kubelet(self, answer: Awaitable[_T]) -> _T:
        seconds = self._settings.kubelet_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            raise KubeletError(f"the kubelet did not answer within {seconds:g} s") from error


def _only(offer: Offer, tied: Collection[str]) -> Offer:
    """Return *offer* without the slots that are no longer tied."""
    return Offer(
        slots=offer.slots,
        waiting={
            resource: left
            for resource, names in offer.waiting.items()
            if (left := tuple(slot for slot in names if slot in tied))
        },
        devices={slot: device for slot, device in offer.devices.items() if slot in tied},
    )


def _plan_of(node: GpuNode | None) -> tuple[str, int] | None:
    return (node.metadata.uid, node.metadata.generation) if node else None


def _version(node: GpuNode) -> int:
    """Return where a state of the GpuNode stands among others; the API server counts them."""
    version = node.metadata.resource_version
    return int(version) if version.isdecimal() else 0
