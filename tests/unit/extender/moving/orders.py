"""Orders of moves given in tests, and what is asked about them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import msgspec

from extender.advice import Asked
from extender.moving import Order
from extender.policy import InForce, PolicyName
from extender.policy.moving import Mode
from extender.policy.moving import Moving as Rules
from extender.service import Service
from extender.settings import Settings
from nodeagent.api import keys
from nodeagent.apiserver.protocol import CONFIG_MAPS, EVENTS, ApiServer, NotFound
from tests.fakes.kubelets import Kubelets
from tests.fakes.world import QUICK, World
from tests.waiting import until

NODES = ["node-1", "node-2"]
TICK = 0.02  # seconds between two looks: at every millisecond, looking is most of a test's work
PATIENT = msgspec.structs.replace(QUICK, restart_hold_seconds=60.0)


def applying(**fields: Any) -> InForce:
    """Return a policy by which moves are made; *fields* are the rules'."""
    rules = Rules(**{"mode": Mode.APPLY, "per_hour": 1000, **fields})
    return msgspec.structs.replace(InForce.of(PolicyName.DEFAULT), moving=rules)


@contextlib.asynccontextmanager
async def running(
    world: World,
    settings: Settings = PATIENT,
    policy: InForce | None = None,
    *,
    api: ApiServer | None = None,
    clock: Callable[[], float] | None = None,
    kubelets: Kubelets | None = None,
) -> AsyncIterator[Service]:
    async with (
        world.extender(settings, policy or applying(), api=api, clock=clock) as extender,
        world.obedient(*NODES),
        (kubelets or Kubelets(world.api)).running(),
    ):
        yield extender


async def applied(extender: Service, asked: Asked) -> Order:
    """Look at a plan, and have it carried out."""
    advice = await extender.advisor.advise(asked)
    assert advice.attains, advice.obstacles
    assert extender.ordering is not None
    return await extender.ordering.apply(asked, advice.digest)


async def kept(world: World) -> Order | None:
    """Return the order as it is kept."""
    try:
        raw = await world.api.get(
            CONFIG_MAPS, keys.ORDER_CONFIG_MAP, namespace=keys.SYSTEM_NAMESPACE
        )
    except NotFound:
        return None
    text = msgspec.json.decode(raw)["data"]["order.json"]
    return msgspec.json.decode(text, type=Order)


async def over(world: World) -> Order:
    """Wait until the order is over, and return it."""

    async def ended() -> bool:
        order = await kept(world)
        return order is not None and order.over

    await until(ended, every=TICK)
    order = await kept(world)
    assert order is not None
    return order


async def held(world: World) -> Collection[str]:
    """Return the ids of all that is held for orders."""
    return [
        each.id
        for node in NODES
        for each in (await world.gpu_node(node)).spec.assignments
        if each.id.startswith(keys.MOVE_PREFIX)
    ]


async def events(world: World, reason: str) -> list[tuple[str, str]]:
    """Return what Events are about, with their messages."""
    found = [msgspec.json.decode(raw) for raw in (await world.api.list(EVENTS)).items]
    return [(e["involvedObject"]["name"], e["message"]) for e in found if e["reason"] == reason]
