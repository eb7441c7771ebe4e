"""A GpuNode is deleted under pods: what they had is in the plan again as soon as there is one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from extender.cluster import KubernetesCluster, feed
from extender.ledger import Promise
from extender.service import Service
from extender.service.reclaim import IN_VAIN
from extender.snapshot import taken_by
from extender.succession import unwritten
from nodeagent.agent import Agent
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Assignment, GpuNode, Inventory, Mode, PodRef
from nodeagent.apiserver.history import Write
from nodeagent.apiserver.memory import Call, InMemoryApi
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    NODES,
    PODS,
    ApiError,
    Kind,
    NotFound,
    PatchType,
    Refused,
    Unavailable,
)
from nodeagent.journal_file import FileJournal
from nodeagent.simulated.driver import SimulatedDriver
from nodeagent.simulated.hardware import Hardware
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.builders import VGPU, assignment, instance, view
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

NO_ANSWER = Unavailable(0, "no answer")


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    await made.add_node("node-2")
    return made


async def planned(world: World, name: str, start: int = 3, *, bound: str = "node-1") -> Assignment:
    """Plan a place on node-1 for a new pod that is *bound* to a node, or to none; return it."""
    pod = await world.add_pod(name, "1-10C")
    if bound:
        binding = {"metadata": {"name": name}, "target": {"name": bound}}
        await world.api.create(PODS, binding, namespace="default", name=name, subresource="binding")
    entry = msgspec.structs.replace(
        assignment(f"id-{name}", 19, start), pod=PodRef("default", name, pod["metadata"]["uid"])
    )
    before = (await world.gpu_node("node-1")).spec.assignments
    await write(world, *before, entry)
    return entry


async def write(world: World, *entries: Assignment) -> None:
    """Have the plan of node-1 say just that."""
    patch = [{"op": "add", "path": "/spec", "value": {"assignments": list(entries)}}]
    await world.api.patch(GPU_NODES, "node-1", patch, patch_type=PatchType.JSON)


async def seen(extender: Service, *entries: Assignment) -> None:
    views = extender.knowledge.views
    await until(lambda: "node-1" in views and views["node-1"].node.spec.assignments == entries)


async def made_anew(world: World, uid: str) -> GpuNode:
    """Wait for another GpuNode of node-1 than that of *uid*."""

    async def anew() -> bool:
        try:
            return (await world.gpu_node("node-1")).metadata.uid != uid
        except NotFound:
            return False

    await until(anew)
    return await world.gpu_node("node-1")


async def swept(extender: Service) -> None:
    """Let two whole sweeps pass."""
    for _ in range(2):
        extender.knowledge.arrivals.set()
        await until(lambda: not extender.knowledge.arrivals.is_set())


async def deleted(world: World) -> str:
    """Delete the GpuNode of node-1 by hand; return its UID."""
    uid = (await world.gpu_node("node-1")).metadata.uid
    await world.api.delete(GPU_NODES, "node-1")
    return uid


@pytest.mark.parametrize("bound", ["node-1", ""], ids=["bound", "not bound yet"])
async def test_the_plan_begins_with_what_its_pods_had(world: World, bound: str) -> None:
    first, second = await planned(world, "a", 3), await planned(world, "b", 5, bound=bound)
    plans = _plans_of(world)
    async with world.extender() as extender:
        await seen(extender, first, second)
        plans.clear()
        await made_anew(world, await deleted(world))
        await swept(extender)

    assert all(set(each.spec.assignments) == {first, second} for each in plans)
    assert plans, "and never says less"


@pytest.mark.parametrize("end", ["deleted", "made again", "over", "bound elsewhere"])
async def test_a_pod_that_can_use_it_no_more_gets_nothing_back(world: World, end: str) -> None:
    stays = await planned(world, "stays", 5)
    leaves = await planned(world, "leaves", 3, bound="" if end == "bound elsewhere" else "node-1")
    async with world.extender() as extender:
        await seen(extender, stays, leaves)
        uid = await deleted(world)
        match end:
            case "deleted" | "made again":
                await world.api.delete(PODS, "leaves", namespace="default", grace_seconds=0)
                if end == "made again":
                    await world.add_pod("leaves", "1-10C")
            case "over":
                await world.api.patch(
                    PODS,
                    "leaves",
                    {"status": {"phase": "Failed"}},
                    patch_type=PatchType.MERGE,
                    namespace="default",
                    subresource="status",
                )
            case "bound elsewhere":
                binding = {"metadata": {"name": "leaves"}, "target": {"name": "node-2"}}
                await world.api.create(
                    PODS, binding, namespace="default", name="leaves", subresource="binding"
                )
        node = await made_anew(world, uid)
        await swept(extender)

    assert node.spec.assignments == (stays,)
    assert (await world.gpu_node("node-1")).spec.assignments == (stays,)
    assert not extender.knowledge.lost


@pytest.mark.parametrize("bound", [False, True])
async def test_a_pod_with_another_place_by_now_gets_its_old_one_only_if_it_is_bound_there(
    world: World, bound: bool
) -> None:
    entry = await planned(world, "a", bound="node-1" if bound else "")
    async with world.extender() as extender:
        await seen(extender, entry)
        with without_answers(world):
            uid = await deleted(world)
            await until(lambda: "node-1" in extender.knowledge.lost)
            patch = [{"op": "add", "path": "/spec", "value": {"assignments": [entry]}}]
            await world.api.patch(GPU_NODES, "node-2", patch, patch_type=PatchType.JSON)
            await until(lambda: extender.knowledge.assigned.nodes_of(_uid(entry)) == ("node-2",))
        node = await made_anew(world, uid)

    assert node.spec.assignments == ((entry,) if bound else ())


async def test_what_a_pod_has_lost_where_it_is_bound_comes_back_whatever_it_had_elsewhere(
    world: World,
) -> None:
    stale = await planned(world, "a", bound="node-2")
    here = msgspec.structs.replace(stale, id="here")
    await write(world)
    patch = [{"op": "add", "path": "/spec", "value": {"assignments": [here]}}]
    await world.api.patch(GPU_NODES, "node-2", patch, patch_type=PatchType.JSON)
    async with world.extender() as extender:
        await until(lambda: extender.knowledge.assigned.nodes_of(_uid(here)) == ("node-2",))
        with without_answers(world):
            await world.api.delete(GPU_NODES, "node-2")
            await until(lambda: extender.knowledge.lost.keys() == {"node-2"})
            world.api.disturbance = _nothing_made
            uid = await deleted(world)
            await until(lambda: "node-1" not in extender.knowledge.views)
            # As one remembers that has only watched while the pod got another place.
            extender.knowledge.lost["node-1"] = {stale: extender.knowledge.clock()}
        node = await made_anew(world, uid)
        await until(lambda: "node-2" in extender.knowledge.views)

    assert not node.spec.assignments
    assert (await world.gpu_node("node-2")).spec.assignments == (here,)


@pytest.mark.parametrize("end", ["bound", "bind under way", "unbound"])
async def test_what_a_pod_has_reserved_comes_back_for_the_rest_of_its_time_alone(
    world: World, end: str
) -> None:
    entry = await planned(world, "a", bound="node-1" if end == "bound" else "")
    settings, plans = msgspec.structs.replace(QUICK, reservation_seconds=1.0), _plans_of(world)
    async with world.extender(settings) as extender, contextlib.AsyncExitStack() as under_way:
        if end == "bind under way":
            under_way.enter_context(extender.binder.underway.bind(_uid(entry)))
        await seen(extender, entry)
        reserved = extender.knowledge.assigned.since(_uid(entry), "node-1")
        await until(lambda: extender.knowledge.clock() > reserved + 0.6)
        world.api.disturbance = _nothing_made
        uid = await deleted(world)
        await until(lambda: extender.knowledge.clock() > reserved + 1.0)
        plans.clear()
        world.api.disturbance = None
        await made_anew(world, uid)
        await swept(extender)

    stays = end != "unbound"
    assert [each.spec.assignments for each in plans] == [(entry,) if stays else ()]
    assert not extender.knowledge.lost


async def test_a_reservation_that_is_written_again_is_as_old_as_it_was(world: World) -> None:
    entry = await planned(world, "a", bound="")
    settings = msgspec.structs.replace(QUICK, reservation_seconds=1.0)
    async with world.extender(settings) as extender:
        await seen(extender, entry)
        reserved = extender.knowledge.assigned.since(_uid(entry), "node-1")
        await until(lambda: extender.knowledge.clock() > reserved + 0.6)
        await made_anew(world, await deleted(world))
        await seen(extender, entry)

        assert extender.knowledge.assigned.since(_uid(entry), "node-1") == reserved
        await world.plan_holds(0)
        assert extender.knowledge.clock() < reserved + 1.1


async def test_a_place_chosen_anew_where_an_old_one_was_lost_is_new(world: World) -> None:
    old = await planned(world, "a", 3, bound="")
    new = msgspec.structs.replace(old, id="new", start=5)
    async with world.extender() as extender:
        await seen(extender, old)
        reserved = extender.knowledge.assigned.since(_uid(old), "node-1")
        await until(lambda: extender.knowledge.clock() > reserved + 0.6)
        with without_answers(world):
            await deleted(world)
            body = {"metadata": {"name": "node-1"}, "spec": {"assignments": [new]}}
            await world.api.create(GPU_NODES, msgspec.to_builtins(body))
            await seen(extender, new)

        assert extender.knowledge.assigned.since(_uid(old), "node-1") > reserved


@pytest.mark.parametrize("event", ["planned elsewhere", "ended", "bound elsewhere"])
async def test_what_comes_to_be_known_of_a_pod_after_it_was_read_counts(
    world: World, event: str
) -> None:
    """It is read at once with another, whose answer is long in coming."""
    first, last = await planned(world, "first", 3, bound=""), await planned(world, "last", 5)
    read, going_on = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        if (call.verb, call.kind, call.name) == ("get", PODS, "first") and call.done:
            read.set()
        if (call.verb, call.kind, call.name) == ("get", PODS, "last"):
            await going_on.wait()

    plans = _plans_of(world)
    async with world.extender() as extender:
        await seen(extender, first, last)
        plans.clear()
        world.api.disturbance = slow
        uid = await deleted(world)
        await read.wait()
        match event:
            case "planned elsewhere":
                patch = [{"op": "add", "path": "/spec", "value": {"assignments": [first]}}]
                await world.api.patch(GPU_NODES, "node-2", patch, patch_type=PatchType.JSON)
                known = extender.knowledge.assigned
                await until(lambda: known.nodes_of(_uid(first)) == ("node-2",))
            case "ended":
                status = {"status": {"phase": "Failed"}}
                await world.api.patch(
                    *(PODS, "first", status),
                    patch_type=PatchType.MERGE,
                    namespace="default",
                    subresource="status",
                )
                await until(lambda: extender.knowledge.pods[_uid(first)].over)
            case "bound elsewhere":
                binding = {"metadata": {"name": "first"}, "target": {"name": "node-2"}}
                await world.api.create(
                    PODS, binding, namespace="default", name="first", subresource="binding"
                )
                await until(lambda: bool(extender.knowledge.pods[_uid(first)].node))
        going_on.set()
        await made_anew(world, uid)

    assert [each.spec.assignments for each in plans] == [(last,)]


@pytest.mark.parametrize("bound", [False, True])
async def test_what_is_being_promised_goes_before_who_is_not_bound(
    world: World, bound: bool
) -> None:
    entry = await planned(world, "a", 3, bound="node-1" if bound else "")
    async with world.extender() as extender:
        knowledge, other = extender.knowledge, Promise("node-1", (taken_by(entry),))
        await seen(extender, entry)
        knowledge.ledger = knowledge.ledger.assume("another", other)
        await made_anew(world, await deleted(world))
        await swept(extender)
        meanwhile = (await world.gpu_node("node-1")).spec.assignments
        knowledge.ledger = knowledge.ledger.forget("another")
        await swept(extender)
        await world.plan_holds(1)

    assert meanwhile == ((entry,) if bound else ())


def _plans_of(world: World) -> list[GpuNode]:
    """Return a list of every state of node-1's GpuNode that is written from here on."""
    plans: list[GpuNode] = []

    def saw(kind: Kind, write: Write) -> None:
        if kind == GPU_NODES and write.key[1] == "node-1" and write.after is not None:
            plans.append(msgspec.json.decode(write.after.raw, type=GpuNode))

    world.api.witnessed_by(saw)
    return plans


