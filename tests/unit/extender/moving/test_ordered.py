"""Orders of moves over HTTP: who may give one, look at it and stop it, and what they are told."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
import pytest

from extender.cli.underway import progress
from extender.moving.document import HIDDEN, Stage, Underway
from extender.server import desk
from extender.service.reviewer import Access
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import CONFIG_MAPS, Refused, Throttled
from tests.fakes.kubelets import Kubelets
from tests.fakes.machines import Machines
from tests.fakes.world import World
from tests.unit.extender.moving.orders import NODES, applying, events, kept, over, running
from tests.waiting import until

MOVES = "/api/v1/moves"
UNDER_WAY = "/api/v1/moves/under-way"
DRAIN = {"drain": ["node-1"]}


class Users:
    """``ops`` may move, and see all; ``sre`` may list GpuNodes and get pods nowhere."""

    async def may_get(self, token: str, path: str) -> Access:
        return Access.ALLOWED

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        return Access.ALLOWED if token == "ops" else Access.FORBIDDEN

    async def may_get_pods(self, token: str, namespace: str) -> Access:
        return await self.may_list_pods(token, namespace)

    async def may_list_gpu_nodes(self, token: str) -> Access:
        return Access.ALLOWED if token else Access.UNKNOWN

    async def may_move(self, token: str) -> Access:
        if not token:
            return Access.UNKNOWN
        return Access.ALLOWED if token == "ops" else Access.FORBIDDEN

    async def who(self, token: str) -> str:
        return token


async def ask(
    url: str, method: str, path: str, body: object = None, *, token: str = "ops", **headers: str
) -> tuple[int, bytes]:
    shown = {"Authorization": f"Bearer {token}"} if token else {}
    said = None if body is None else msgspec.json.encode(body)
    typed = {} if body is None else {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as http,
        http.request(
            method, f"{url}{path}", data=said, headers={**shown, **typed, **headers}
        ) as answer,
    ):
        return answer.status, await answer.read()


async def planned(url: str, query: str = "drain=node-1") -> dict[str, Any]:
    status, body = await ask(url, "GET", f"{MOVES}?{query}")
    assert status == 200, body
    said: dict[str, Any] = msgspec.json.decode(body)
    return said


async def under_way(url: str, token: str = "ops") -> Underway:
    status, body = await ask(url, "GET", UNDER_WAY, token=token)
    assert status == 200, body
    return msgspec.json.decode(body, type=Underway)


async def test_the_plan_that_was_looked_at_is_applied_and_followed_to_its_end(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender, desk(extender, reviewer=Users()) as url:
        assert await under_way(url) == Underway()
        await machines.place(extender, "a", "1-10C", "node-1")
        async with machines.running(extender, NODES):
            plan = await planned(url)
            body = {"goals": DRAIN, "digest": plan["digest"]}
            status, said = await ask(url, "POST", MOVES, body)
            given = msgspec.json.decode(said, type=Underway)
            await over(world)
            ended = await under_way(url)

    assert (status, given.over, given.goals) == (200, False, ("drain node-1",))
    (move,) = given.moves
    assert (move.vm.name, move.source.node, move.target.node) == ("a", "node-1", "node-2")
    assert (ended.over, ended.outcome, ended.moves[0].stage) == (True, "done", Stage.MADE)
    assert ended.moves[0].how == "eviction"
    assert (given.by, ended.by) == ("ops", "ops")
    assert f"Order {ended.order} of {ended.since} by ops, to drain" in str(next(progress(ended)))
    ((_, text), *_) = await events(world, "VgpuMoving")
    assert text.startswith("vGPU: moved to make room, as ops wants, by eviction")


async def test_whoever_may_only_look_is_told_of_no_vm_they_may_not_know(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender, desk(extender, reviewer=Users()) as url:
        await machines.place(extender, "a", "1-10C", "node-1")
        async with machines.running(extender, NODES):
            plan = await planned(url)
            await ask(url, "POST", MOVES, {"goals": DRAIN, "digest": plan["digest"]})
            await over(world)
            seen = await under_way(url, "sre")

    assert seen.goals == ()
    assert [each.vm.name for each in seen.moves] == [""]
    assert seen.moves[0].target.node == "node-2"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", MOVES), ("DELETE", UNDER_WAY)], ids=["give", "stop"]
)
async def test_only_who_may_move_gives_orders_and_stops_them(
    world: World, method: str, path: str
) -> None:
    body = {"goals": DRAIN, "digest": "d"}
    async with running(world) as extender, desk(extender, reviewer=Users()) as url:
        nobody, _ = await ask(url, method, path, body, token="")
        forbidden, text = await ask(url, method, path, body, token="sre")
        looks, _ = await ask(url, "GET", UNDER_WAY, token="")

    assert (nobody, forbidden, looks) == (401, 403, 401)
    assert b"move gpunodes.tangram.dev" in text
    assert await kept(world) is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"goals": {}, "digest": "d"}, b"no goal is given"),
        ({"goals": {"headroom": ["many"]}, "digest": "d"}, b"COUNTxPROFILE"),
        ({"goals": DRAIN}, b"digest"),
        ({"goals": DRAIN, "digest": "d", "force": True}, b"force"),
        ([], b"object"),
    ],
)
async def test_what_cannot_be_read_is_refused(world: World, body: object, says: bytes) -> None:
    async with running(world) as extender, desk(extender, reviewer=None) as url:
        status, text = await ask(url, "POST", MOVES, body)

    assert status == 400
    assert says in text


async def test_a_form_of_another_site_gives_no_order(world: World) -> None:
    body = {"goals": DRAIN, "digest": "d"}
    async with running(world) as extender, desk(extender, reviewer=None) as url:
        status, _ = await ask(url, "POST", MOVES, body, **{"Content-Type": "text/plain"})

    assert status == 415


async def test_another_plan_than_the_one_looked_at_is_refused_in_words(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender, desk(extender, reviewer=Users()) as url:
        await machines.place(extender, "a", "1-10C", "node-1")
        status, text = await ask(url, "POST", MOVES, {"goals": DRAIN, "digest": "old"})

    assert (status, b"another one by now" in text) == (409, True)


async def test_an_order_is_stopped(world: World, machines: Machines) -> None:
    asked: list[str] = []

    async def refuse(call: Call) -> None:
        if call.subresource == "eviction" and not call.dry_run:
            asked.append(call.name)
            raise Throttled(429, "its budget allows no more")

    async with running(world) as extender, desk(extender, reviewer=Users()) as url:
        for name in ("a", "b"):
            await machines.place(extender, name, "1-10C", "node-1")
        plan = await planned(url)
        world.api.disturbance = refuse
        await ask(url, "POST", MOVES, {"goals": DRAIN, "digest": plan["digest"]})

        async def began() -> bool:
            stages = [each.stage for each in (await under_way(url)).moves]
            return bool(asked) and Stage.UNDER_WAY in stages

        await until(began)
        status, said = await ask(url, "DELETE", UNDER_WAY)
        world.api.disturbance = None
        async with machines.running(extender, NODES):
            await over(world)
        ended = await under_way(url)

    stopped = msgspec.json.decode(said, type=Underway)
    assert (status, stopped.stopping) == (200, "ops has stopped it")
    assert (ended.outcome, ended.why) == ("stopped", "ops has stopped it")
    assert [each.stage for each in ended.moves] == [Stage.NOT_MADE, Stage.NOT_MADE]


async def test_it_is_told_why_an_order_waits(world: World, machines: Machines) -> None:
    async with running(world) as extender, desk(extender, reviewer=Users()) as url:
        await machines.place(extender, "a", "1-10C", "node-1")
        plan = await planned(url)
        await ask(url, "POST", MOVES, {"goals": DRAIN, "digest": plan["digest"]})
        before = await under_way(url)
        extender.knowledge.adopt(applying(paused=True))
        paused = await under_way(url)
        extender.knowledge.adopt(applying())
        async with machines.running(extender, NODES):
            await over(world)
        ended = await under_way(url)

    assert [each.waiting for each in (before, paused, ended)] == [
        "",
        "the policy's moves.paused is true",
        "",
    ]
    said = " ".join(str(each) for each in progress(paused))
    assert "waiting, 0 of 1 moves made: the policy's moves.paused is true" in said


async def test_it_is_told_what_holds_a_vm_up_where_it_went_to_who_may_know_of_it(
    world: World, machines: Machines
) -> None:
    kubelets = Kubelets(world.api)
    ran = running(world, kubelets=kubelets)
    async with ran as extender, desk(extender, reviewer=Users()) as url:
        await machines.place(extender, "a", "1-10C", "node-1")
        await until(lambda: not extender.knowledge.unready)
        kubelets.waiting = {"a-2": "ErrImagePull"}
        plan = await planned(url)
        await ask(url, "POST", MOVES, {"goals": DRAIN, "digest": plan["digest"]})
        async with machines.running(extender, NODES):
            await until(lambda: extender.knowledge.unready)

            async def held() -> bool:
                return bool((await under_way(url)).held)

            await until(held)
            during, sre = await under_way(url), await under_way(url, "sre")
            extender.knowledge.adopt(applying(paused=True))
            paused = await under_way(url)
            extender.knowledge.adopt(applying())
            kubelets.waiting = {}
            await kubelets.tell()
            await over(world)
        ended = await under_way(url)

    why = "the VM's next pod is bound to node-2, and not Ready: containers compute: ErrImagePull"
    assert (during.held, ended.held, ended.outcome) == (why, "", "done")
    assert f"under way, 0 of 1 moves made: {why}" in " ".join(map(str, progress(during)))
    assert sre.held == HIDDEN
    waits = "the policy's moves.paused is true"
    assert (paused.waiting, paused.held) == (waits, why)
    said = " ".join(map(str, progress(paused)))
    assert f"waiting, 0 of 1 moves made: {waits}; {why}" in said


async def test_without_leave_to_keep_an_order_it_is_told_why_and_nobody_is_moved(
    world: World, machines: Machines
) -> None:
    """As where ``components/moves`` is not part of the overlay."""

    async def forbid(call: Call) -> None:
        if call.kind == CONFIG_MAPS and call.verb != "get":
            raise Refused(403, "configmaps is forbidden")

    async with running(world) as extender, desk(extender, reviewer=Users()) as url:
        await machines.place(extender, "a", "1-10C", "node-1")
        plan = await planned(url)
        world.api.disturbance = forbid
        answer = await ask(url, "POST", MOVES, {"goals": DRAIN, "digest": plan["digest"]})

    why = "the API server has not done it: 403: configmaps is forbidden; see what is under way\n"
    assert answer == (503, why.encode())
    assert await kept(world) is None


async def test_a_replica_that_does_not_lead_takes_no_orders(world: World) -> None:
    async with running(world) as extender, desk(extender, reviewer=None) as url:
        extender.knowledge.tenure.end()
        given, _ = await ask(url, "POST", MOVES, {"goals": DRAIN, "digest": "d"})
        stopped, _ = await ask(url, "DELETE", UNDER_WAY)

    assert (given, stopped) == (503, 503)


def test_of_an_order_that_is_being_stopped_it_is_told_what_holds_its_vm_up() -> None:
    said = Underway(order="0123456789ab", stopping="ops has stopped it", held="it is not Ready")

    lines = " ".join(map(str, progress(said)))
    assert "stopping, 0 of 0 moves made: ops has stopped it; it is not Ready" in lines
