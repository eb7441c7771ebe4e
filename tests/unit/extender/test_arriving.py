"""Pods that are bound, in no plan, and may be given by their kubelets what is made for others."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from extender.request import NotOurs, Request
from extender.service.arriving import Arriving
from extender.service.ports import PodFacts
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.protocol import PODS, PatchType
from tests.fakes.world import QUICK, World, bind_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


async def bound(world: World, name: str) -> dict[str, Any]:
    """Bind a pod to node-1 as somebody does who asks no extender."""
    made = await world.add_pod(name, "1-10C")
    binding = {"metadata": {"name": name}, "target": {"name": "node-1"}}
    await world.api.create(PODS, binding, namespace="default", name=name, subresource="binding")
    return made


async def changed(world: World, name: str, phase: str) -> None:
    await world.api.patch(
        PODS,
        name,
        {"status": {"phase": phase}},
        patch_type=PatchType.MERGE,
        namespace="default",
        subresource="status",
    )


@pytest.mark.parametrize("end", ["Running", "Failed"])
async def test_nothing_is_placed_on_a_node_while_one_that_is_in_no_plan_is_on_its_way_there(
    world: World, end: str
) -> None:
    await bound(world, "stranger")
    mine = await world.add_pod("mine", "1-10C")
    async with world.extender() as extender, world.obedient("node-1"):
        answer = await extender.binder.bind(bind_args(mine, "node-1"))
        assert "no plan knows" in answer.error
        assert (await world.gpu_node("node-1")).spec.assignments == ()

        await changed(world, "stranger", end)
        await until(lambda: not [*extender.knowledge.arriving.on("node-1", within=60.0)])
        assert (await extender.binder.bind(bind_args(mine, "node-1"))).error == ""


async def test_it_holds_nobody_up_for_longer_than_a_reservation_lasts(world: World) -> None:
    await bound(world, "stranger")
    mine = await world.add_pod("mine", "1-10C")
    settings = msgspec.structs.replace(QUICK, reservation_seconds=1.0)
    async with world.extender(settings) as extender, world.obedient("node-1"):
        await asyncio.sleep(1.0)
        assert (await extender.binder.bind(bind_args(mine, "node-1"))).error == ""


def test_those_are_arriving_that_are_bound_ask_for_something_of_ours_and_have_yet_to_run() -> None:
    now = 0.0
    arriving = Arriving(lambda: now)
    ref = PodRef("default", "vm", "u")
    facts = PodFacts(ref, Request(ref, ("1-10C",)), node="a", phase="Pending")

    def on(node: str) -> list[str]:
        return [*arriving.on(node, within=10.0)]

    arriving.seen(msgspec.structs.replace(facts, node=""))
    assert on("a") == []
    arriving.seen(facts)
    assert on("a") == ["u"]
    now = 9.0
    arriving.seen(facts)
    assert on("a") == ["u"]
    now = 10.0
    assert on("a") == [], "counted from when it was seen first"

    arriving.seen(msgspec.structs.replace(facts, node="b"))
    assert (on("a"), on("b")) == ([], ["u"])
    for change in ({"phase": "Running"}, {"deleting": True}, {"node": ""}, {"asked": NotOurs(ref)}):
        arriving.seen(facts)
        assert on("a") == ["u"]
        arriving.seen(msgspec.structs.replace(facts, **change))
        assert on("a") == []
    arriving.seen(facts)
    arriving.gone("u")
    assert on("a") == []
