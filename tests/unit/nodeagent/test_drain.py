"""How an agent ends without leaving a pod alone on its way in."""

from __future__ import annotations

import asyncio

import msgspec

from tests.unit.nodeagent.builders import SMALL, assignment
from tests.unit.nodeagent.station import EAGER, Station


async def test_an_agent_told_to_end_waits_until_the_tied_pod_has_its_slot(
    station: Station,
) -> None:
    pod = await station.create_pod("a", {SMALL: 1})
    async with station.serving():
        await station.plan(assignment("a", station.gpu, of=pod))
        await station.until_realized("a")
        draining = asyncio.create_task(station.agent.drain())
        await station.settle()
        assert not draining.done()

        await station.bind_pod("a")
        async with asyncio.timeout(10):
            await draining
        assert (await station.pod("a"))["status"]["phase"] in ("Pending", "Running")
        assert station.checkpoint.claims


async def test_a_tied_pod_that_leaves_the_plan_is_not_waited_for(station: Station) -> None:
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        draining = asyncio.create_task(station.agent.drain())
        await station.plan()
        async with asyncio.timeout(10):
            await draining
        assert (await station.status()).realized == ()  # and that was told


async def test_an_agent_that_ends_begins_nothing_new(station: Station) -> None:
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))
        async with asyncio.timeout(10):
            await station.agent.drain()
        await station.plan(assignment("a", station.gpu))
        await station.settle()
        assert not station.hardware.gpus[0].instances
        assert (await station.status()).failed == ()

    async with station.serving():
        await station.until_realized("a")


async def test_a_pod_that_never_comes_is_not_waited_for_without_end(station: Station) -> None:
    settings = msgspec.structs.replace(EAGER, drain_seconds=0.01)
    async with station.serving(settings):
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        async with asyncio.timeout(10):
            await station.agent.drain()
        assert [each.id for each in (await station.status()).realized] == ["a"]


async def test_an_agent_without_a_gpunode_ends_at_once() -> None:
    station = Station()
    async with station.serving(), asyncio.timeout(10):
        await station.agent.drain()
