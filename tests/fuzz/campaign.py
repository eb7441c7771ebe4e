"""A campaign: an extender on a small cluster, many hostile requests, and a verdict."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import msgspec
import structlog

from extender.server import Limits, serving
from extender.service import Service
from tests.fakes.raw_http import RawClient, dial
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.fuzz.described import described
from tests.fuzz.requests import Hostile, hostile
from tests.fuzz.standing import standing
from tests.fuzz.verdict import GROWTH_BYTES, GROWTH_BYTES_PER_REQUEST, Verdict
from tests.waiting import until

AGENTS = ("node-1", "node-2")
HURRIED = Limits(head_seconds=0.05, body_seconds=0.05, linger_seconds=0.02)
"""Raw requests come in one piece or never whole: what is missing is not waited for long."""
SETTINGS = msgspec.structs.replace(
    QUICK,
    presumption_seconds=0.05,
    presumption_with_volumes_seconds=0.05,
    unseen_pod_recheck_seconds=0.05,
    unseen_pod_seconds=0.05,
    lease_missed_seconds=3600.0,  # no agent renews its Lease here, and all silent is not ready
)
ANSWER_SECONDS = 30.0  # an answer that takes longer has not come


async def campaign(*, requests: int, seed: int, described_share: float = 0.1) -> Verdict:
    """Send *requests* requests, a share of them schemathesis's, and judge what became of it."""
    verdict = Verdict(seed)
    chance = random.Random(seed)
    per_half = round(requests * (1 - described_share) / 2)
    # Two modes for each of four hooks, and the three other paths once.
    examples = max(1, round(requests * described_share / 8))
    with _quiet():
        async with _cluster() as (world, service):
            before = await standing(world, service.knowledge)
            # An ordinary client sends head and body apart, and may be held up between the two. Both
            # are served until the end: a service whose server has gone away decides nothing more.
            async with serving(service) as patient, serving(service, limits=HURRIED) as url:
                await asyncio.to_thread(described, patient, verdict, examples=examples)
                await _half(url, verdict, chance, per_half)
                await _settled(world, service, before, verdict)
                tracemalloc.start(1)
                try:
                    await _half(url, verdict, chance, per_half // 10)  # what tracing itself needs
                    await _settled(world, service, before, verdict)
                    start = _in_use()
                    rest = requests - verdict.sent
                    await _half(url, verdict, chance, rest)
                    await _settled(world, service, before, verdict)
                    verdict.growth_bytes = _in_use() - start
                finally:
                    tracemalloc.stop()
                why_not = service.knowledge.not_ready()
                assert not why_not, f"decisions were to be tried, not errors: {why_not}"
    if verdict.growth_bytes > GROWTH_BYTES + rest * GROWTH_BYTES_PER_REQUEST:
        verdict.complain(f"memory grew by {verdict.growth_bytes} bytes")
    return verdict


@contextlib.asynccontextmanager
async def _cluster() -> AsyncIterator[tuple[World, Service]]:
    """Run an extender for two nodes whose agents obey, one of them with a bound VM."""
    world = World()
    for name in AGENTS:
        await world.add_node(name, gpus=2)
    async with world.extender(SETTINGS) as service, world.obedient(*AGENTS):
        pod = await world.add_pod("tenant", "2-20C")
        service.hooks.filter(filter_args(pod, *AGENTS))
        assert not (await service.binder.bind(bind_args(pod, "node-1"))).error
        uid = pod["metadata"]["uid"]
        await until(lambda: uid in service.knowledge.pods and service.knowledge.pods[uid].node)
        yield world, service


async def _half(url: str, verdict: Verdict, chance: random.Random, count: int) -> None:
    client: RawClient | None = None
    for _ in range(count):
        asked = hostile(chance)
        verdict.sent += 1
        if client is None:
            client = await dial(url)
        begun = time.perf_counter()
        if not await _asked(client, asked, verdict):
            client.writer.transport.abort()
            client = None
        verdict.slowest_seconds = max(verdict.slowest_seconds, time.perf_counter() - begun)
    if client is not None:
        client.writer.transport.abort()


async def _asked(client: RawClient, asked: Hostile, verdict: Verdict) -> bool:
    """Send a request, judge the answer, and tell whether the connection may be used again."""
    try:
        client.send(asked.sent)
        async with asyncio.timeout(ANSWER_SECONDS):
            status, headers, body = await client.answer()
            while status == 100:
                status, headers, body = await client.answer()
    except TimeoutError:
        verdict.complain(f"{asked.verb} was not answered", asked.sent)
        return False
    except (ConnectionError, asyncio.IncompleteReadError):
        verdict.statuses[0] += 1
        if asked.intact:
            verdict.complain(f"{asked.verb} was cut off", asked.sent)
        return False
    if asked.intact:
        verdict.answered(asked.verb, status, body, asked.sent)
    else:
        verdict.statuses[status] += 1
        if status >= 500:
            verdict.complain(f"broken HTTP was answered {status}", asked.sent)
    return asked.intact and headers.get("connection") != "close"


async def _settled(
    world: World, service: Service, before: dict[str, Any], verdict: Verdict
) -> None:
    """Wait for all to be as it was: of the pods that were asked about, no watch ever tells."""
    now: dict[str, Any] = {}

    async def as_before() -> bool:
        nonlocal now
        now = await standing(world, service.knowledge)
        return now == before

    try:
        await until(as_before, every=0.01)
    except TimeoutError:
        changed = [key for key in before if now[key] != before[key]]
        verdict.complain(f"not as before: {', '.join(changed)}: {[now[key] for key in changed]}")
    world.api.compact()


def _in_use() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop log events: thousands of requests cause thousands."""

    def drop(_: Any, __: str, ___: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    kept = list(processors)
    processors[:] = [drop]  # in place: loggers in use hold on to this list
    try:
        yield
    finally:
        processors[:] = kept
