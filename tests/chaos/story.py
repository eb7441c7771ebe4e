"""A history from its beginning to its end: told event by event, then judged at rest."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from extender.service.seam import Witness
from extender.settings import Settings
from nodeagent.apiserver.protocol import GPU_NODES, PODS, ApiError
from tests.chaos import loop as loops
from tests.chaos import rest
from tests.chaos.cluster import EXTENDER, GPUS, NODE_NAMES, REPLICAS, ROOMY, Cluster
from tests.chaos.events import Event
from tests.chaos.happenings import happen
from tests.chaos.loop import SeededLoop
from tests.chaos.orders import applying
from tests.chaos.thrift import thrifty

SETTLED_WITHIN_SECONDS = 150.0
LOOKED_AT_EVERY_SECONDS = 3.0

WitnessOf = Callable[[Settings], Witness]
"""Makes the witness of an extender that begins with these settings."""


class Outcome(msgspec.Struct, frozen=True):
    """How a history ended: what was *broken*, and how much there was of it.

    ``happened`` counts events by kind, ``struck`` calls of the API server by what befell them;
    ``gangs`` are those of which a first member was bound; ``followed`` counts the pods bound where
    a joint plan had put them, ``evicted`` those evicted, ``preempted`` those that got their place;
    ``orders`` are those of moves that were given, ``moved`` the moves of them that were made.
    """

    seed: int
    broken: tuple[str, ...]
    api_calls: int = 0
    binds: int = 0
    inherited: int = 0
    gangs: int = 0
    followed: int = 0
    evicted: int = 0
    preempted: int = 0
    orders: int = 0
    moved: int = 0
    seconds: float = 0.0
    happened: Mapping[str, int] = {}
    struck: Mapping[str, int] = {}


def tell(
    seed: int,
    events: Sequence[Event],
    *,
    tidy: bool = True,
    ranked: bool = False,
    witness: WitnessOf | None = None,
    moving: bool = False,
) -> Outcome:
    """Let *events* happen, then let all come to rest; the same arguments, the same outcome.

    Where pods are *ranked*, some are evicted for others; where it is *moving*, VMs are moved. Each
    extender has a *witness*. For *tidy* see :func:`tests.chaos.loop.run`.
    """
    random.seed(seed)  # the code's own jitter
    chance = random.Random(f"order {seed}")
    with thrifty():
        work = partial(
            _told,
            chance=chance,
            seed=seed,
            events=events,
            ranked=ranked,
            witness=witness,
            moving=moving,
        )
        return loops.run(work, chance, tidy=tidy)


async def _told(
    loop: SeededLoop,
    chance: random.Random,
    seed: int,
    events: Iterable[Event],
    *,
    ranked: bool,
    witness: WitnessOf | None,
    moving: bool,
) -> Outcome:
    settings = _hurried(chance)
    policy = applying(settings.plan_solve_seconds) if moving else None
    cluster = Cluster(
        loop,
        chance,
        settings=settings,
        gpus=ROOMY if moving else GPUS,
        ranked=ranked,
        witness=lambda: None if witness is None else witness(settings),
        policy=policy,
    )
    await cluster.start()
    await asyncio.sleep(5.0)
    for event in events:
        await asyncio.sleep(event.after)
        await happen(cluster, event)
        if cluster.judge.violations:
            break
    await cluster.heal()
    left: list[str] = []
    if not cluster.judge.violations:
        left = await _at_rest(cluster)
    if not cluster.judge.violations and not left:
        await _plans_are_deleted(cluster)
        left = await _at_rest(cluster)
    if not cluster.judge.violations and not left:
        await _all_leave(cluster)
        left = await _at_rest(cluster)
    return Outcome(
        seed,
        (*cluster.judge.violations, *(f"in the end: {each}" for each in left)),
        cluster.network.calls,
        cluster.scheduler.binds,
        cluster.judge.holds.inherited,
        cluster.judge.gangs.begun,
        cluster.scheduler.followed,
        cluster.judge.claims.evicted,
        cluster.judge.claims.served,
        cluster.judge.moves.orders,
        cluster.judge.moves.made,
        loop.time(),
        dict(cluster.happened),
        dict(cluster.network.strikes),
    )


def _hurried(chance: random.Random) -> Settings:
    """Return settings that leave the solver no time in every other history: plans are greedy."""
    seconds = chance.choice((EXTENDER.plan_solve_seconds, 0.0))
    return msgspec.structs.replace(EXTENDER, plan_solve_seconds=seconds)


async def _at_rest(cluster: Cluster) -> list[str]:
    """Wait until all is as it should be; return what is not when the time is up."""
    for name in NODE_NAMES:
        cluster.loop.spawn_outside(cluster.restart_agent(name, 1.0))
    for name in REPLICAS:
        cluster.loop.spawn_outside(cluster.restart_extender(name, 1.0))
    ends = cluster.loop.time() + SETTLED_WITHIN_SECONDS
    while cluster.loop.time() < ends:
        await asyncio.sleep(LOOKED_AT_EVERY_SECONDS)
        if cluster.judge.violations:
            return []
        if not cluster.scheduler.busy and not any(rest.unsettled(cluster.judge)):
            return []
    return list(rest.unsettled(cluster.judge))


async def _plans_are_deleted(cluster: Cluster) -> None:
    """Delete every GpuNode by hand: what runs must come to be planned again."""
    for name in NODE_NAMES:
        with contextlib.suppress(ApiError):
            await cluster.api.delete(GPU_NODES, name)


async def _all_leave(cluster: Cluster) -> None:
    """Delete every pod: nothing of theirs may be left behind."""
    for pod in tuple(cluster.judge.pods.values()):
        with contextlib.suppress(ApiError):
            await cluster.api.delete(PODS, pod.name, namespace="default", uid=pod.uid)
