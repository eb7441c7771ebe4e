"""One line for each decision: which pod, by which policy, and how long it took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from extender.server import serving
from extender.service import Service
from nodeagent.api import keys
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import GPU_NODES, Unavailable
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

WHO = {"pod", "namespace", "uid", "policy_version"}
ABOUT = WHO | {"seconds"}

Lines = Sequence[Any]


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


@pytest.fixture
async def extender(world: World) -> AsyncIterator[Service]:
    async with world.extender() as extender:
        yield extender


async def ask(service: Service, verb: str, body: object) -> Any:
    async with (
        serving(service) as url,
        aiohttp.ClientSession() as http,
        http.post(f"{url}/{verb}", data=msgspec.json.encode(body)) as answer,
    ):
        answer.raise_for_status()
        return msgspec.json.decode(await answer.read())


def told(lines: Lines, event: str) -> dict[str, Any]:
    (found,) = (dict(line) for line in lines if line["event"] == event)
    return found


async def test_each_hook_tells_whom_it_decided_about(world: World, extender: Service) -> None:
    pod = await world.add_pod("vm", "3-40C")
    args = {"Pod": pod, "NodeNames": ["node-1", "elsewhere"]}
    with capture_logs() as lines:
        await ask(extender, "filter", args)
        await ask(extender, "prioritize", args)
        await ask(extender, "preempt", {"Pod": pod, "NodeNameToMetaVictims": {}})

    answered = told(lines, "filter_answered")
    assert (answered["passed"], answered["refused"]) == (1, 1)
    assert told(lines, "prioritize_answered")["winner"] == "node-1"
    for verb in ("filter", "prioritize", "preempt"):
        line = told(lines, f"{verb}_answered")
        assert line.keys() >= ABOUT
        assert line["uid"] == pod["metadata"]["uid"]
        assert line["policy_version"] == extender.knowledge.in_force.version


async def test_a_bind_tells_what_it_chose_and_how_it_ended(world: World, extender: Service) -> None:
    pod = await world.add_pod("vm", "3-40C")
    extender.hooks.filter(filter_args(pod, "node-1"))
    with capture_logs() as lines:
        async with world.obedient("node-1"):
            assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""

    chosen, bound = told(lines, "place_chosen"), told(lines, "pod_bound")
    assert chosen.keys() >= ABOUT
    assert bound.keys() >= ABOUT
    assert chosen["uid"] == bound["uid"] == pod["metadata"]["uid"]
    assert bound["seconds"] >= chosen["seconds"] >= 0
    (decision,) = await world.decision("vm")
    assert decision.policy_version == bound["policy_version"] == chosen["policy_version"]


async def test_a_bind_that_fails_tells_why(world: World, extender: Service) -> None:
    pod = await world.add_pod("vm", "3-40C")
    extender.hooks.filter(filter_args(pod, "node-1"))
    with capture_logs() as lines:
        await extender.binder.bind(bind_args(pod, "elsewhere"))

    failed = told(lines, "bind_failed")
    assert failed.keys() >= ABOUT | {"reason"}
    assert failed["node"] == "elsewhere"


async def test_a_refusal_is_told_when_it_is_news_and_not_each_time_it_is_repeated(
    world: World, extender: Service
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    with capture_logs() as lines:
        for _ in range(3):
            extender.hooks.filter(filter_args(pod, "elsewhere"))
        first = told(lines, "pod_refused")
        extender.knowledge.node("node-1", cordoned=True)
        extender.hooks.filter(filter_args(pod, "node-1"))

    assert first.keys() >= ABOUT
    assert first["seconds"] >= 0
    assert first["codes"] == ["no-inventory"]
    refusals = [line for line in lines if line["event"] == "pod_refused"]
    assert [line["codes"] for line in refusals] == [["no-inventory"], ["cordoned"]]


async def test_a_bind_that_the_api_server_does_not_carry_out_is_told_as_unfinished(
    world: World, extender: Service
) -> None:
    pod = await world.add_pod("vm", "3-40C")
    extender.hooks.filter(filter_args(pod, "node-1"))
    world.api.disturbance = unavailable
    with capture_logs() as lines:
        assert (await extender.binder.bind(bind_args(pod, "node-1"))).error

    unfinished = told(lines, "bind_unfinished")
    assert unfinished.keys() >= ABOUT | {"node", "error"}
    assert unfinished["seconds"] >= 0


async def unavailable(call: Call) -> None:
    if call.kind == GPU_NODES:
        raise Unavailable(503, "etcd is away")


async def test_a_gang_that_is_refused_is_told_with_the_time_its_plan_took(world: World) -> None:
    settings = msgspec.structs.replace(QUICK, plan_settle_seconds=0.001)
    gang = {keys.GANG: "g", keys.GANG_SIZE: "2"}
    async with world.extender(settings) as extender:
        with capture_logs() as lines:
            pods = [
                await world.add_pod(f"vm-{at}", "7-80C", "7-80C", annotations=gang)
                for at in range(2)
            ]
            for pod in pods:
                extender.hooks.filter(filter_args(pod, "node-1"))
            await until(lambda: extender.knowledge.enlisted.no_room)
        version = extender.knowledge.in_force.version

    refused = next(line for line in lines if line["event"] == "gang_refused")
    assert refused.keys() >= {"namespace", "gang", "members", "reason", "uids"}
    assert refused["uids"] == [pod["metadata"]["uid"] for pod in pods]
    assert (refused["policy_version"], refused["seconds"] >= 0) == (version, True)


async def test_events_have_stable_names_and_facts_for_fields(
    world: World, extender: Service
) -> None:
    pod = await world.add_pod("vm", "3-40C")
    with capture_logs() as lines:
        async with world.obedient("node-1"):
            extender.hooks.filter(filter_args(pod, "node-1"))
            await asyncio.sleep(0)
            await extender.binder.bind(bind_args(pod, "node-1"))

    assert lines
    assert all(line["event"].replace("_", "").isalpha() for line in lines)
    rendered = [structlog.processors.JSONRenderer()(None, "", dict(line)) for line in lines]
    assert all(msgspec.json.decode(line)["event"] for line in rendered)
