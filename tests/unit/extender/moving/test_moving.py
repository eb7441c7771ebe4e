"""Orders of moves on a small cluster: VMs come to their places, or all is as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from extender.advice import Asked
from extender.advice.yard import OFF_WITH_ITS_DEVICE
from extender.moving import Outcome
from extender.moving.course import NOT_COME
from extender.moving.order import GONE
from extender.policy import InForce, PolicyName
from extender.policy.moving import Mode
from extender.policy.moving import Moving as Rules
from extender.policy.windows import Day, Window
from extender.service import Service
from extender.service.ordering import NotApplied
from extender.service.ports import ClusterUnavailable
from nodeagent.api import keys
from nodeagent.api.gpunode import Mode as NodeMode
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    CONFIG_MAPS,
    PODS,
    VIRTUAL_MACHINES,
    PatchType,
    Throttled,
    Unavailable,
)
from nodeagent.apiserver.protocol import NODES as NODE
from tests.fakes.ahead import Ahead
from tests.fakes.kubelets import Kubelets
from tests.fakes.machines import VMI, Machines
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import World
from tests.unit.extender.moving.orders import (
    NODES,
    PATIENT,
    applied,
    applying,
    events,
    held,
    kept,
    over,
    running,
)
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

ADMIT = Asked(admit=(("default", "whole"),))
DRAIN = Asked(drain=("node-1",))
TELLS_WHY = "`tangram defrag status` tells why"


async def test_a_pod_is_admitted_by_the_move_that_makes_room(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        await machines.place(extender, "small", "1-10C", "node-1")
        await machines.place(extender, "half", "4-40C", "node-2")
        await machines.add("whole", "7-80C")
        async with machines.running(extender, NODES):
            await until(lambda: extender.knowledge.pending.waiting)
            await applied(extender, ADMIT)
            order = await over(world)
            told = extender.knowledge.work.registry.get_sample_value

            kinds = {"kind": "eviction", "outcome": "moved"}
            assert told("tangram_moves_total", kinds) == 1
            assert told("tangram_move_orders_total", {"outcome": "done"}) == 1
            assert told("tangram_preemptions_total", {"outcome": "placed"}) == 0
            await until(lambda: bound(machines, "whole", "node-1"))

    assert order.ending is Outcome.DONE
    assert (await machines.on("small"))[0] == "node-2"
    assert await held(world) == []
    ((_, said), *_) = await events(world, "VgpuMoving")
    assert said == "vGPU: moved to make room, by eviction: a place is held on node-2"
    assert "small-2" in dict(await events(world, "VgpuMoved"))


async def bound(machines: Machines, name: str, node: str) -> bool:
    return (await machines.on(name))[0] == node


async def test_a_pod_that_has_gone_has_nobody_moved_for_it(
    world: World, machines: Machines
) -> None:
    async with running(world, policy=applying(per_hour=1)) as extender:
        for name in ("small", "other"):
            await machines.place(extender, name, "1-10C", "node-1")
        stays = {keys.MOVABLE: "false"}
        await machines.place(extender, "half", "4-40C", "node-2", annotations=stays)
        whole = await world.add_pod("whole", "7-80C")
        scheduler = Scheduler(extender, NODES)
        await until(lambda: whole["metadata"]["uid"] in extender.knowledge.pods)
        assert scheduler.place(whole) == ""
        async with machines.running(extender, NODES):
            await applied(extender, ADMIT)

            async def one_made() -> bool:
                order = await kept(world)
                return order is not None and len(order.made) == 1

            await until(one_made)
            await world.delete_pod(whole)
            order = await over(world)

    assert (order.ending, len(order.made)) == (Outcome.STOPPED, 1)
    assert order.why == "nobody waits any more for the room that was to be made"
    assert await held(world) == []


async def test_a_node_is_drained_each_vm_to_the_place_that_was_planned(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        for name, wanted in (("a", "1-10C"), ("b", "2-20C"), ("c", "1-20C")):
            await machines.place(extender, name, wanted, "node-1")
        async with machines.running(extender, NODES):
            given = await applied(extender, DRAIN)
            order = await over(world)

    assert (order.ending, len(order.made)) == (Outcome.DONE, 3)
    for leg in given.legs:
        seat = leg.target
        assert await machines.on(leg.owner.name) == (seat.node, seat.gpu, seat.start)
    assert (await world.gpu_node("node-1")).spec.assignments == ()


async def test_as_far_as_possible_a_node_is_drained_though_a_vm_stays(
    world: World, machines: Machines
) -> None:
    stays = {keys.MOVABLE: "false"}
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        await machines.place(extender, "b", "2-20C", "node-1", annotations=stays)
        async with machines.running(extender, NODES):
            assert not (await extender.advisor.advise(DRAIN)).attains
            await applied(extender, msgspec.structs.replace(DRAIN, as_far=True))
            order = await over(world)

    assert (order.ending, order.why, len(order.made)) == (Outcome.DONE, "", 1)
    assert order.goals == ("drain node-1 as far as possible",)
    assert [(await machines.on(name))[0] for name in ("a", "b")] == ["node-2", "node-1"]


async def ending(world: World, extender: Service, pod: dict[str, Any]) -> None:
    """Delete a pod that takes its time to end."""
    name, uid, known = pod["metadata"]["name"], pod["metadata"]["uid"], extender.knowledge.pods
    await world.api.delete(PODS, name, namespace="default")
    await until(lambda: known[uid].deleting)


async def gone(world: World, pod: dict[str, Any]) -> None:
    """Let a pod that is ending have ended, as the kubelet says then."""
    await world.api.delete(PODS, pod["metadata"]["name"], namespace="default", grace_seconds=0)


async def test_a_vm_that_its_tenant_restarts_before_its_turn_comes_to_its_place_by_itself(
    world: World, machines: Machines
) -> None:
    """Its pod takes a while to end; what is held for its next one stays held."""
    asked = refusing(world, "a-1", "b-1")
    settings = msgspec.structs.replace(PATIENT, eviction_patience_seconds=600.0)
    async with running(world, settings) as extender:
        for name in ("a", "b"):
            await machines.place(extender, name, "1-10C", "node-1", grace=30)
        given = await applied(extender, DRAIN)
        await until(lambda: asked)
        pods = await machines.pods()
        first, second = (pods[leg.owner.name] for leg in given.legs)
        await ending(world, extender, second)
        await ending(world, extender, first)
        await gone(world, first)
        async with machines.running(extender, NODES):

            async def first_made() -> bool:
                order = await kept(world)
                return order is not None and len(order.made) == 1

            await until(first_made)
            for _ in range(3):
                assert extender.moving is not None
                await extender.moving.step()
            meanwhile = await kept(world)
            await gone(world, second)
            order = await over(world)

    assert meanwhile is not None
    assert (meanwhile.ending, len(meanwhile.made)) == (None, 1)
    assert (order.ending, len(order.made)) == (Outcome.DONE, 2)
    for leg in given.legs:
        seat = leg.target
        assert await machines.on(leg.owner.name) == (seat.node, seat.gpu, seat.start)
    assert await held(world) == []


@pytest.mark.parametrize("then", ["comes", "is deleted", "stays away"])
async def test_a_vm_that_is_between_two_pods_at_its_turn_is_not_taken_for_one_that_is_no_more(
    world: World, machines: Machines, then: str
) -> None:
    """What is held for it would be given back, and it might find no other place."""
    asked = refusing(world, "a-1", "b-1")
    clock, settings = (
        Ahead(),
        msgspec.structs.replace(PATIENT, eviction_patience_seconds=600.0, move_seconds=20.0),
    )
    async with running(world, settings, clock=clock) as extender:
        for name in ("a", "b"):
            await machines.place(extender, name, "1-10C", "node-1")
        given = await applied(extender, DRAIN)
        await until(lambda: asked)
        pods = await machines.pods()
        first, second = (leg.owner.name for leg in given.legs)

        async def next_pod(name: str) -> None:
            pod = await world.add_pod(f"{name}-2", "1-10C", owner=(VMI, name))
            await Scheduler(extender, NODES).until_bound(world, [pod])

        await world.delete_pod(pods[second])
        await until(lambda: not extender.knowledge.assigned.get(pods[second]["metadata"]["uid"]))
        await world.delete_pod(pods[first])
        await next_pod(first)

        async def first_made() -> bool:
            order = await kept(world)
            return order is not None and len(order.made) == 1

        await until(first_made)
        for _ in range(3):
            assert extender.moving is not None
            await extender.moving.step()
        meanwhile, kept_for_it = await kept(world), await held(world)
        if then == "comes":
            await next_pod(second)
        elif then == "is deleted":
            await world.api.delete(VIRTUAL_MACHINES, second, namespace="default")
        else:
            clock.by = 21.0
        order = await over(world)

    assert meanwhile is not None
    assert (meanwhile.ending, len(meanwhile.made)) == (None, 1)
    assert kept_for_it == [given.id_of(1)]
    kinds = [each.kind for each in order.made]
    assert (order.ending, order.why, kinds) == {
        "comes": (Outcome.DONE, "", ["eviction", ""]),
        "is deleted": (Outcome.DONE, "", ["eviction", GONE]),
        "stays away": (Outcome.GIVEN_UP, NOT_COME, ["eviction"]),
    }[then]
    assert await held(world) == []


async def test_a_plan_that_is_another_by_now_is_not_carried_out(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        before = await extender.advisor.advise(DRAIN)
        await machines.place(extender, "b", "1-10C", "node-1")
        assert extender.ordering is not None
        with pytest.raises(NotApplied, match="another one by now"):
            await extender.ordering.apply(DRAIN, before.digest)

    assert await kept(world) is None


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (Rules(), "mode is not apply"),
        (Rules(mode=Mode.APPLY, paused=True), "paused"),
    ],
    ids=["off", "paused"],
)
async def test_nothing_is_moved_unless_the_policy_says_so(
    world: World, machines: Machines, rules: Rules, why: str
) -> None:
    policy = msgspec.structs.replace(InForce.of(PolicyName.DEFAULT), moving=rules)
    async with running(world, policy=policy) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        with pytest.raises(NotApplied, match=why):
            await applied(extender, DRAIN)

    assert await kept(world) is None


async def test_a_vm_whose_device_stays_its_own_is_not_moved(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        for node in NODES:
            status = (await world.gpu_node(node)).status
            await world.report(node, msgspec.structs.replace(status, mode=NodeMode.HARVESTER))
        views = extender.knowledge.views
        await until(lambda: all(views[n].node.status.mode is NodeMode.HARVESTER for n in NODES))
        advice = await extender.advisor.advise(DRAIN)
        assert extender.ordering is not None
        with pytest.raises(NotApplied):
            await extender.ordering.apply(DRAIN, advice.digest)

    assert [each.why for each in advice.obstacles] == [OFF_WITH_ITS_DEVICE]
    assert await kept(world) is None


async def test_one_order_at_a_time_is_carried_out(world: World, machines: Machines) -> None:
    refusing(world, "a-1")
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        await applied(extender, DRAIN)
        await until(lambda: extender.knowledge.holds.moving)
        with pytest.raises(NotApplied):
            await applied(extender, Asked(headroom=(("7g.80gb", 1),)))


def refusing(world: World, *pods: str) -> list[str]:
    """Have the evictions of pods refused once they are asked for; return those that are."""
    asked: list[str] = []

    async def disturb(call: Call) -> None:
        if call.subresource == "eviction" and not call.done and not call.dry_run:
            asked.append(call.name)
            if call.name in pods:
                raise Throttled(429, "its budget allows no more")

    world.api.disturbance = disturb
    return asked


async def test_an_eviction_that_stays_refused_ends_the_order_and_nothing_is_left_behind(
    world: World, machines: Machines
) -> None:
    asked = refusing(world, "a-1")
    settings = msgspec.structs.replace(PATIENT, eviction_patience_seconds=0.0)
    async with running(world, settings) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        async with machines.running(extender, NODES):
            await applied(extender, DRAIN)
            order = await over(world)

    assert order.ending is Outcome.GIVEN_UP
    assert order.why == "its eviction is refused: its budget allows no more"
    assert asked == ["a-1"]
    assert (await machines.on("a"))[0] == "node-1"
    assert await held(world) == []
    assert "a-1" in dict(await events(world, "VgpuMoveGivenUp"))
    assert dict(await events(world, "VgpuMovesEnded")) == {
        "node-1": f"vGPU: the order {order.id} of 1 moves is given up after 0: {TELLS_WHY}"
    }


async def test_a_vm_that_nobody_would_start_again_is_not_stopped(
    world: World, machines: Machines
) -> None:
    """Its owner changes their mind when the order has just been given."""
    evicted: list[str] = []

    async def disturb(call: Call) -> None:
        if (call.verb, call.kind, call.done) == ("create", CONFIG_MAPS, True):
            await world.api.patch(
                VIRTUAL_MACHINES,
                "a",
                {"spec": {"runStrategy": "Manual"}},
                patch_type=PatchType.MERGE,
                namespace="default",
            )
        elif call.subresource == "eviction" and not call.dry_run:
            evicted.append(call.name)

    world.api.disturbance = disturb
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        async with machines.running(extender, NODES):
            await applied(extender, DRAIN)
            order = await over(world)

    assert (order.ending, evicted) == (Outcome.GIVEN_UP, [])
    assert "nobody would start the VM again" in order.why
    assert await held(world) == []


def closed() -> InForce:
    """Return a policy whose only window opens days from now."""
    days = tuple(Day)
    return applying(windows=(Window(days=(days[(datetime.now(UTC).weekday() + 3) % 7],)),))


@pytest.mark.parametrize(
    ("restrained", "says"),
    [
        (applying(paused=True), "the policy's moves.paused is true"),
        (closed(), "no window of the policy's moves.windows is open"),
    ],
    ids=["paused", "closed"],
)
async def test_paused_it_has_nobody_leave_keeps_what_is_held_and_goes_on_afterwards(
    world: World, machines: Machines, restrained: InForce, says: str
) -> None:
    """However long that takes: then the time that a move may take begins anew."""
    asked, clock = refusing(world, "a-1", "b-1"), Ahead()
    settings = msgspec.structs.replace(PATIENT, move_seconds=20.0)
    async with running(world, settings, clock=clock) as extender:
        for name in ("a", "b"):
            await machines.place(extender, name, "1-10C", "node-1")
        await applied(extender, DRAIN)
        await until(lambda: asked)
        extender.knowledge.adopt(restrained)
        await passed(extender, steps=1)
        before, asked[:] = await held(world), []
        clock.by = 1.5 * settings.move_seconds
        await passed(extender, steps=3)
        paused = await kept(world)
        assert paused is not None
        assert extender.moving is not None
        why = extender.moving.waits(paused)
        assert (asked, await held(world)) == ([], before)
        world.api.disturbance = None
        extender.knowledge.adopt(applying())
        async with machines.running(extender, NODES):
            order = await over(world)

    assert (paused.ending, why) == (None, says)
    assert len(before) == 2
    assert (order.ending, order.why, len(order.made)) == (Outcome.DONE, "", 2)
    assert await held(world) == []


async def test_a_vm_that_has_left_comes_to_its_place_though_it_is_paused_meanwhile(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        for name in ("a", "b"):
            await machines.place(extender, name, "1-10C", "node-1")
        await applied(extender, DRAIN)

        async def left() -> bool:
            return len(await machines.pods()) == 1

        await until(left)
        extender.knowledge.adopt(applying(paused=True))
        async with machines.running(extender, NODES):

            async def arrived() -> bool:
                order = await kept(world)
                return order is not None and len(order.made) == 1

            await until(arrived)
            assert extender.moving is not None
            await extender.moving.stop("somebody has stopped it")
            order = await over(world)

    assert (order.ending, len(order.made)) == (Outcome.STOPPED, 1)
    assert sorted([(await machines.on(name))[0] for name in ("a", "b")]) == NODES
    assert await held(world) == []


@pytest.mark.parametrize("restrained", [applying(paused=True), closed()], ids=["paused", "closed"])
async def test_a_vm_that_has_left_and_does_not_come_in_time_is_given_up_though_moves_are_paused(
    world: World, machines: Machines, restrained: InForce
) -> None:
    """No policy brings it back; meanwhile what is held keeps others away for nothing."""
    clock, settings = Ahead(), msgspec.structs.replace(PATIENT, move_seconds=20.0)
    async with running(world, settings, clock=clock) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        await applied(extender, DRAIN)

        async def left() -> bool:
            return not await machines.pods()

        await until(left)
        extender.knowledge.adopt(restrained)
        await passed(extender, steps=2)
        waits = await kept(world)
        clock.by = 1.5 * settings.move_seconds
        order = await over(world)

    assert waits is not None
    assert waits.ending is None
    assert (order.ending, order.why) == (
        Outcome.GIVEN_UP,
        "the VM's next pod did not come in time",
    )
    assert await held(world) == []


async def passed(extender: Service, *, steps: int) -> None:
    """Wait for a step that is being taken, and take some more."""
    assert extender.moving is not None
    for _ in range(steps):
        await extender.moving.step()


async def drain_refused(extender: Service, machines: Machines, asked: Collection[str]) -> None:
    """Have a node of two VMs drained, and the first of them *asked* in vain to leave."""
    for name in ("a", "b"):
        await machines.place(extender, name, "1-10C", "node-1")
    await applied(extender, DRAIN)
    await until(lambda: asked)
    await passed(extender, steps=1)


async def test_nobody_leaves_any_more_once_the_policy_lets_nobody_be_moved(
    world: World, machines: Machines
) -> None:
    """Nor who was to leave before that, and has been refused it all the time."""
    asked = refusing(world, "a-1", "b-1")
    async with running(world) as extender:
        await drain_refused(extender, machines, asked)
        extender.knowledge.adopt(applying(mode=Mode.ADVISE))
        world.api.disturbance = None  # by now its budget would allow it
        async with machines.running(extender, NODES):
            order = await over(world)

    assert (order.ending, len(order.made)) == (Outcome.STOPPED, 0)
    assert order.why == "the policy's moves.mode is not apply"
    assert order.departed is not None
    assert {(await machines.on(name))[0] for name in ("a", "b")} == {"node-1"}
    assert await held(world) == []


async def test_nobody_is_evicted_once_the_policy_forbids_it_whatever_was_read_meanwhile(
    world: World, machines: Machines
) -> None:
    """Who would start the VM again is read before it leaves, and that takes a while."""
    evicted: list[str] = []
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")

        async def forbid(call: Call) -> None:
            if call.subresource == "eviction" and not call.dry_run:
                evicted.append(call.name)
            if call.kind == VIRTUAL_MACHINES and call.done and await departed(world):
                extender.knowledge.adopt(applying(mode=Mode.ADVISE))

        world.api.disturbance = forbid
        await applied(extender, DRAIN)
        order = await over(world)

    assert (order.ending, evicted) == (Outcome.STOPPED, [])
    assert (await machines.on("a"))[0] == "node-1"
    assert await held(world) == []


async def test_a_vm_that_is_leaving_comes_to_its_place_before_the_order_ends(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        for name in ("a", "b"):
            await machines.place(extender, name, "1-10C", "node-1")
        await applied(extender, DRAIN)
        await until(lambda: departed(world))

        async def left() -> bool:
            return len(await machines.pods()) == 1

        await until(left)
        extender.knowledge.adopt(applying(mode=Mode.OFF))
        async with machines.running(extender, NODES):
            order = await over(world)

    assert (order.ending, len(order.made)) == (Outcome.STOPPED, 1)
    stayed = "b" if order.legs[0].owner.name == "a" else "a"
    assert (await machines.on(stayed))[0] == "node-1"
    assert await held(world) == []


async def departed(world: World) -> bool:
    order = await kept(world)
    return order is not None and order.departed is not None


async def test_somebody_stops_it_before_the_next_vm_leaves(
    world: World, machines: Machines
) -> None:
    asked = refusing(world, "a-1", "b-1")
    async with running(world) as extender:
        await drain_refused(extender, machines, asked)
        assert extender.moving is not None
        await extender.moving.stop("somebody has stopped it")
        world.api.disturbance = None
        async with machines.running(extender, NODES):
            order = await over(world)

    assert (order.ending, len(order.made)) == (Outcome.STOPPED, 0)
    assert {(await machines.on(name))[0] for name in ("a", "b")} == {"node-1"}
    assert await held(world) == []


async def test_an_order_of_which_nobody_heard_that_it_was_kept_is_carried_out(
    world: World, machines: Machines
) -> None:
    lost = False

    async def lose(call: Call) -> None:
        nonlocal lost
        if call.kind == CONFIG_MAPS and call.verb != "get" and call.done and not lost:
            lost = True
            raise Unavailable(0, "connection reset")

    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        world.api.disturbance = lose
        with pytest.raises(ClusterUnavailable):
            await applied(extender, DRAIN)
        async with machines.running(extender, NODES):
            order = await over(world)

    assert lost
    assert (order.ending, len(order.made)) == (Outcome.DONE, 1)


async def test_no_more_moves_are_begun_in_an_hour_than_the_policy_allows(
    world: World, machines: Machines
) -> None:
    async with running(world, policy=applying(per_hour=1)) as extender:
        for name in ("a", "b"):
            await machines.place(extender, name, "1-10C", "node-1")
        async with machines.running(extender, NODES):
            await applied(extender, DRAIN)

            async def one_made() -> bool:
                order = await kept(world)
                return order is not None and len(order.made) == 1

            await until(one_made)
            ends_before = len(await held(world))
            extender.knowledge.adopt(applying(per_hour=2))
            order = await over(world)

    assert ends_before == 1  # the place of the other is kept meanwhile
    assert order.ending is Outcome.DONE


async def test_a_vm_whose_next_pod_does_not_come_in_time_is_given_up(
    world: World, machines: Machines
) -> None:
    settings = msgspec.structs.replace(PATIENT, move_seconds=0.1)
    async with running(world, settings) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        await applied(extender, DRAIN)
        order = await over(world)

    assert order.ending is Outcome.GIVEN_UP
    assert order.why == "the VM's next pod did not come in time"
    assert await held(world) == []


async def two_without_images(extender: Service, machines: Machines, kubelets: Kubelets) -> None:
    """Have two VMs run on node-1 whose images are nowhere else."""
    for name in ("a", "b"):
        await machines.place(extender, name, "1-10C", "node-1")
    await until(lambda: not extender.knowledge.unready)
    kubelets.waiting = {"a-2": "ErrImagePull", "b-2": "ErrImagePull"}


async def test_nobody_else_is_stopped_while_a_vm_does_not_run_where_it_went(
    world: World, machines: Machines
) -> None:
    """Its image is not there. The order is given up; another is made once that is mended."""
    kubelets = Kubelets(world.api)
    settings = msgspec.structs.replace(PATIENT, move_seconds=2.0)
    async with running(world, settings, kubelets=kubelets) as extender:
        await two_without_images(extender, machines, kubelets)
        async with machines.running(extender, NODES):
            await applied(extender, DRAIN)
            order = await over(world)
            moved = order.legs[0].owner.name
            (stayed,) = {"a", "b"} - {moved}
            assert (await machines.on(moved), await machines.on(stayed)) == (
                (order.legs[0].target.node, order.legs[0].target.gpu, order.legs[0].target.start),
                (order.legs[1].source.node, order.legs[1].source.gpu, order.legs[1].source.start),
            )
            assert set(await pods_of(machines)) == {f"{moved}-2", f"{stayed}-1"}
            kubelets.waiting = {}
            await kubelets.tell()
            await applied(extender, DRAIN)

            async def drained() -> bool:
                after = await over(world)
                return after.id != order.id

            await until(drained)

    why = "the VM's next pod is bound to node-2, and not Ready: containers compute: ErrImagePull"
    assert (order.ending, order.made, order.why) == (Outcome.GIVEN_UP, (), why)
    told = f"vGPU: a move is given up: {why}"
    assert (f"{moved}-2", told) in await events(world, "VgpuMoveGivenUp")
    assert (await over(world)).ending is Outcome.DONE
    assert await bound(machines, stayed, "node-2")
    assert await held(world) == []


async def pods_of(machines: Machines) -> Collection[str]:
    return [pod["metadata"]["name"] for pod in await all_of(machines)]


async def test_an_order_is_stopped_at_once_though_its_vm_is_not_ready_where_it_went(
    world: World, machines: Machines
) -> None:
    """It is named, and stays there: nothing of its own is taken back."""
    kubelets = Kubelets(world.api)
    async with running(world, kubelets=kubelets) as extender:
        await two_without_images(extender, machines, kubelets)
        async with machines.running(extender, NODES):
            await applied(extender, DRAIN)
            await until(lambda: extender.knowledge.unready)
            assert extender.moving is not None
            await extender.moving.stop("ops has stopped it")
            order = await over(world)
            moved, seat = order.legs[0].owner.name, order.legs[0].target
            assert await machines.on(moved) == (seat.node, seat.gpu, seat.start)
            assert f"{moved}-2" in await pods_of(machines)

    lacks = "the VM's next pod is bound to node-2, and not Ready: containers compute: ErrImagePull"
    why = f"ops has stopped it; default/{moved} has left: {lacks}"
    assert (order.ending, order.made, order.why) == (Outcome.STOPPED, (), why)
    told = f"vGPU: a move is given up: {why}"
    assert (f"{moved}-2", told) in await events(world, "VgpuMoveGivenUp")
    assert await held(world) == []


async def test_a_vm_that_is_never_ready_by_design_is_moved_as_it_was(
    world: World, machines: Machines
) -> None:
    kubelets = Kubelets(world.api, {"a-1": "", "a-2": ""})
    async with running(world, kubelets=kubelets) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        async with machines.running(extender, NODES):
            await applied(extender, DRAIN)
            order = await over(world)

    assert order.ending is Outcome.DONE
    assert await bound(machines, "a", "node-2")


async def test_nobody_has_the_place_of_a_vm_that_has_come_nowhere_and_it_finds_back(
    world: World, machines: Machines
) -> None:
    """Its next pod may not go where its place is held, nor has the pod that waits had its own."""
    clock, settings = Ahead(), msgspec.structs.replace(PATIENT, move_seconds=20.0)
    async with running(world, settings, clock=clock) as extender:
        await machines.place(extender, "small", "1-10C", "node-1")
        before = await machines.on("small")
        await machines.place(extender, "half", "4-40C", "node-2")
        await machines.add("whole", "7-80C")
        async with machines.running(extender, ["node-1"]):
            await until(lambda: extender.knowledge.pending.waiting)
            await applied(extender, ADMIT)

            async def away() -> bool:
                left = "small-2" in {pod["metadata"]["name"] for pod in await all_of(machines)}
                return left and not (await world.gpu_node("node-1")).status.gpus[0].instances

            await until(away)
            await passed(extender, steps=3)
            assert await machines.on("whole") == ("", "", -1)
            clock.by = 1.5 * settings.move_seconds
            order = await over(world)

            async def back() -> bool:
                return await machines.on("small") == before

            await until(back)

    assert (order.ending, order.why) == (
        Outcome.GIVEN_UP,
        "the VM's next pod did not come in time",
    )
    assert await machines.on("whole") == ("", "", -1)
    assert await held(world) == []


async def test_a_vm_that_left_a_drained_node_and_came_nowhere_has_a_place_where_it_was_to_go(
    world: World, machines: Machines
) -> None:
    """A node that is cordoned takes it back no more; what was held for the order has gone."""
    clock, settings = Ahead(), msgspec.structs.replace(PATIENT, move_seconds=20.0)
    async with running(world, settings, clock=clock) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        cordon = {"spec": {"unschedulable": True}}
        await world.api.patch(NODE, "node-1", cordon, patch_type=PatchType.MERGE)
        await until(lambda: extender.knowledge.views["node-1"].cordoned)
        given = await applied(extender, DRAIN)

        async def left() -> bool:
            return not await machines.pods()

        await until(left)
        clock.by = 1.5 * settings.move_seconds
        order = await over(world)
        (entry,) = (await world.gpu_node("node-2")).spec.assignments
        assert await held(world) == []
        async with machines.running(extender, NODES):

            async def back() -> bool:
                return await bound(machines, "a", "node-2")

            await until(back)

    assert (order.ending, order.why) == (
        Outcome.GIVEN_UP,
        "the VM's next pod did not come in time",
    )
    seat = given.legs[0].target
    assert (entry.pod, entry.owner) == (None, given.legs[0].owner)
    assert (entry.gpu, entry.start) == (seat.gpu, seat.start)
    assert await machines.on("a") == (seat.node, seat.gpu, seat.start)


async def all_of(machines: Machines) -> Collection[dict[str, Any]]:
    return (await machines.pods()).values()


async def test_a_vm_that_comes_elsewhere_ends_the_order(world: World, machines: Machines) -> None:
    """Its next pod may not go where its place is held, by what Tangram does not know of."""
    async with running(world) as extender:
        for name in ("a", "b"):
            await machines.place(extender, name, "1-10C", "node-1")
        await applied(extender, DRAIN)
        async with machines.running(extender, ["node-1"]):
            order = await over(world)

    assert (order.ending, order.made) == (Outcome.GIVEN_UP, ())
    assert order.why == "the VM has come to node-1 instead"
    assert await held(world) == []


async def test_what_was_held_for_an_order_that_nobody_knows_is_given_back(
    world: World, machines: Machines
) -> None:
    refusing(world, "a-1")
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        await applied(extender, DRAIN)
        await until(lambda: extender.knowledge.holds.moving)
    await world.api.delete(CONFIG_MAPS, keys.ORDER_CONFIG_MAP, namespace=keys.SYSTEM_NAMESPACE)
    async with running(world):

        async def nothing() -> bool:
            return not await held(world)

        await until(nothing)


async def test_nobody_else_has_the_place_that_is_made_for_a_pod(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        await machines.place(extender, "small", "1-10C", "node-1")
        await machines.place(extender, "half", "4-40C", "node-2")
        await machines.add("whole", "7-80C")
        async with machines.running(extender, NODES):
            await until(lambda: extender.knowledge.pending.waiting)
            greedy = await world.add_pod("greedy", "1-10C")
            await applied(extender, ADMIT)
            await until(lambda: extender.knowledge.holds.moving)
            scheduler = Scheduler(extender, ["node-1"])
            while await machines.on("whole") == ("", "", -1):
                await scheduler.once([greedy])
                assert await world.bound("greedy") == ""
                await machines.pods()
                await asyncio.sleep(0.001)  # time passes for the mover, too
            order = await over(world)

    assert order.ending is Outcome.DONE
