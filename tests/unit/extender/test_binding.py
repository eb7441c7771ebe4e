"""A VM's way in and out: bind and reclaim over the in-memory API server."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest

from extender.ledger import Ledger
from extender.service import Service
from extender.service.ports import TRANSIT_SECONDS, Feed
from nodeagent.api import keys
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    NODES,
    PODS,
    Invalid,
    PatchType,
    Unavailable,
)
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


async def test_a_bound_pod_has_its_place_in_the_plan_and_carries_the_decision(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "3-40C")
    async with world.extender() as extender, world.obedient("node-1"):
        assert extender.hooks.filter(filter_args(pod, "node-1")).node_names == ("node-1",)
        answer = await extender.binder.bind(bind_args(pod, "node-1"))

    assert answer.error == ""
    assert await world.bound("vm") == "node-1"
    (entry,) = (await world.gpu_node("node-1")).spec.assignments
    (decision,) = await world.decision("vm")
    assert (decision.id, decision.gpu, decision.start) == (entry.id, entry.gpu, entry.start)
    assert (decision.profile, entry.start) == ("3g.40gb", 4)
    assert entry.pod is not None
    assert entry.pod.uid == pod["metadata"]["uid"]


async def test_a_repeated_bind_succeeds_and_changes_nothing(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender() as extender, world.obedient("node-1"):
        first = await extender.binder.bind(bind_args(pod, "node-1"))
        before = await world.gpu_node("node-1")
        second = await extender.binder.bind(bind_args(pod, "node-1"))

    assert (first.error, second.error) == ("", "")
    assert (await world.gpu_node("node-1")).spec == before.spec


async def test_a_bind_of_a_bound_pod_to_another_node_is_refused(world: World) -> None:
    await world.add_node("node-2")
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender() as extender, world.obedient("node-1", "node-2"):
        await extender.binder.bind(bind_args(pod, "node-1"))
        answer = await extender.binder.bind(bind_args(pod, "node-2"))

    assert answer.error == "vGPU: the pod is bound to another node"
    assert await world.bound("vm") == "node-1"


async def test_an_instance_that_comes_too_late_keeps_its_place_for_the_retry(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    hasty = msgspec.structs.replace(QUICK, http_timeout_seconds=0.4)
    async with world.extender(hasty) as extender:
        late = await extender.binder.bind(bind_args(pod, "node-1"))
        (kept,) = (await world.gpu_node("node-1")).spec.assignments
        await world.obey("node-1")
        retried = await extender.binder.bind(bind_args(pod, "node-1"))

    assert late.error == "vGPU: the GPU instance is not ready yet, its place stays reserved"
    assert retried.error == ""
    assert [d.id for d in await world.decision("vm")] == [kept.id]


async def test_a_pod_with_a_place_passes_filter_there_alone(world: World) -> None:
    await world.add_node("node-2")
    pod = await world.add_pod("vm", "1-10C")
    hasty = msgspec.structs.replace(QUICK, http_timeout_seconds=0.4)
    async with world.extender(hasty) as extender:
        await extender.binder.bind(bind_args(pod, "node-2"))
        answer = extender.hooks.filter(filter_args(pod, "node-1", "node-2"))

    assert answer.node_names == ("node-2",)


async def test_an_instance_that_cannot_be_created_gives_its_place_back(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender() as extender:
        bind = asyncio.create_task(extender.binder.bind(bind_args(pod, "node-1")))
        await world.plan_holds(1)
        await world.fail("node-1", "nvmlDeviceCreateGpuInstance: GPU is lost (NVML error 15)")
        answer = await bind

    assert "GPU is lost" in answer.error
    assert (await world.gpu_node("node-1")).spec.assignments == ()
    assert await world.bound("vm") == ""


async def test_a_gpu_that_failed_is_chosen_last_for_a_while(world: World) -> None:
    await world.add_node("node-2", gpus=2)
    first, second = [await world.add_pod(name, "1-10C") for name in ("a", "b")]
    async with world.extender() as extender:
        bind = asyncio.create_task(extender.binder.bind(bind_args(first, "node-2")))
        await world.plan_holds(1, "node-2")
        (tried,) = (await world.gpu_node("node-2")).spec.assignments
        await world.fail("node-2", "nvmlDeviceCreateGpuInstance: insufficient resources")
        assert (await bind).error
        async with world.obedient("node-2"):
            for pod in (first, second):
                assert (await extender.binder.bind(bind_args(pod, "node-2"))).error == ""
        others = {each.gpu for each in (await world.gpu_node("node-2")).spec.assignments}
        extender.knowledge.clock = lambda: (
            asyncio.get_running_loop().time() + QUICK.avoidance_seconds
        )
        extender.knowledge.tick()
        later = extender.knowledge.ledger.presumed_on("node-2")

    assert tried.gpu not in others
    assert later == ()


async def test_a_node_whose_only_gpu_failed_comes_after_the_others(world: World) -> None:
    await world.add_node("node-2")
    pod = await world.add_pod("vm", "7-80C")
    async with world.extender() as extender:
        bind = asyncio.create_task(extender.binder.bind(bind_args(pod, "node-1")))
        await world.plan_holds(1)
        await world.fail("node-1", "nvmlDeviceCreateGpuInstance: insufficient resources")
        assert (await bind).error
        await world.obey("node-1")
        await until(lambda: not extender.knowledge.views["node-1"].releasing)
        args = filter_args(pod, "node-1", "node-2")
        passed = extender.hooks.filter(args).node_names
        ranked = {each.host: each.score for each in extender.hooks.prioritize(args)}

    assert passed == ("node-1", "node-2")
    assert ranked["node-2"] == 10 > ranked["node-1"]


async def test_a_pod_that_goes_elsewhere_gives_its_first_place_back(world: World) -> None:
    await world.add_node("node-2")
    pod = await world.add_pod("vm", "1-10C")
    hasty = msgspec.structs.replace(QUICK, http_timeout_seconds=0.4)
    async with world.extender(hasty) as extender, world.obedient("node-2"):
        await extender.binder.bind(bind_args(pod, "node-1"))
        answer = await extender.binder.bind(bind_args(pod, "node-2"))

    assert answer.error == ""
    assert (await world.gpu_node("node-1")).spec.assignments == ()
    assert len((await world.gpu_node("node-2")).spec.assignments) == 1


async def test_of_two_pods_for_the_last_place_exactly_one_gets_it(world: World) -> None:
    pods = [await world.add_pod(name, "7-80C") for name in ("a", "b")]
    async with world.extender() as extender, world.obedient("node-1"):
        answers = await asyncio.gather(
            *(extender.binder.bind(bind_args(pod, "node-1")) for pod in pods)
        )

    assert sorted(bool(answer.error) for answer in answers) == [False, True]
    assert sorted([await world.bound("a"), await world.bound("b")]) == ["", "node-1"]
    assert len((await world.gpu_node("node-1")).spec.assignments) == 1


async def test_two_extenders_never_promise_the_same_slices(world: World) -> None:
    pods = [await world.add_pod(f"vm-{i}", "3-40C") for i in range(4)]
    async with (
        world.extender() as one,
        world.extender() as other,
        world.obedient("node-1"),
    ):
        await asyncio.gather(
            *(
                extender.binder.bind(bind_args(pod, "node-1"))
                for pod, extender in zip(pods, (one, other, one, other), strict=True)
            )
        )
        plan = (await world.gpu_node("node-1")).spec.assignments

    assert sorted(entry.start for entry in plan) == [0, 4]
    assert len([p for p in pods if await world.bound(p["metadata"]["name"])]) == 2


@pytest.mark.parametrize("done", [False, True], ids=["lost before", "lost after"])
@pytest.mark.parametrize("target", [("patch", GPU_NODES), ("create", PODS)], ids=["plan", "bind"])
async def test_a_write_of_unknown_outcome_is_looked_at_before_anything_is_decided(
    world: World, target: tuple[str, Any], done: bool
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    hits = 0

    async def lose(call: Call) -> None:
        nonlocal hits
        ours = (call.verb, call.kind) == target and call.subresource in ("", "binding")
        if ours and call.done is done and not hits:
            hits += 1
            raise Unavailable(0, "connection reset")

    async with world.extender() as extender, world.obedient("node-1"):
        world.api.disturbance = lose
        first = await extender.binder.bind(bind_args(pod, "node-1"))
        world.api.disturbance = None
        second = await extender.binder.bind(bind_args(pod, "node-1"))

    assert hits == 1
    assert (first.error, second.error) == ("", "")
    assert await world.bound("vm") == "node-1"
    assert len((await world.gpu_node("node-1")).spec.assignments) == 1


async def test_a_binding_of_unknown_outcome_is_looked_at_when_it_can_no_longer_arrive(
    world: World,
) -> None:
    """Its second counts from when it has come to the API server, which may be a while later."""
    pod = await world.add_pod("vm", "1-10C")
    settings = msgspec.structs.replace(
        QUICK,
        http_timeout_seconds=10.0,
        binding_start_margin_seconds=1.5,
        binding_timeout_seconds=1.0,
    )
    now = asyncio.get_running_loop().time
    posted: list[float] = []
    read: list[float] = []

    async def lose_the_first(call: Call) -> None:
        if call.done:
            return
        if call.subresource == "binding":
            posted.append(now())
            if len(posted) == 1:
                raise Unavailable(0, "the connection broke")
        elif posted and (call.verb, call.kind) == ("get", PODS):
            read.append(now())

    async with world.extender(settings) as extender, world.obedient("node-1"):
        world.api.disturbance = lose_the_first
        assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""
        world.api.disturbance = None

    assert read[0] - posted[0] == pytest.approx(1.0 + TRANSIT_SECONDS)


async def test_a_plan_that_is_refused_for_good_is_not_written_again_and_again(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    attempts = 0

    async def refuse(call: Call) -> None:
        nonlocal attempts
        if (call.verb, call.kind, call.subresource) == ("patch", GPU_NODES, "") and not call.done:
            attempts += 1
            raise Invalid(422, "spec.assignments: too many")

    async with world.extender() as extender:
        world.api.disturbance = refuse
        answer = await extender.binder.bind(bind_args(pod, "node-1"))
        world.api.disturbance = None

    assert answer.error
    assert attempts == 1
    assert extender.knowledge.ledger == Ledger()


async def test_an_object_that_cannot_be_read_ends_nothing_but_its_own_bind(world: World) -> None:
    odd = await world.add_pod("odd", "1-10C", volumes=[{"name": 3}])
    odd["metadata"]["name"] = "odd"
    good = await world.add_pod("good", "1-10C")
    await world.api.patch(
        PODS,
        "odd",
        {"spec": {"volumes": "none"}},
        patch_type=PatchType.MERGE,
        namespace="default",
    )
    async with world.extender() as extender, world.obedient("node-1"):
        failed = await extender.binder.bind(bind_args(odd, "node-1"))
        bound = await extender.binder.bind(bind_args(good, "node-1"))

    assert failed.error
    assert bound.error == ""


class Killed(BaseException):
    """The process dies here."""


in_the_bind: ContextVar[bool] = ContextVar("in_the_bind", default=False)


async def bind_and_die_at(world: World, pod: dict[str, Any], at: int, *, done: bool) -> bool:
    """Bind, killed before (or after) the at-th API call; tell whether it came so far."""
    calls = 0

    async def kill(call: Call) -> None:
        nonlocal calls
        if in_the_bind.get() and call.done is done:
            calls += 1
            if calls == at:
                raise Killed

    async with world.extender() as extender:
        world.api.disturbance = kill
        in_the_bind.set(True)
        try:
            await extender.binder.bind(bind_args(pod, "node-1"))
        except Killed:
            return True
        finally:
            world.api.disturbance = None
            in_the_bind.set(False)
    return False


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_an_extender_killed_at_any_call_loses_and_doubles_nothing(done: bool) -> None:
    survived = 0
    for at in range(1, 20):
        world = World()
        await world.add_node("node-1")
        pod = await world.add_pod("vm", "1-10C")
        async with world.obedient("node-1"):
            died = await bind_and_die_at(world, pod, at, done=done)
            async with world.extender() as successor:
                answer = await successor.binder.bind(bind_args(pod, "node-1"))
        assert answer.error == ""
        assert await world.bound("vm") == "node-1"
        (entry,) = (await world.gpu_node("node-1")).spec.assignments
        assert [d.id for d in await world.decision("vm")] == [entry.id]
        if not died:
            survived = at
            break
    assert survived > 3  # read the pod, write the plan, bind: each was interrupted


async def fail(world: World, pod: str) -> None:
    await world.api.patch(
        PODS,
        pod,
        {"status": {"phase": "Failed"}},
        patch_type=PatchType.MERGE,
        namespace="default",
        subresource="status",
    )


async def test_a_place_is_given_back_when_its_pod_is_deleted(world: World) -> None:
    pod = await world.add_pod("vm", "7-80C")
    async with world.extender() as extender:
        bind = asyncio.create_task(extender.binder.bind(bind_args(pod, "node-1")))
        await world.plan_holds(1)
        await world.obey("node-1")
        await bind
        await world.delete_pod(pod)
        await world.plan_holds(0)
        successor = await world.add_pod("next", "1-10C")
        await until(lambda: not extender.knowledge.assigned)
        refused = extender.hooks.filter(filter_args(successor, "node-1"))
        await world.obey("node-1")
        await until(lambda: extender.knowledge.views["node-1"].fullness == 0)
        passed = extender.hooks.filter(filter_args(successor, "node-1"))

    assert refused.node_names == ()  # the instance still exists
    assert passed.node_names == ("node-1",)


async def test_a_place_is_given_back_when_its_pod_has_ended(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender() as extender, world.obedient("node-1"):
        await extender.binder.bind(bind_args(pod, "node-1"))
        await fail(world, "vm")
        await world.plan_holds(0)


async def test_a_pod_that_has_ended_before_it_was_bound_is_given_no_place(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender() as extender, world.obedient("node-1"):
        await fail(world, "vm")
        answer = await extender.binder.bind(bind_args(pod, "node-1"))

    assert answer.error == "vGPU: the pod has ended"
    assert not (await world.gpu_node("node-1")).spec.assignments


async def test_a_pod_that_lost_its_label_keeps_its_place(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender() as extender, world.obedient("node-1"):
        await extender.binder.bind(bind_args(pod, "node-1"))
        await until(lambda: pod["metadata"]["uid"] in extender.knowledge.pods)
        await world.api.patch(
            PODS,
            "vm",
            {"metadata": {"labels": {keys.MANAGED_LABEL: None}}},
            patch_type=PatchType.MERGE,
            namespace="default",
        )
        await until(lambda: pod["metadata"]["uid"] not in extender.knowledge.pods)
        await until(lambda: not extender.knowledge.suspects)

    assert len((await world.gpu_node("node-1")).spec.assignments) == 1


async def test_a_place_nobody_comes_back_for_is_given_back_in_time(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    hasty = msgspec.structs.replace(QUICK, http_timeout_seconds=0.4, reservation_seconds=0.1)
    async with world.extender(hasty) as extender:
        await extender.binder.bind(bind_args(pod, "node-1"))
        await world.plan_holds(0)


async def test_a_place_in_the_plan_whose_pod_never_was_is_given_back(world: World) -> None:
    ghost = await world.add_pod("ghost", "1-10C")
    hasty = msgspec.structs.replace(QUICK, http_timeout_seconds=0.4)
    async with world.extender(hasty) as extender:
        await extender.binder.bind(bind_args(ghost, "node-1"))
    await world.delete_pod(ghost)  # while no extender runs
    async with world.extender():
        await world.plan_holds(0)


async def test_room_that_appears_wakes_a_refused_pod_once(world: World) -> None:
    own = await world.add_pod("extender-0", namespace=keys.SYSTEM_NAMESPACE)
    holder = await world.add_pod("holder", "7-80C")
    waiting = await world.add_pod("waiting", "1-10C")
    async with world.extender() as extender, world.obedient("node-1"):
        await until(lambda: extender.wakes == 1)  # the start's
        await extender.binder.bind(bind_args(holder, "node-1"))
        assert extender.hooks.filter(filter_args(waiting, "node-1")).node_names == ()
        await world.delete_pod(holder)
        await until(lambda: extender.wakes == 2)
        raw = await world.api.get(PODS, "extender-0", namespace=keys.SYSTEM_NAMESPACE)

    assert own["metadata"].get("annotations") is None
    assert keys.WAKE_ANNOTATION in msgspec.json.decode(raw)["metadata"]["annotations"]


async def test_a_silent_agents_node_takes_nothing_new_and_keeps_what_it_has(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    other = await world.add_pod("other", "1-10C")
    deaf = msgspec.structs.replace(QUICK, lease_missed_seconds=0.3)
    async with world.extender(deaf) as extender, world.obedient("node-1"):
        assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""
        await until(lambda: extender.knowledge.views["node-1"].stale)
        answer = extender.hooks.filter(filter_args(other, "node-1"))

    assert answer.failed_and_unresolvable_nodes["node-1"] == (
        "vGPU: the node's agent does not report"
    )
    assert len((await world.gpu_node("node-1")).spec.assignments) == 1


async def test_while_we_are_deaf_no_agent_is_called_silent(service: Service) -> None:
    now = 0.0
    service.knowledge.clock = lambda: now
    service.knowledge.lease("node-1", "2")
    service.knowledge.freshness.interrupted(Feed.LEASES)
    now = 1000.0
    service.knowledge.tick()

    assert not service.knowledge.views["node-1"].stale
    assert "out of date" in service.knowledge.freshness.not_ready()


async def test_a_node_whose_agent_announces_itself_gets_a_gpunode(world: World) -> None:
    await world.api.delete(GPU_NODES, "node-1")
    async with world.extender() as extender:
        await until(lambda: "node-1" in extender.knowledge.views)

    assert (await world.gpu_node("node-1")).spec.assignments == ()


async def test_a_gpunode_outlives_its_node_while_anything_is_on_it(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender() as extender, world.obedient("node-1"):
        await extender.binder.bind(bind_args(pod, "node-1"))
        await world.api.delete(NODES, "node-1")
        await until(lambda: "node-1" not in extender.knowledge.nodes)
        await asyncio.sleep(3 * QUICK.sweep_interval_seconds)
        assert "node-1" in extender.knowledge.views
        await world.delete_pod(pod)
        await until(lambda: "node-1" not in extender.knowledge.views)