async def _nothing_made(call: Call) -> None:
    if call.verb == "create" or call.kind == PODS:
        raise NO_ANSWER


async def test_while_no_answer_comes_few_nodes_are_tried(world: World) -> None:
    names = [f"node-{number}" for number in range(1, 1 + 4 * IN_VAIN)]
    for name in names[2:]:
        await world.add_node(name)
    asked: list[str] = []

    async def no_answer(call: Call) -> None:
        if (call.verb, call.kind) == ("create", GPU_NODES):
            asked.append(str(call))
            raise NO_ANSWER

    async with world.extender() as extender:
        await until(lambda: extender.knowledge.views.keys() == set(names))
        world.api.disturbance = no_answer
        for name in names:
            await world.api.delete(GPU_NODES, name)
        await until(lambda: not extender.knowledge.views)
        await swept(extender)
        asked.clear()
        await swept(extender)
        assert 0 < len(asked) <= 3 * IN_VAIN, "a third sweep may have begun"
        world.api.disturbance = None
        await until(lambda: extender.knowledge.views.keys() == set(names))


async def test_no_plan_is_made_without_its_pods_while_these_cannot_be_read(world: World) -> None:
    entry = await planned(world, "a")
    async with world.extender() as extender:
        await seen(extender, entry)
        with without_answers(world):
            uid = await deleted(world)
            await until(lambda: "node-1" in extender.knowledge.lost)
            await swept(extender)
            with pytest.raises(NotFound):
                await world.gpu_node("node-1")
        node = await made_anew(world, uid)

    assert node.spec.assignments == (entry,)


