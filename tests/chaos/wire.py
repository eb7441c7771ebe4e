"""What lies between a process and the API server: time, loss, and a process that may be gone.

A request that was sent is carried out whether or not whoever sent it still lives. The time it was
given (``?timeout=``) counts from when it has come to the API server, which may be half a second
after it was sent; a plan that is held up comes many seconds later, and is made all the same, if it
still passes its own test; so may a Binding be. The answer may be lost, or come after its caller has
given up.

A list is as new as the moment at which it is answered: nobody here asks for one "at any version",
which is what a watch cache may answer from its past. It may be old by the time it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import msgspec

from extender.service.ports import TRANSIT_SECONDS
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    PODS,
    ApiError,
    Body,
    Conflict,
    EventType,
    Gone,
    Kind,
    Overloaded,
    Page,
    PatchType,
    Unavailable,
    WatchEvent,
)
from tests.chaos.hearsay import Hearsay
from tests.chaos.loop import Process, SeededLoop

_T = TypeVar("_T")
LATENCY_SECONDS = 0.002  # of a call, as measured
SENDER: ContextVar[str] = ContextVar("sender", default="")
"""Which process sent what is being carried out, "" if none did."""

SENT: ContextVar[float] = ContextVar("sent", default=0.0)
"""And when."""

LATE: ContextVar[bool] = ContextVar("late", default=False)
"""And whether it was on its way for longer than :data:`TRANSIT_SECONDS`."""

ROUGH = ("delay", "throttled", "error", "conflict", "lost answer", "reset", "late watch")
DOUBT = ("lost binding", "pods unread")
"""Together they leave an extender in doubt whether it has bound a pod."""

LATE_BINDING = "late binding"
LATEST_BINDING_SECONDS = 60.0  # what is lost on the way is sent again, after ever longer
BIND, PLAN, READ_POD = "bind", "plan", "read pod"
READS = ("get", "list", "watch", READ_POD)


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    uid: str


class _Object(msgspec.Struct, frozen=True):
    metadata: _Metadata


_OBJECT = msgspec.json.Decoder(_Object)


class Network:
    """The weather between all processes and the API server.

    ``rough`` are the kinds of trouble there are now, each with its likelihood for one call; ``cut``
    are the names of the processes that reach nobody; ``stuck`` are the kinds (by plural) of which
    no watch tells anything. ``stalled`` are the processes whose next plan is held up for so many
    seconds, while they reach nobody. ``lists`` tells when a process last asked for a whole kind,
    ``hearsay`` what it knows of GpuNodes.
    """

    def __init__(self, loop: SeededLoop, api: InMemoryApi, chance: random.Random) -> None:
        self.loop = loop
        self.api = api
        self.chance = chance
        self.rough: dict[str, float] = {}
        self.cut: set[str] = set()
        self.stuck: dict[str, asyncio.Event] = {}
        self.stalled: dict[str, float] = {}
        self.lists: dict[tuple[str, str], float] = {}
        self.hearsay = Hearsay()
        self.calls = 0
        self.strikes: Counter[str] = Counter()
        self._joined = asyncio.Event()

    def struck(self, kind: str) -> bool:
        """Tell whether this call has that kind of trouble."""
        if kind not in self.rough or self.chance.random() >= self.rough[kind]:
            return False
        self.strikes[kind] += 1
        return True

    def rejoin(self, name: str) -> None:
        """Let a process be reached again."""
        self.cut.discard(name)
        self._joined.set()
        self._joined = asyncio.Event()

    def stick(self, kind: str) -> None:
        """Let the watches of a *kind* tell nothing more for now."""
        self.stuck.setdefault(kind, asyncio.Event())

    def held_up(self, process: str) -> float:
        """Return for how many seconds a plan that *process* sends is held up."""
        seconds = self.stalled.pop(process, 0.0)
        if seconds:
            self.strikes["held up plan"] += 1
            self.loop.spawn_outside(self._cut_for(process, seconds))
        return seconds

    async def _cut_for(self, process: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.rejoin(process)

    def unstick(self, kind: str) -> None:
        """Let them go on."""
        if event := self.stuck.pop(kind, None):
            event.set()

    async def reached(self, process: Process) -> None:
        """Wait for as long as *process* reaches nobody."""
        while process.name in self.cut:
            await self._joined.wait()

    def drop_watches(self, *, gone: bool) -> None:
        """End every watch; with *gone*, none can be taken up where it was."""
        if gone:
            self.api.compact()
            self.api.drop_watches(Gone(410, "too old resource version"))
        else:
            self.api.drop_watches(Unavailable(0, "the connection broke"))


class Fate(msgspec.Struct):
    """What becomes of one call, which is *going*, *served*, and *coming* back for so many seconds.

    Its time is counted while it is served.
    """

    going: float
    coming: float
    served: float = 0.0
    refusal: ApiError | None = None
    given_up: float = float("inf")
    lost: bool = False


class Wire:
    """The API server as *process* reaches it.

    Without *conflicts* it never says 409 where there is none: a kubelet takes that for a pod's end.
    """

    def __init__(self, network: Network, process: Process, *, conflicts: bool = True) -> None:
        self._network = network
        self._process = process
        self._conflicts = conflicts

    async def get(
        self, kind: Kind, name: str, *, namespace: str = "", timeout: float = 10.0
    ) -> bytes:
        """Return the object's JSON."""
        return await self._called(
            READ_POD if kind == PODS else "get",
            timeout,
            lambda left: self._network.api.get(kind, name, namespace=namespace, timeout=left),
        )

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        continue_token: str = "",
        timeout: float = 30.0,
    ) -> Page:
        """Return one page, which may be old by the time it arrives."""
        sent = self._network.loop.time()
        page = await self._called(
            "list",
            timeout,
            lambda left: self._network.api.list(
                kind,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                limit=limit,
                continue_token=continue_token,
                timeout=left,
            ),
        )
        self._network.lists[self._process.label, kind.plural] = sent
        if kind == GPU_NODES:
            now = self._network.loop.time()
            self._network.hearsay.listed(self._process.label, asked=sent, now=now)
        return page

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout: float = 300.0,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what changes, each kind in its own order and with its own delay."""
        network = self._network
        await asyncio.sleep(LATENCY_SECONDS)
        await network.reached(self._process)
        if network.struck("error"):
            raise Unavailable(500, "the watch was refused")
        watch = network.api.watch(
            kind,
            resource_version=resource_version,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            timeout=timeout,
        )
        async with contextlib.aclosing(watch) as events:
            async for event in events:
                while kind.plural in network.stuck:
                    await network.stuck[kind.plural].wait()
                if network.struck("late watch"):
                    await asyncio.sleep(network.chance.expovariate(1.0))
                if self._process.name in network.cut:
                    await network.reached(self._process)
                if kind == GPU_NODES and event.type is not EventType.BOOKMARK:
                    self._heard(event)
                yield event

    def _heard(self, event: WatchEvent) -> None:
        hearsay, now = self._network.hearsay, self._network.loop.time()
        meta = _OBJECT.decode(event.object).metadata
        hearsay.heard(self._process.label, meta.name, int(event.resource_version), now=now)
        if event.type is EventType.DELETED:
            hearsay.told(self._process.label, meta.uid, now=now)

    async def create(
        self,
        kind: Kind,
        body: Body,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
        timeout: float = 10.0,
    ) -> bytes:
        """Create an object, or bind a pod."""
        return await self._called(
            BIND if subresource else "create",
            timeout,
            lambda left: self._network.api.create(
                kind,
                body,
                namespace=namespace,
                name=name,
                subresource=subresource,
                dry_run=dry_run,
                timeout=left,
            ),
        )

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Body | Sequence[Body],
        *,
        patch_type: PatchType,
        namespace: str = "",
        subresource: str = "",
        timeout: float = 10.0,
    ) -> bytes:
        """Patch an object."""
        return await self._called(
            PLAN if kind == GPU_NODES and not subresource else "patch",
            timeout,
            lambda left: self._network.api.patch(
                kind,
                name,
                patch,
                patch_type=patch_type,
                namespace=namespace,
                subresource=subresource,
                timeout=left,
            ),
        )

    async def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Delete an object."""
        await self._called(
            "delete",
            timeout,
            lambda left: self._network.api.delete(
                kind,
                name,
                namespace=namespace,
                uid=uid,
                resource_version=resource_version,
                grace_seconds=grace_seconds,
                timeout=left,
            ),
        )

    async def _called(
        self, verb: str, timeout: float, call: Callable[[float], Coroutine[Any, Any, _T]]
    ) -> _T:
        """Send a call, and have its answer, unless it takes too long."""
        network = self._network
        network.calls += 1
        held_up = network.held_up(self._process.name) if verb == PLAN else 0.0
        if self._process.name in network.cut:
            await asyncio.sleep(timeout)
            raise Unavailable(0, f"no answer within {timeout:g} s")
        fate = self._drawn(verb)
        fate.going += held_up
        if held_up:
            network.cut.add(self._process.name)
            fate.lost = True
        loop = network.loop
        answered: asyncio.Future[_T | Exception] = loop.create_future()
        # Outside of this process: what was sent is carried out.
        arrives = partial(self._arrive, fate, loop.time(), timeout, call, answered)
        loop.call_later(fate.going, arrives, context=loop.world)
        if min(timeout, fate.given_up) < fate.going + fate.served + fate.coming:
            await asyncio.sleep(min(timeout, fate.given_up))
            raise Unavailable(0, "no answer, or the connection broke")
        answer = await answered
        if isinstance(answer, Exception):
            raise answer
        if fate.lost:
            raise Unavailable(0, "the answer was lost")
        return answer

    def _arrive(self, *sent: Any) -> None:
        loop = self._network.loop
        loop.create_task(self._carried_out(*sent), context=loop.world.copy())

    async def _carried_out(
        self,
        fate: Fate,
        sent: float,
        timeout: float,
        call: Callable[[float], Coroutine[Any, Any, _T]],
        answered: asyncio.Future[_T | Exception],
    ) -> None:
        SENDER.set(self._process.label)
        SENT.set(sent)
        LATE.set(fate.going > TRANSIT_SECONDS)
        answer: _T | Exception
        try:
            if fate.served:
                await asyncio.sleep(min(timeout, fate.served))
            if fate.served >= timeout:
                raise Unavailable(0, "the time for it was over")
            if fate.refusal:
                raise fate.refusal
            answer = await call(timeout - fate.served)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            answer = error
        if fate.coming:
            await asyncio.sleep(fate.coming)
        if not answered.done():  # or its caller has given up
            answered.set_result(answer)

    def _drawn(self, verb: str) -> Fate:
        """Draw what becomes of a call: mostly nothing much."""
        network, chance = self._network, self._network.chance
        fate = Fate(LATENCY_SECONDS * chance.random(), 0.0)
        if not network.rough:
            return fate
        if network.struck("delay"):
            if chance.random() < 0.6:
                fate.going = TRANSIT_SECONDS * chance.random()
                fate.served = chance.expovariate(chance.choice((2.0, 0.3)))
            else:
                fate.coming += chance.expovariate(0.7)
        if verb == BIND and network.struck("lost binding"):
            fate.lost = True
        elif verb == BIND and network.struck(LATE_BINDING):
            fate.going += LATEST_BINDING_SECONDS * chance.random()
        elif verb == READ_POD and network.struck("pods unread"):
            fate.refusal = Unavailable(500, "etcdserver: request timed out")
        elif network.struck("throttled"):
            fate.refusal = Overloaded(429, "too many requests", retry_after=chance.choice([0, 1]))
        elif network.struck("error"):
            fate.refusal = Unavailable(500, "etcdserver: leader changed")
        elif self._conflicts and verb not in READS and network.struck("conflict"):
            fate.refusal = Conflict(409, "the object has been modified")
        elif verb not in READS and network.struck("lost answer"):
            fate.lost = True
        elif network.struck("reset"):
            fate.given_up = chance.random() * 0.1
            fate.going = TRANSIT_SECONDS * chance.random()
            fate.served += chance.expovariate(2.0)
        return fate
