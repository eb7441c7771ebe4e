"""Orders of moves: given, stopped, and kept from going on by a policy that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from extender.advice import Asked
from extender.policy import InForce, Policy, PolicyName
from extender.policy.moving import Mode, Moving
from extender.policy.windows import Day, Window
from extender.service import Service
from extender.service.ordering import NotApplied
from extender.service.ports import ClusterUnavailable
from extender.service.relocation import OrderChanged
from tests.chaos.cluster import NODE_NAMES, Cluster
from tests.chaos.events import Event
from tests.chaos.scheduler import Extender

GOALS_LOOKED_AT = 3
LOOKS_SECONDS = 2.0  # at a plan, at most, before it is applied
THINK_BETTER = 3  # one order of so many is stopped, or forbidden, soon after it was given
AT_ONCE_SECONDS = 1.5
ANSWERED_WITHIN_SECONDS = 20.0
ANYWAY = 0.4  # how often an order is asked for beside another
PROFILES = ("7g.80gb", "4g.40gb", "3g.40gb", "2g.20gb")
REFUSALS = (NotApplied, ClusterUnavailable, OrderChanged, TimeoutError)


def applying(seconds: float) -> InForce:
    """Return the policy by which moves are made; queues are planned for so many seconds."""
    policy = Policy(PolicyName.DEFAULT, plan_seconds=seconds)
    return msgspec.structs.replace(
        InForce.of(policy), moving=Moving(mode=Mode.APPLY, per_hour=10_000)
    )


def restrained(policy: InForce, who: int) -> InForce:
    """Return a policy by which no move is begun for now, or hardly any."""
    rules = (
        Moving(mode=Mode.ADVISE),
        Moving(mode=Mode.APPLY, paused=True),
        Moving(mode=Mode.APPLY, windows=(Window(days=(Day.SUNDAY,)),)),  # it is a Thursday
        Moving(mode=Mode.APPLY, per_hour=1),
    )
    return msgspec.structs.replace(policy, moving=rules[who % len(rules)])


async def order(cluster: Cluster, event: Event) -> None:
    """Have a plan for a goal made and applied, which takes somebody a moment to decide.

    Where nobody would be moved for the goal, it is another's turn. Now and then somebody thinks
    better of it at once.
    """
    before = cluster.judge.moves.orders
    under_way = cluster.judge.moves.under_way
    if under_way and event.much >= ANYWAY:
        return

    async def apply(service: Service) -> None:
        assert service.ordering is not None  # there is an evictor, and where orders are kept
        for turn in range(GOALS_LOOKED_AT):
            asked = _asked(cluster, event.who + 9 * turn)
            advice = await service.advisor.advise(asked)
            if advice.attains and advice.moves:
                await asyncio.sleep(LOOKS_SECONDS * event.much**3)
                await service.ordering.apply(asked, advice.digest, by="somebody")
                return

    await _answered(cluster, apply)
    if cluster.judge.moves.orders > before and event.who % THINK_BETTER == 0:
        await asyncio.sleep(AT_ONCE_SECONDS * event.much)
        await (stop(cluster) if event.who % 2 else restrain(cluster, event))


async def stop(cluster: Cluster) -> None:
    """Have the order under way stopped."""

    async def stop(service: Service) -> None:
        assert service.moving is not None
        await service.moving.stop("somebody has stopped it")

    await _answered(cluster, stop)


async def restrain(cluster: Cluster, event: Event) -> None:
    """Change the policy, and change it back after a while."""
    cluster.obey(restrained(cluster.policy, event.who))
    await asyncio.sleep(event.seconds)
    cluster.obey(applying(cluster.policy.policy.plan_seconds))


def _asked(cluster: Cluster, number: int) -> Asked:
    waiting = [pod for pod in cluster.judge.pods.values() if not pod.node and pod.alive]
    who = number // 8
    match number % 8:
        case 0 | 1 if waiting:
            return Asked(admit=(("default", waiting[who % len(waiting)].name),))
        case 0:
            return Asked(empty_gpus=1 + who % 3)
        case 1:
            return Asked(headroom=((PROFILES[who % len(PROFILES)], 1),))
        case 2 | 3:
            return Asked(drain=(NODE_NAMES[who % len(NODE_NAMES)],))
        case _:
            return Asked(drain_gpus=(_gpu_in_use(cluster, who),))


def _gpu_in_use(cluster: Cluster, who: int) -> str:
    """Return a GPU on which a pod of one vGPU runs, any where there is none."""
    pods = cluster.judge.pods.values()
    running = [pod for pod in pods if pod.phase == "Running" and pod.alive and not pod.gang]
    used = [pod.decisions[0].gpu for pod in running if len(pod.decisions) == 1]
    return used[who % len(used)] if used else cluster.gpu(who)[1].uuid


async def _answered(
    cluster: Cluster, question: Callable[[Service], Coroutine[Any, Any, None]]
) -> None:
    """Ask whoever leads; nobody waits for an answer for ever."""
    leads = _leader(cluster)
    if leads is None:
        return
    task = cluster.loop.spawn(leads.process, question(leads.replica.service))
    done, _ = await asyncio.wait([task], timeout=ANSWERED_WITHIN_SECONDS)
    error = task.exception() if done else None
    if error is not None and not isinstance(error, REFUSALS):
        cluster.judge.crashed(leads.process, error)


def _leader(cluster: Cluster) -> Extender | None:
    there, holder = cluster.extenders.values(), cluster.judge.leads.holder
    found = next((each for each in there if repr(each.process) == holder), None)
    return found if found is not None and found.process.alive else None