async def test_a_pod_that_can_never_be_read_keeps_no_other_from_its_place(world: World) -> None:
    read, unread = await planned(world, "read", 3), await planned(world, "unread", 5)
    async with world.extender() as extender:
        await seen(extender, read, unread)
        with without_answers(world, Refused(403, "not yours"), of="unread"):
            uid = await deleted(world)
            node = await made_anew(world, uid)
            assert node.spec.assignments == (read,)
        await world.plan_holds(2)

    assert set((await world.gpu_node("node-1")).spec.assignments) == {read, unread}


async def test_a_pod_whose_bindings_cannot_be_voided_keeps_its_place_and_no_other_from_its_own(
    world: World,
) -> None:
    stays, over = await planned(world, "stays", 3), await planned(world, "over", 5, bound="")
    settings = msgspec.structs.replace(QUICK, reservation_seconds=1.0)
    refused = 0

    async def refuse(call: Call) -> None:
        nonlocal refused
        if (call.verb, call.kind) == ("patch", PODS):
            refused += 1
            raise Unavailable(500, "a webhook for pods does not answer")

    async with world.extender(settings) as extender:
        await seen(extender, stays, over)
        world.api.disturbance = refuse
        reserved = extender.knowledge.assigned.since(_uid(over), "node-1")
        await until(lambda: extender.knowledge.clock() > reserved + 1.0)
        await made_anew(world, await deleted(world))
        await seen(extender, stays)
        assert refused
        assert [*extender.knowledge.lost["node-1"]] == [over], "it may be bound there yet"

        world.api.disturbance = None
        await until(lambda: not extender.knowledge.lost)

    assert (await world.gpu_node("node-1")).spec.assignments == (stays,)


