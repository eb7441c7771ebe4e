"""Taking back what nobody uses, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import msgspec
import pytest

from extender.cluster import KubernetesCluster
from extender.service import Service
from extender.service.plans import Plans
from extender.service.ports import ClusterUnavailable
from extender.service.turns import NODES_AT_ONCE
from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment, GpuNode
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    LEASES,
    NODES,
    PODS,
    Kind,
    NotFound,
    PatchType,
    Unavailable,
)
from tests.builders import assignment, gpu_node
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

HASTY = msgspec.structs.replace(
    QUICK,
    http_timeout_seconds=2.1,
    binding_start_margin_seconds=1.5,
    binding_timeout_seconds=1.0,
)
"""A bind waits 0.5 s for its GPU instance; 1.5 s are left for what it does besides."""


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


async def scheduled(world: World, extender: Service, pod: dict[str, Any]) -> None:
    """Come back for a pod as kube-scheduler does, until it is bound."""

    async def attempt() -> bool:
        names = extender.hooks.filter(filter_args(pod, "node-1", "node-2")).node_names or ()
        return bool(names) and not (await extender.binder.bind(bind_args(pod, names[-1]))).error

    await until(attempt)


async def test_a_pod_is_not_kept_for_ever_by_a_node_that_does_not_realize_its_place(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    await world.add_node("node-2")
    settings = msgspec.structs.replace(HASTY, reservation_seconds=0.8)
    async with world.extender(settings) as extender, world.obedient("node-2"):
        await extender.binder.bind(bind_args(pod, "node-1"))
        await scheduled(world, extender, pod)

    assert await world.bound("vm") == "node-2"


async def test_a_bind_that_is_always_under_way_does_not_keep_its_place_for_ever(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    settings = msgspec.structs.replace(HASTY, reservation_seconds=0.8, sweep_interval_seconds=60.0)
    answers: list[str] = []

    async def given_back() -> bool:
        answers.append((await extender.binder.bind(bind_args(pod, "node-1"))).error)
        return "given back" in answers[-1]

    async with world.extender(settings) as extender:
        await until(given_back)

    assert set(answers[:-1]) == {
        "vGPU: the GPU instance is not ready yet, its place stays reserved"
    }
    assert (await world.gpu_node("node-1")).spec.assignments == ()


async def test_a_pod_does_not_wait_for_a_silent_agent_to_realize_its_place(world: World) -> None:
    await world.add_node("node-2")
    pod = await world.add_pod("vm", "1-10C")
    settings = msgspec.structs.replace(HASTY, lease_missed_seconds=0.8)
    async with world.extender(settings) as extender:
        await extender.binder.bind(bind_args(pod, "node-1"))
        await until(lambda: extender.knowledge.views["node-1"].stale)
        extender.knowledge.lease("node-2", "renewed")
        answer = extender.hooks.filter(filter_args(pod, "node-1", "node-2"))

    assert answer.node_names == ("node-2",)


async def test_a_pod_that_can_never_be_bound_does_not_keep_its_place(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    await world.api.patch(
        PODS,
        "vm",
        {"metadata": {"annotations": {"x": "y"}}},
        patch_type=PatchType.MERGE,
        namespace="default",
    )

    async def forbid(call: Call) -> None:
        if call.subresource == "binding" and not call.done:
            raise NotFound(404, "no such pod")

    async with world.extender() as extender, world.obedient("node-1"):
        world.api.disturbance = forbid
        answer = await extender.binder.bind(bind_args(pod, "node-1"))
        world.api.disturbance = None

    assert "could not be bound" in answer.error
    assert (await world.gpu_node("node-1")).spec.assignments == ()


async def test_a_gpunode_is_never_deleted_with_an_assignment_in_it(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(call: Call) -> None:
        if (call.verb, call.kind, call.name) == ("delete", GPU_NODES, "node-1") and not call.done:
            reached.set()
            await go_on.wait()

    async with world.extender() as extender:
        world.api.disturbance = hold
        await world.api.delete(NODES, "node-1")
        async with asyncio.timeout(5):
            await reached.wait()
        await world.api.create(NODES, {"metadata": {"name": "node-1"}})  # it registers again
        bind = asyncio.create_task(extender.binder.bind(bind_args(pod, "node-1")))
        await asyncio.sleep(0.05)
        go_on.set()
        answer = await bind
        # The bind came too late for the old object and has to come again for the new one.
        await until(lambda: "node-1" in extender.knowledge.views)

    assert answer.error
    assert (await world.gpu_node("node-1")).spec.assignments == ()


async def test_a_silent_agent_is_noticed_while_a_pod_cannot_be_read(world: World) -> None:
    ghost = await world.add_pod("ghost", "1-10C")
    async with world.extender(HASTY) as extender:
        await extender.binder.bind(bind_args(ghost, "node-1"))
    await world.delete_pod(ghost)

    async def hang(call: Call) -> None:
        if (call.verb, call.kind) == ("get", PODS) and not call.done:
            await asyncio.Event().wait()

    world.api.disturbance = hang
    settings = msgspec.structs.replace(QUICK, lease_missed_seconds=0.2)
    async with world.extender(settings) as extender:
        await until(lambda: extender.knowledge.views["node-1"].stale)


async def test_one_unreadable_gpunode_does_not_keep_the_others_from_being_made(
    world: World,
) -> None:
    await world.api.patch(
        GPU_NODES,
        "node-1",
        {"status": {"mode": "of the future"}},
        patch_type=PatchType.MERGE,
        subresource="status",
    )
    async with world.extender() as extender:
        await world.api.create(NODES, {"metadata": {"name": "node-2"}})
        lease = {
            "metadata": {"name": keys.lease_name("node-2"), "labels": {keys.AGENT_LABEL: "true"}}
        }
        await world.api.create(LEASES, lease, namespace=keys.SYSTEM_NAMESPACE)
        await until(lambda: "node-2" in extender.knowledge.views)


async def test_only_so_many_pods_are_read_at_once(world: World) -> None:
    plan = [assignment(f"a{i}", 19, i % 7, gpu=f"GPU-{i // 7}", pod=f"p{i}") for i in range(200)]
    started, go_on = 0, asyncio.Event()

    async def hold(call: Call) -> None:
        nonlocal started
        if (call.verb, call.kind) == ("get", PODS) and not call.done:
            started += 1
            await go_on.wait()

    async with world.extender() as extender:
        world.api.disturbance = hold
        extender.knowledge.gpu_node(gpu_node("node-9", gpus=30, plan=plan, version=10**9))
        checking = asyncio.create_task(extender._reclaimer.suspect([f"p{i}" for i in range(200)]))
        await until(lambda: started)
        await asyncio.sleep(0.05)
        at_once = started
        go_on.set()
        await checking
        world.api.disturbance = None

    assert 1 < at_once <= 32


@pytest.mark.parametrize(("verb", "kind"), [("get", PODS), ("patch", GPU_NODES)])
async def test_a_place_that_could_not_be_given_back_is_looked_at_again_soon(
    world: World, verb: str, kind: Kind
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    failed = 0

    async def fail(call: Call) -> None:
        nonlocal failed
        if (call.verb, call.kind) == (verb, kind) and not call.done and failed < 3:
            failed += 1
            raise Unavailable(0, "connection reset")

    async def given_back() -> bool:
        return (await world.gpu_node("node-1")).spec.assignments == ()

    async with world.extender(HASTY) as extender:
        await extender.binder.bind(bind_args(pod, "node-1"))
        assert not await given_back()
        world.api.disturbance = fail
        await world.delete_pod(pod)
        await until(lambda: failed)
        await until(given_back)  # long before unseen_pod_recheck_seconds


async def test_a_pod_that_is_bound_while_it_is_read_keeps_its_place(world: World) -> None:
    """What was read is of before the bind, which has begun and ended when the answer comes."""
    pod = await world.add_pod("vm", "1-10C")
    settings = msgspec.structs.replace(HASTY, reservation_seconds=0.8)
    answer, read = asyncio.Event(), list[Call]()

    async def hold(call: Call) -> None:
        if (call.verb, call.kind) == ("get", PODS) and call.done and not read:
            read.append(call)
            await answer.wait()

    async with world.extender(settings) as extender:
        extender.hooks.filter(filter_args(pod, "node-1"))
        first = await extender.binder.bind(bind_args(pod, "node-1"))
        assert "not ready yet" in first.error
        world.api.disturbance = hold
        await until(lambda: read)
        async with world.obedient("node-1"):
            second = await extender.binder.bind(bind_args(pod, "node-1"))
            assert second.error == ""
            answer.set()
            await until(
                lambda: not any(t.get_name().startswith("reclaim-") for t in asyncio.all_tasks())
            )

    (entry,) = (await world.gpu_node("node-1")).spec.assignments
    assert [each.id for each in await world.decision("vm")] == [entry.id]


class SlowToWrite(KubernetesCluster):
    """Answers nothing to who writes a plan, and carries it out when it is told to."""

    carry_out: Callable[[], Awaitable[object]]

    async def write_plan(
        self,
        node: GpuNode,
        *,
        add: Collection[Assignment] = (),
        remove: Collection[str] = (),
        hold: Collection[str] = (),
    ) -> GpuNode:
        write = super().write_plan
        self.carry_out = lambda: write(node, add=add, remove=remove, hold=hold)
        raise ClusterUnavailable("no answer", passing=False)


async def test_a_place_is_not_relied_upon_while_it_may_still_be_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extender.service.plans.MADE_WITHIN_SECONDS", 0.2)
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(HASTY) as extender:
        first = await extender.binder.bind(bind_args(pod, "node-1"))
        assert "not ready yet" in first.error
        plans, slow = extender.binder._plans, SlowToWrite(world.api)
        usual, plans._cluster = plans._cluster, slow
        with pytest.raises(ClusterUnavailable):
            await plans.withdraw("node-1", plans.ids_of(pod["metadata"]["uid"]))
        plans._cluster = usual
        async with world.obedient("node-1"):
            bind = asyncio.create_task(extender.binder.bind(bind_args(pod, "node-1")))
            await until(lambda: plans._turns["node-1"].locked())
            await slow.carry_out()
            answer = await bind

    assert answer.error == ""
    (entry,) = (await world.gpu_node("node-1")).spec.assignments
    assert [each.id for each in await world.decision("vm")] == [entry.id]


async def test_a_write_whose_writer_is_cut_off_is_waited_for_like_one_without_an_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extender.service.plans.MADE_WITHIN_SECONDS", 0.2)
    pod = await world.add_pod("vm", "1-10C")
    never = asyncio.Event()

    async def hang(call: Call) -> None:
        if (call.verb, call.kind, call.subresource) == ("patch", GPU_NODES, "") and not call.done:
            await never.wait()

    async with world.extender(HASTY) as extender:
        assert "not ready yet" in (await extender.binder.bind(bind_args(pod, "node-1"))).error
        plans, clock = extender.binder._plans, extender.knowledge.clock
        world.api.disturbance = hang
        began = clock()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await plans.withdraw("node-1", plans.ids_of(pod["metadata"]["uid"]))
        world.api.disturbance = None
        await plans.settled("node-1")
        assert clock() >= began + 0.2
        await plans.settled("node-1")  # and once only


async def test_a_place_on_one_node_is_given_back_while_the_plan_of_another_cannot_be_written(
    world: World,
) -> None:
    await world.add_node("node-2")
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def held_up(call: Call) -> None:
        plan = (call.verb, call.kind, call.subresource) == ("patch", GPU_NODES, "")
        if plan and call.name == "node-1" and not call.done:
            reached.set()
            await go_on.wait()

    settings = msgspec.structs.replace(HASTY, sweep_interval_seconds=60.0)
    async with world.extender(settings) as extender, world.obedient("node-1", "node-2"):
        pods = [await world.add_pod(f"vm-{number}", "1-10C") for number in (1, 2)]
        for pod, node in zip(pods, ("node-1", "node-2"), strict=True):
            await extender.binder.bind(bind_args(pod, node))
        world.api.disturbance = held_up
        await world.delete_pod(pods[0])
        await reached.wait()
        await world.delete_pod(pods[1])
        await world.plan_holds(0, "node-2")
        still_there = (await world.gpu_node("node-1")).spec.assignments
        go_on.set()
        await world.plan_holds(0, "node-1")

    assert len(still_there) == 1


async def test_events_of_nodes_without_agents_cost_no_sweep(service: Service) -> None:
    service.knowledge.arrivals.clear()

    for _ in range(3):
        service.knowledge.node("cpu-node", cordoned=False)

    assert not service.knowledge.arrivals.is_set()


async def test_a_pod_with_places_on_two_nodes_ends_with_one(world: World) -> None:
    await world.add_node("node-2")
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(HASTY) as extender:
        await extender.binder.bind(bind_args(pod, "node-1"))
        extender.knowledge.assigned.planned("node-1", ())  # as if that write had not been seen yet
        async with world.obedient("node-2"):
            answer = await extender.binder.bind(bind_args(pod, "node-2"))
        assert answer.error == ""
        await world.plan_holds(0, "node-1")
        await world.plan_holds(1, "node-2")


async def test_nodes_that_are_not_there_leave_no_trace(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender() as extender:
        for index in range(50):
            answer = await extender.binder.bind(bind_args(pod, f"nowhere-{index}"))
            assert answer.error == "vGPU: the node reports no GPU inventory"

        assert extender.binder._plans._turns == {}


async def test_a_bind_that_waits_is_answered_when_the_extender_goes(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender() as extender:
        bind = asyncio.create_task(extender.binder.bind(bind_args(pod, "node-1")))
        await world.plan_holds(1)
        extender.stop()
        answer = await bind

    assert answer.error == "vGPU: the extender is going away, the place stays reserved"
    assert len((await world.gpu_node("node-1")).spec.assignments) == 1


async def test_an_answer_that_comes_after_the_news_of_a_deletion_brings_nothing_back(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    late: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def hold(call: Call) -> None:
        if (call.verb, call.kind, call.subresource) == ("patch", GPU_NODES, "") and call.done:
            await late

    async with world.extender() as extender:
        world.api.disturbance = hold
        bind = asyncio.create_task(extender.binder.bind(bind_args(pod, "node-1")))
        await world.plan_holds(1)
        views, before = extender.knowledge.views, await world.gpu_node("node-1")
        await world.api.delete(GPU_NODES, "node-1")
        await until(lambda: before.metadata.uid in extender.knowledge.buried)
        world.api.disturbance = None
        late.set_result(None)
        await bind
        await until(lambda: "node-1" in views)
        known = views["node-1"].node

    there = await world.gpu_node("node-1")
    assert (known.metadata.uid, known.spec) == (there.metadata.uid, there.spec)
    planned = [each.pod.uid for each in there.spec.assignments if each.pod]
    assert planned == [pod["metadata"]["uid"]], "made anew with what it had"


async def test_that_there_was_no_gpunode_does_not_hide_the_one_made_since(world: World) -> None:
    async with world.extender() as extender:
        views = extender.knowledge.views
        old = views["node-1"].node.metadata.uid

        async def late(call: Call) -> None:
            if (call.verb, call.kind) == ("get", GPU_NODES) and not call.done:
                world.api.disturbance = None
                await world.api.delete(GPU_NODES, "node-1")
                await until(lambda: "node-1" in views and views["node-1"].node.metadata.uid != old)
                raise NotFound(404, "there was none when it was asked for")

        world.api.disturbance = late
        await Plans(extender.knowledge, KubernetesCluster(world.api)).refresh("node-1")
        known = views["node-1"].node.metadata.uid

    assert known != old


@pytest.mark.parametrize("of", ["_reclaimer", "_recorder", "_adopter"])
async def test_the_hooks_answer_while_a_sweep_looks_at_many_plans(
    service: Service, of: str
) -> None:
    knowledge = service.knowledge
    for index in range(3 * NODES_AT_ONCE):
        knowledge.gpu_node(gpu_node(f"node-{index:03}"))
    last = f"node-{3 * NODES_AT_ONCE - 1:03}"
    uid = knowledge.views[last].node.metadata.uid
    turns = 0

    sweeping = asyncio.create_task(getattr(service, of).sweep())
    while not sweeping.done():
        turns += 1
        if turns == 2:
            knowledge.gpu_node_gone(last, uid)  # what is no longer known is passed over
        await asyncio.sleep(0)
    sweeping.result()

    assert last not in knowledge.views
    assert turns > 3
