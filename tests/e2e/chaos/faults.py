"""What can go wrong: each fault begins, lasts, and is over."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import msgspec

from tests.e2e.chaos.link import Link
from tests.e2e.chaos.site import EXTENDERS, Site

RESTART_SECONDS = 2.0  # a kubelet starts a container that crashed, or systemd a unit, as fast
BEYOND_THE_LEASE_SECONDS = 12.0
LONG_SECONDS = 8.0
DELAY_SECONDS = 0.5


Strike = Callable[[Site], AbstractAsyncContextManager[None]]


class Fault(msgspec.Struct, frozen=True):
    """A kind of fault: in the context that *strike* returns, it is there, for ``seconds``."""

    name: str
    says: str
    seconds: float
    strike: Strike


class Victim(msgspec.Struct, frozen=True):
    """A process that can be killed, started again, and signalled."""

    kill: Callable[[], Awaitable[object]]
    start: Callable[[], Awaitable[None]]
    signal: Callable[[int], None]


def faults() -> Iterator[Fault]:
    """Yield every kind of fault, and none at all to compare them with."""
    yield Fault("none", "nothing goes wrong", LONG_SECONDS, _nothing)
    for name, says, found, stopped_seconds in (
        ("leader", "the leader", _leader, BEYOND_THE_LEASE_SECONDS),
        ("standby", "the standby", _standby, BEYOND_THE_LEASE_SECONDS),
        ("agents", "all agents", _agents, LONG_SECONDS),
        ("apiserver", "kube-apiserver", _apiserver, LONG_SECONDS),
        ("etcd", "etcd", _etcd, LONG_SECONDS),
    ):
        yield Fault(f"kill-{name}", f"SIGKILL of {says}", RESTART_SECONDS, _killed(found))
        yield Fault(f"stop-{name}", f"SIGSTOP of {says}", stopped_seconds, _stopped(found))
    for name, between, link, dropped_seconds in (
        ("leader", "the leader and the API server", _of_leader, BEYOND_THE_LEASE_SECONDS),
        ("agents", "the agents and the API server", _of_agents, LONG_SECONDS),
        ("hooks", "the schedulers and the extenders", _of_hooks, LONG_SECONDS),
    ):
        late = f"{DELAY_SECONDS * 1000:g} ms more each way between {between}"
        yield Fault(f"delay-{name}", late, LONG_SECONDS, _delayed(link))
        yield Fault(f"cut-{name}", f"connections reset between {between}", 0.0, _cut(link))
        nothing = f"nothing passes between {between}"
        yield Fault(f"drop-{name}", nothing, dropped_seconds, _dropped(link))


@contextlib.asynccontextmanager
async def _nothing(site: Site) -> AsyncIterator[None]:
    yield


# -- processes -------------------------------------------------------------------------------------


def _killed(found: Callable[[Site], Awaitable[Victim]]) -> Strike:
    @contextlib.asynccontextmanager
    async def strike(site: Site) -> AsyncIterator[None]:
        victim = await found(site)
        await victim.kill()
        try:
            yield
        finally:
            await victim.start()

    return strike


def _stopped(found: Callable[[Site], Awaitable[Victim]]) -> Strike:
    @contextlib.asynccontextmanager
    async def strike(site: Site) -> AsyncIterator[None]:
        victim = await found(site)
        victim.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            victim.signal(signal.SIGCONT)

    return strike


async def _leader(site: Site) -> Victim:
    return _extender(site, await site.leader())


async def _standby(site: Site) -> Victim:
    leader = await site.leader()
    return _extender(site, next(pod for pod in EXTENDERS if pod != leader))


def _extender(site: Site, pod: str) -> Victim:
    process = site.extenders[pod]
    return Victim(lambda: process.stop(signal.SIGKILL), process.start, process.signal)


async def _agents(site: Site) -> Victim:
    process = site.agents
    return Victim(lambda: process.stop(signal.SIGKILL), process.start, process.signal)


async def _apiserver(site: Site) -> Victim:
    return _of_plane(site, "kube-apiserver", site.plane.start_apiserver)


async def _etcd(site: Site) -> Victim:
    return _of_plane(site, "etcd", site.plane.start_etcd)


def _of_plane(site: Site, name: str, start: Callable[[], Awaitable[None]]) -> Victim:
    process = site.plane.processes[name]

    async def kill() -> None:
        process.kill()

    return Victim(kill, start, process.signal)


# -- links -----------------------------------------------------------------------------------------


def _delayed(found: Callable[[Site], Awaitable[Link]]) -> Strike:
    @contextlib.asynccontextmanager
    async def strike(site: Site) -> AsyncIterator[None]:
        link = await found(site)
        link.delay = DELAY_SECONDS
        try:
            yield
        finally:
            link.delay = 0.0

    return strike


def _cut(found: Callable[[Site], Awaitable[Link]]) -> Strike:
    @contextlib.asynccontextmanager
    async def strike(site: Site) -> AsyncIterator[None]:
        (await found(site)).cut()
        yield

    return strike


def _dropped(found: Callable[[Site], Awaitable[Link]]) -> Strike:
    @contextlib.asynccontextmanager
    async def strike(site: Site) -> AsyncIterator[None]:
        link = await found(site)
        link.hold()
        try:
            yield
        finally:
            link.release()

    return strike


async def _of_leader(site: Site) -> Link:
    return site.links[await site.leader()]


async def _of_agents(site: Site) -> Link:
    return site.links["agents"]


async def _of_hooks(site: Site) -> Link:
    return site.links["hooks"]