@pytest.mark.parametrize("bound", ["node-1", ""], ids=["bound", "not bound yet"])
async def test_nothing_else_is_placed_on_a_node_before_its_pods_have_theirs_again(
    world: World, bound: str
) -> None:
    """One that is with its kubelet already would be given what is made for the other."""
    mine = await planned(world, "mine", 3, bound=bound)
    pod = await world.add_pod("other", "1-10C")
    async with world.extender() as extender:
        await seen(extender, mine)
        status = (await world.gpu_node("node-1")).status
        with without_answers(world, of="mine"):
            await deleted(world)
            await made_by_hand(world, status)
            await until(lambda: extender.knowledge.views["node-1"].reported)
            answer = await extender.binder.bind(bind_args(pod, "node-1"))
            assert "is to be written again first" in answer.error
            assert (await world.gpu_node("node-1")).spec.assignments == ()
        await seen(extender, mine)


async def test_one_that_runs_keeps_others_from_its_place_alone(world: World) -> None:
    mine = await planned(world, "mine", 3)
    pod = await world.add_pod("other", "1-10C")
    patch = {"status": {"phase": "Running"}}
    await world.api.patch(
        PODS,
        "mine",
        patch,
        patch_type=PatchType.MERGE,
        namespace="default",
        subresource="status",
    )
    async with world.extender() as extender, world.obedient("node-1"):
        await seen(extender, mine)
        with without_answers(world, of="mine"):
            status = (await world.gpu_node("node-1")).status
            await deleted(world)
            await made_by_hand(world, status)
            await until(lambda: extender.knowledge.views["node-1"].reported)
            assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""
        await world.plan_holds(2)

    mine_again, other = sorted((await world.gpu_node("node-1")).spec.assignments, key=_uid)[:2]
    assert not mine_again.placement.mask & other.placement.mask


