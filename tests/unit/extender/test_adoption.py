"""VMs that ran before Tangram came get their entry in the plan, and nothing else happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from extender.service import Service
from nodeagent.agent import Agent
from nodeagent.api import keys
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Decision, Instance, Mode, OwnerRef, PodRef
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import GPU_NODES, NODES, PODS, NotFound, PatchType, Unavailable
from nodeagent.journal_file import FileJournal
from nodeagent.kubelet import Holder
from nodeagent.simulated.admission import Admitted, Checkpoint
from nodeagent.simulated.driver import SimulatedDriver
from nodeagent.simulated.hardware import Hardware
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.builders import VGPU, assignment, instance
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

OWNER = {"kind": "VirtualMachineInstance", "name": "vm", "controller": True}


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


async def running(world: World, name: str = "old", node: str = "node-1") -> PodRef:
    """Create a pod that has run since before Tangram came: nothing labels it."""
    pod = await world.add_pod(name, "1-10C")
    await world.api.patch(
        PODS,
        name,
        {"metadata": {"labels": {keys.MANAGED_LABEL: None}, "ownerReferences": [OWNER]}},
        patch_type=PatchType.MERGE,
        namespace="default",
    )
    binding = {"metadata": {"name": name}, "target": {"name": node}}
    await world.api.create(PODS, binding, namespace="default", name=name, subresource="binding")
    return PodRef("default", name, pod["metadata"]["uid"])


def held_by(pod: PodRef, start: int = 3) -> Instance:
    return instance(19, start, holder=pod, resource=VGPU + "1-10C")


async def tell(world: World, *instances: Instance) -> None:
    """Report these GPU instances, as the agent does."""
    status = (await world.gpu_node("node-1")).status
    gpus = (msgspec.structs.replace(status.gpus[0], instances=instances),)
    await world.report("node-1", msgspec.structs.replace(status, gpus=gpus))


async def label(world: World, name: str) -> str | None:
    pod = await world.pod(name)
    assert pod is not None
    found: str | None = pod["metadata"].get("labels", {}).get(keys.MANAGED_LABEL)
    return found


async def swept(extender: Service) -> None:
    """Let two whole sweeps pass."""
    for _ in range(2):
        extender.knowledge.arrivals.set()
        await until(lambda: not extender.knowledge.arrivals.is_set())


async def test_a_pod_that_has_a_foreign_instance_gets_exactly_that_place(world: World) -> None:
    pod = await running(world)
    await tell(world, held_by(pod))
    async with world.extender() as extender:
        await world.plan_holds(1)
        await swept(extender)

    (entry,) = (await world.gpu_node("node-1")).spec.assignments
    assert (entry.gpu, entry.profile_id, entry.placement) == ("GPU-0", 19, Placement(3, 1))
    assert (entry.pod, entry.resource) == (pod, VGPU + "1-10C")
    assert entry.owner == OwnerRef("VirtualMachineInstance", "default", "vm")
    assert await label(world, "old") == "true"


async def test_a_pod_with_two_of_them_gets_both_in_one_write(world: World) -> None:
    pod = await running(world)
    await tell(world, held_by(pod, 3), held_by(pod, 5))
    async with world.extender():
        await world.plan_holds(2)

    node = await world.gpu_node("node-1")
    assert [each.start for each in node.spec.assignments] == [3, 5]
    assert node.metadata.generation == 2


@pytest.mark.parametrize("gone", ["deleted", "another", "over", "elsewhere"])
async def test_a_pod_that_is_not_there_any_more_is_not_adopted(world: World, gone: str) -> None:
    pod = await running(world, node="node-2" if gone == "elsewhere" else "node-1")
    match gone:
        case "deleted":
            await world.api.delete(PODS, "old", namespace="default", grace_seconds=0)
        case "another":
            pod = msgspec.structs.replace(pod, uid="an earlier one")
        case "over":
            await world.api.patch(
                PODS,
                "old",
                {"status": {"phase": "Failed"}},
                patch_type=PatchType.MERGE,
                namespace="default",
                subresource="status",
            )
    await tell(world, held_by(pod))
    async with world.extender() as extender:
        await swept(extender)

    assert (await world.gpu_node("node-1")).spec.assignments == ()
    if gone != "deleted":
        assert await label(world, "old") is None


async def test_a_pod_that_asked_for_something_else_is_not_adopted(world: World) -> None:
    pod = await running(world)
    await tell(world, msgspec.structs.replace(held_by(pod), resource=VGPU + "2-20C"))
    async with world.extender() as extender:
        await swept(extender)

    assert (await world.gpu_node("node-1")).spec.assignments == ()


async def test_a_place_the_plan_has_promised_is_not_promised_twice(world: World) -> None:
    pod, promised = await running(world), await world.add_pod("new", "1-10C")
    entry = assignment("a", 14, 2, pod=promised["metadata"]["uid"])
    entry = msgspec.structs.replace(
        entry, pod=PodRef("default", "new", promised["metadata"]["uid"])
    )
    await world.api.patch(
        GPU_NODES,
        "node-1",
        [{"op": "add", "path": "/spec", "value": {"assignments": [entry]}}],
        patch_type=PatchType.JSON,
    )
    await tell(world, held_by(pod, 3))
    async with world.extender() as extender:
        await swept(extender)

    assert [each.id for each in (await world.gpu_node("node-1")).spec.assignments] == ["a"]


@pytest.mark.parametrize("at", [(PODS, False), (PODS, True), (GPU_NODES, False), (GPU_NODES, True)])
async def test_an_extender_cut_off_while_it_adopts_is_finished_by_the_next(
    world: World, at: tuple[Any, bool]
) -> None:
    pod = await running(world)
    await tell(world, held_by(pod))
    cut: list[Call] = []

    async def cut_off(call: Call) -> None:
        if (call.verb, call.kind, call.done) == ("patch", *at):
            cut.append(call)
            raise Unavailable(0, "no answer")

    world.api.disturbance = cut_off
    async with world.extender():
        await until(lambda: cut)
    world.api.disturbance = None
    async with world.extender() as extender:
        await world.plan_holds(1)
        await swept(extender)

    assert await label(world, "old") == "true"
    assert len((await world.gpu_node("node-1")).spec.assignments) == 1


@contextlib.asynccontextmanager
async def serving(
    world: World, machine: Hardware, checkpoint: Checkpoint, journal: FileJournal, epoch: str
) -> AsyncIterator[None]:
    """Let an agent of that *epoch* serve a machine until the block ends."""
    agent = Agent(
        machine.node,
        api=world.api,
        driver=SimulatedDriver(machine),
        kubelet=SimulatedKubelet(world.api, machine, checkpoint),
        journal=journal,
        epoch=epoch,
    )
    running = asyncio.create_task(agent.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def run(world: World, extender: Service, *sizes: str) -> PodRef:
    """Have a pod run on n1 that wants vGPUs of these *sizes*."""
    await until(lambda: "n1" in extender.knowledge.views and extender.knowledge.views["n1"].usable)
    new = await world.add_pod("new", *sizes)
    assert extender.hooks.filter(filter_args(new, "n1")).node_names == ("n1",)
    assert (await extender.binder.bind(bind_args(new, "n1"))).error == ""

    async def runs() -> bool:
        pod = await world.pod("new")
        return pod is not None and pod["status"]["phase"] == "Running"

    await until(runs)
    return PodRef("default", "new", new["metadata"]["uid"])


@pytest.mark.parametrize("successor", [False, True], ids=["by the leader", "by its successor"])
@pytest.mark.parametrize("agent_ends", [False, True])
@pytest.mark.parametrize("sizes", [["1-10C"], ["1-10C", "2-20C"], ["1-10C", "1-10C"]])
async def test_the_entry_of_a_pod_that_runs_is_written_again_when_its_gpunode_was_deleted(
    sizes: list[str], agent_ends: bool, successor: bool
) -> None:
    world, checkpoint, journal = World(), Checkpoint(), FileJournal()
    machine = Hardware("n1", [MODELS["H100-80GB"]], Mode.VGPU_VFIO)
    await world.api.create(NODES, {"metadata": {"name": "n1"}})
    settings = msgspec.structs.replace(QUICK, http_timeout_seconds=10.0)

    async with contextlib.AsyncExitStack() as lives:
        extenders, agents = contextlib.AsyncExitStack(), contextlib.AsyncExitStack()
        await lives.enter_async_context(extenders)
        await lives.enter_async_context(agents)
        extender = await extenders.enter_async_context(world.extender(settings))
        await agents.enter_async_context(serving(world, machine, checkpoint, journal, "life_1"))
        pod = await run(world, extender, *sizes)
        before = await world.gpu_node("n1")
        if successor:
            await extenders.aclose()
        await world.api.delete(GPU_NODES, "n1")
        if successor:
            await world.api.create(GPU_NODES, {"metadata": {"name": "n1"}, "spec": {}})
        await told_again(world)
        if agent_ends:
            await agents.aclose()
            await agents.enter_async_context(serving(world, machine, checkpoint, journal, "life_2"))
        if successor:
            extender = await extenders.enter_async_context(world.extender(settings))
        await world.plan_holds(len(sizes), "n1")
        views, ids = extender.knowledge.views, {each.id for each in before.spec.assignments}
        await until(lambda: views["n1"].realized(ids))

        after = await world.gpu_node("n1")
        assert after.metadata.uid != before.metadata.uid
        assert sorted(map(as_before, after.spec.assignments)) == sorted(
            map(as_before, before.spec.assignments)
        )
        assert set(after.status.realized) == set(before.status.realized), "of the same slots"
        (board,) = machine.gpus
        assert all(users == {pod.uid} for users in board.clients.values())

        await world.api.delete(PODS, "new", namespace="default", grace_seconds=0)
        await until(lambda: not board.instances)
        await world.plan_holds(0, "n1")


async def told_again(world: World) -> None:
    """Wait until the agent has told of the node in the object made anew."""

    async def told() -> bool:
        try:
            return bool((await world.gpu_node("n1")).status.gpus)
        except NotFound:
            return False

    await until(told)


def as_before(entry: Assignment) -> tuple[object, ...]:
    """Return all of an entry but when it was written."""
    return (entry.id, entry.gpu, entry.profile_id, entry.start, entry.size, entry.resource) + (
        (entry.pod.uid, entry.owner) if entry.pod else ()
    )


async def test_what_is_lost_is_not_written_for_a_pod_that_only_says_it_was_its(
    world: World,
) -> None:
    """Somebody else's GPU instance is told with its holder; whoever's annotation names it."""
    pod = await running(world)
    await running(world, "thief")
    there = msgspec.structs.replace(held_by(pod), assignment="a")
    stolen = Decision("a", "GPU-0", "1g.10gb", 19, 3, 1, VGPU + "1-10C")
    await world.api.patch(
        PODS,
        "thief",
        {
            "metadata": {
                "annotations": {keys.DECISION_ANNOTATION: msgspec.json.encode([stolen]).decode()}
            }
        },
        patch_type=PatchType.MERGE,
        namespace="default",
    )
    await tell(world, there)
    async with world.extender() as extender:
        await world.plan_holds(1)
        await swept(extender)

    (entry,) = (await world.gpu_node("node-1")).spec.assignments
    assert (entry.id, entry.pod) == ("a", pod)


async def test_an_id_that_the_plan_has_elsewhere_is_not_given_twice(world: World) -> None:
    pod = await running(world)
    entry = msgspec.structs.replace(assignment("a", 19, 5, pod=pod.uid), pod=pod)
    await world.api.patch(
        GPU_NODES,
        "node-1",
        [{"op": "add", "path": "/spec", "value": {"assignments": [entry]}}],
        patch_type=PatchType.JSON,
    )
    await tell(world, msgspec.structs.replace(held_by(pod), assignment="a"))
    async with world.extender() as extender:
        await world.plan_holds(2)
        await swept(extender)

    first, second = (await world.gpu_node("node-1")).spec.assignments
    assert (first.id, second.start) == ("a", 3)
    assert second.id != "a"


async def test_an_id_that_two_instances_are_told_by_is_given_once(world: World) -> None:
    pod = await running(world)
    there = [msgspec.structs.replace(held_by(pod, at), assignment="a") for at in (3, 5)]
    await tell(world, *there)
    async with world.extender():
        await world.plan_holds(2)

    first, second = (await world.gpu_node("node-1")).spec.assignments
    assert (first.id, first.start, second.start) == ("a", 3, 5)
    assert second.id != "a"


async def test_from_its_discovery_to_its_end_an_old_vm_is_like_any_other() -> None:
    """The extender and the agent together, on a node where a VM has run for long."""
    world = World()
    machine = Hardware("n1", [MODELS["H100-80GB"]], Mode.VGPU_VFIO)
    (board,) = machine.gpus
    gi_id = board.create(19, Placement(3, 1))
    await world.api.create(NODES, {"metadata": {"name": "n1"}})
    old = await running(world, node="n1")
    checkpoint = Checkpoint()
    holder = Holder(VGPU + "1-10C", board.device(gi_id).id, old)
    checkpoint.admitted[old.uid] = Admitted((), machine.boot_id, (holder,))
    machine.open(board.uuid, gi_id, old.uid)
    settings = msgspec.structs.replace(QUICK, http_timeout_seconds=10.0)
    async with (
        world.extender(settings) as extender,
        serving(world, machine, checkpoint, FileJournal(), "life"),
    ):
        views = extender.knowledge.views
        await until(lambda: "n1" in views and views["n1"].node.status.realized)
        await run(world, extender, "1-10C")
        assert board.clients[gi_id] == {old.uid}

        await world.api.delete(PODS, "old", namespace="default", grace_seconds=0)
        await until(lambda: gi_id not in board.instances)
        await world.plan_holds(1, "n1")
