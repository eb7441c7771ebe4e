"""Several extenders over one API server, in virtual time; each may be killed or cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from extender.cluster import Election, OwnPod, Replica
from extender.settings import Settings
from nodeagent.api import keys
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import LEASES, PODS, Kind, NotFound, PatchType
from tests.fakes.world import World, bind_args, filter_args
from tests.waiting import until

# Agents that never renew are never silent: these tests are not about them.
PATIENT = Settings(http_timeout_seconds=8.0, lease_missed_seconds=1e9)
LATENCY_SECONDS = 0.002  # of an extender's call, as measured
WRITES = ("create", "patch", "delete")

speaking: ContextVar[str] = ContextVar("speaking", default="")


class Write(msgspec.Struct, frozen=True):
    """A write that took effect: whose, when (virtual seconds), and of what."""

    by: str
    at: float
    kind: Kind


class Member:
    """One running replica, and its pod."""

    def __init__(self, name: str, replica: Replica) -> None:
        self.name = name
        self.service = replica.service
        self._replica = replica
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        return not self.service.knowledge.not_ready()

    def start(self) -> None:
        speaking.set(self.name)  # for the task made next, and all that it makes
        self._running = asyncio.create_task(self._replica.run(self._stop), name=self.name)
        speaking.set("")

    async def schedule(self, pod: dict[str, Any], node: str = "node-1") -> str:
        """Ask as kube-scheduler does; return the error, "" once the pod is bound."""
        speaking.set(self.name)
        try:
            answer = self.service.hooks.filter(filter_args(pod, node))
            if answer.error or not answer.node_names:
                return answer.error or "no node fits"
            return (await self.service.binder.bind(bind_args(pod, node))).error
        finally:
            speaking.set("")

    async def leave(self) -> None:
        """Go as upon SIGTERM."""
        self._stop.set()
        assert self._running is not None
        await self._running

    async def kill(self) -> None:
        """Go as upon SIGKILL."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.wait([self._running])
        if not self._running.cancelled():
            self._running.result()  # it had left before; not by a failure, one hopes


class Replicas(World):
    """A world with extenders called ``a``, ``b``, …, run for the lead in that order.

    ``cut_off`` are those whose calls arrive nowhere and are answered by nobody.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cut_off: set[str] = set()
        self.writes: list[Write] = []
        self.calls: list[tuple[str, Call]] = []
        self.api.disturbance = self._note

    async def _note(self, call: Call) -> None:
        who = speaking.get()
        if who in self.cut_off:
            await asyncio.Event().wait()
        if who and not call.done:
            await asyncio.sleep(LATENCY_SECONDS)
        if who:
            self.calls.append((who, call))
        if who and call.done and call.verb in WRITES:
            self.writes.append(Write(who, now(), call.kind))

    @contextlib.asynccontextmanager
    async def extenders(
        self, *names: str, settings: Settings = PATIENT
    ) -> AsyncIterator[list[Member]]:
        """Run them until the block ends; when it begins, the first leads."""
        members = []
        for name in names:
            await self.add_pod(name, namespace=keys.SYSTEM_NAMESPACE)
            members.append(self.member(name, settings=settings))
        try:
            for member in members:
                member.start()
                await asyncio.sleep(0.1)
            await soon(lambda: members[0].leads)
            yield members
        finally:
            self.cut_off.clear()
            for member in members:
                await member.kill()

    def member(self, name: str, *, identity: str = "", settings: Settings = PATIENT) -> Member:
        """Make an extender in the pod *name*, which does not run yet."""
        replica = Replica(
            self.api,
            settings,
            election=Election(identity or f"{name}_1"),
            own_pod=OwnPod(keys.SYSTEM_NAMESPACE, name),
            clock=now,
            utc_now=utc_now,
            chance=lambda: 0.5,
        )
        return Member(name, replica)

    def written(self, kind: Kind) -> int:
        """Count what extenders have written of a kind."""
        return sum(write.kind == kind for write in self.writes)

    async def unlabel(self, pod: str) -> None:
        """Take the leader's label from a pod, as somebody with kubectl."""
        await self.api.patch(
            PODS,
            pod,
            {"metadata": {"labels": {keys.LEADER_LABEL: None}}},
            patch_type=PatchType.MERGE,
            namespace=keys.SYSTEM_NAMESPACE,
        )

    async def labelled(self) -> set[str]:
        """Return the pods that the hooks' Service selects."""
        page = await self.api.list(PODS, label_selector=f"{keys.LEADER_LABEL}=true")
        return {msgspec.json.decode(raw)["metadata"]["name"] for raw in page.items}

    async def holder(self) -> str | None:
        """Return who holds the Lease, "" if it was released, None if there is none."""
        try:
            raw = await self.api.get(LEASES, keys.LEADER_LEASE, namespace=keys.SYSTEM_NAMESPACE)
        except NotFound:
            return None
        return str(msgspec.json.decode(raw)["spec"]["holderIdentity"])


def utc_now() -> datetime:
    """Return the virtual time as a calendar shows it: it begins with a day."""
    return datetime(2026, 1, 5, tzinfo=UTC) + timedelta(seconds=now())


def now() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


async def soon(
    condition: Callable[[], object | Awaitable[object]], *, within: float = 60.0
) -> None:
    """Return as soon as *condition* holds, in virtual seconds."""
    await until(condition, within=within, every=0.05)