async def made_by_hand(world: World, status: Inventory) -> None:
    """Make the GpuNode of node-1 without a plan, with what its agent has told."""
    await world.api.create(GPU_NODES, {"metadata": {"name": "node-1"}})
    patch = [{"op": "add", "path": "/status", "value": status}]
    await world.api.patch(
        GPU_NODES, "node-1", patch, patch_type=PatchType.JSON, subresource="status"
    )


@contextlib.contextmanager
def without_answers(world: World, error: ApiError = NO_ANSWER, *, of: str = "") -> Iterator[None]:
    """Have no pod be read until the block ends, or not that one."""

    async def no_answer(call: Call) -> None:
        if (call.verb, call.kind) == ("get", PODS) and of in ("", call.name):
            raise error

    world.api.disturbance = no_answer
    try:
        yield
    finally:
        world.api.disturbance = None


async def test_where_somebody_else_was_faster_it_is_added(world: World) -> None:
    mine, taken = await planned(world, "mine", 3), await planned(world, "taken", 5)
    other = await planned(world, "other", 6)
    other = msgspec.structs.replace(other, start=5)
    await write(world, mine, taken)
    async with world.extender() as extender:
        await seen(extender, mine, taken)
        with without_answers(world):
            await deleted(world)
            body = {"metadata": {"name": "node-1"}, "spec": {"assignments": [other]}}
            await world.api.create(GPU_NODES, msgspec.to_builtins(body))
            await seen(extender, other)
        await world.plan_holds(2)
        await swept(extender)

    assert set((await world.gpu_node("node-1")).spec.assignments) == {other, mine}
    assert not extender.knowledge.lost, "what another has got is not written over"


async def test_of_a_pod_that_has_lost_one_of_its_instances_too_all_is_written_again(
    world: World,
) -> None:
    """Its agent tells of the other as of one to be adopted."""
    pod = await world.add_pod("two", "1-10C", "1-10C")
    binding = {"metadata": {"name": "two"}, "target": {"name": "node-1"}}
    await world.api.create(PODS, binding, namespace="default", name="two", subresource="binding")
    ref = PodRef("default", "two", pod["metadata"]["uid"])
    entries = tuple(
        msgspec.structs.replace(assignment(f"id-{start}", 19, start), pod=ref) for start in (3, 5)
    )
    await write(world, *entries)
    left = instance(19, 3, assignment="id-3", holder=ref, resource=VGPU + "1-10C")
    status = (await world.gpu_node("node-1")).status
    gpus = (msgspec.structs.replace(status.gpus[0], instances=(left,)),)

    async def unread_by_who_remembers(call: Call) -> None:
        task = asyncio.current_task()
        if call.verb == "get" and task is not None and task.get_name().startswith("restore-"):
            raise NO_ANSWER

    async with world.extender() as extender:
        await seen(extender, *entries)
        world.api.disturbance = unread_by_who_remembers
        await deleted(world)
        await world.api.create(GPU_NODES, {"metadata": {"name": "node-1"}})
        await world.report("node-1", msgspec.structs.replace(status, gpus=gpus))
        await swept(extender)
        assert (await world.gpu_node("node-1")).spec.assignments == ()
        world.api.disturbance = None
        await world.plan_holds(2)

    assert set((await world.gpu_node("node-1")).spec.assignments) == set(entries)


async def test_what_met_in_the_plan_that_is_gone_is_written_as_it_was(world: World) -> None:
    """Somebody has written such a plan by hand: neither pod keeps the other, or others, from it."""
    one, other = await planned(world, "one", 3), await planned(world, "other", 4)
    other = msgspec.structs.replace(other, start=3)
    third = await planned(world, "third", 6)
    await write(world, one, other, third)
    async with world.extender() as extender:
        await seen(extender, one, other, third)
        with without_answers(world):
            await deleted(world)
            await world.api.create(GPU_NODES, {"metadata": {"name": "node-1"}})
            await seen(extender)
        await world.plan_holds(3)

    assert set((await world.gpu_node("node-1")).spec.assignments) == {one, other, third}


async def test_a_replica_that_has_only_watched_writes_it_when_it_leads(world: World) -> None:
    entry = await planned(world, "a")
    loop = asyncio.get_running_loop()
    standby = Service(KubernetesCluster(world.api), QUICK, clock=loop.time)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(feed(world.api, standby.knowledge))
        await until(lambda: not standby.knowledge.freshness.not_ready())
        uid = await deleted(world)
        await until(lambda: "node-1" not in standby.knowledge.views)
        leading = tasks.create_task(standby.run())
        node = await made_anew(world, uid)
        watching.cancel()
        leading.cancel()

    assert node.spec.assignments == (entry,)


@contextlib.asynccontextmanager
async def serving(world: World, machine: Hardware) -> AsyncIterator[None]:
    """Let an agent serve a machine whose kubelet hears of no pod."""
    unheard = InMemoryApi()
    await unheard.create(NODES, {"metadata": {"name": machine.node}})
    agent = Agent(
        machine.node,
        api=world.api,
        driver=SimulatedDriver(machine),
        kubelet=SimulatedKubelet(unheard, machine),
        journal=FileJournal(),
        epoch="life",
    )
    running = asyncio.create_task(agent.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("sizes", [["1-10C"], ["1-10C", "2-20C"]])
async def test_the_instances_of_a_pod_that_its_kubelet_has_yet_to_admit_stay(
    sizes: list[str],
) -> None:
    world = World()
    machine = Hardware("n1", [MODELS["H100-80GB"]], Mode.VGPU_VFIO)
    (board,) = machine.gpus
    await world.api.create(NODES, {"metadata": {"name": "n1"}})
    settings = msgspec.structs.replace(QUICK, http_timeout_seconds=10.0)
    async with world.extender(settings) as extender, serving(world, machine):
        views = extender.knowledge.views
        await until(lambda: "n1" in views and views["n1"].usable)
        pod = await world.add_pod("new", *sizes)
        assert extender.hooks.filter(filter_args(pod, "n1")).node_names == ("n1",)
        assert (await extender.binder.bind(bind_args(pod, "n1"))).error == ""
        before, there = await world.gpu_node("n1"), dict(board.instances)
        ids = {each.id for each in before.spec.assignments}

        await world.api.delete(GPU_NODES, "n1")
        uid = before.metadata.uid
        await until(lambda: "n1" in views and views["n1"].node.metadata.uid != uid)
        await until(lambda: views["n1"].realized(ids))
        after = await world.gpu_node("n1")

    assert after.spec == before.spec
    assert set(after.status.realized) == set(before.status.realized), "of the same slots"
    assert board.instances.keys() == there.keys()
    assert all(each is there[id] for id, each in board.instances.items()), "nor made anew"


# What no plan says any more.


def of(uid: str, *entries: Assignment) -> Any:
    return view(plan=entries, uid=uid)


def test_what_pods_had_is_lost_with_its_object_and_found_with_the_next() -> None:
    entry, held = assignment("a", 19, 0, pod="p"), assignment("h", 19, 1, pod=None)
    before = of("1", entry, held)

    lost = unwritten((), before, None)
    assert tuple(lost) == (entry,), "a place that is held is nobody's"
    assert tuple(unwritten(lost, None, of("2"))) == (entry,)
    assert not unwritten(lost, None, of("2", entry))


def test_while_the_object_stays_nothing_is_lost_whatever_leaves_its_plan() -> None:
    assert not unwritten((), of("1", assignment("a", 19, 0)), of("1"))


def test_of_an_object_that_was_made_anew_unseen_what_it_lacks_is_lost() -> None:
    stays, goes = assignment("a", 19, 0, pod="p"), assignment("b", 19, 1, pod="q")

    assert tuple(unwritten((), of("1", stays, goes), of("2", stays))) == (goes,)


@pytest.mark.parametrize(
    "now", [("again", 19, 5, "p"), ("other", 14, 2, "q")], ids=["elsewhere there", "taken"]
)
def test_a_pod_placed_anew_or_whose_place_is_given_away_has_lost_it_for_good(
    now: tuple[str, int, int, str],
) -> None:
    id, profile, start, pod = now
    lost: Sequence[Assignment] = [
        assignment("a", 19, 3, pod="p"),
        assignment("b", 14, 0, pod="p", resource=VGPU + "2-20C"),
    ]

    assert not unwritten(lost, None, of("2", assignment(id, profile, start, pod=pod))), "all of it"


def test_what_was_lost_before_gives_way_to_what_was_promised_since() -> None:
    old, new = assignment("a", 19, 3, pod="p"), assignment("b", 14, 2, pod="q")

    assert tuple(unwritten((old,), of("2", new), None)) == (new,)


def _uid(entry: Assignment) -> str:
    assert entry.pod is not None
    return entry.pod.uid
