"""What pods had in a plan that was deleted is taken until it is written again, or given up."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from extender.cluster import KubernetesCluster
from extender.policy import InForce, PolicyName
from extender.policy.file import parsed
from extender.service import Service
from extender.service.plans import Plans
from extender.service.ports import ClusterUnavailable
from nodeagent.api.gpunode import Assignment, PodRef
from nodeagent.apiserver.protocol import GPU_NODES, PODS
from tests.builders import gpu_node
from tests.fakes.world import World, bind_args, filter_args
from tests.unit.extender.test_restoring import deleted, planned, swept, without_answers
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

WHOLE = "7-80C"
SMALL = "1-10C"
CAPPED = """\
apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
tenants: [{name: red, namespaces: {matchLabels: {team: red}}, caps: {memorySlices: 1}}]
"""


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


async def made_by_hand(world: World, *entries: Assignment) -> None:
    """Make the GpuNode of node-1 anew, as its agent tells of it at once."""
    body = {"metadata": {"name": "node-1"}, "spec": {"assignments": list(entries)}}
    await world.api.create(GPU_NODES, msgspec.to_builtins(body))
    await world.report("node-1", gpu_node("node-1").status)


@contextlib.asynccontextmanager
async def lost(
    world: World, *entries: Assignment, policy: InForce | PolicyName = PolicyName.DEFAULT
) -> AsyncIterator[Service]:
    """Run an extender that has lost *entries* of node-1, whose plan is empty.

    Until the block ends no pod can be read, and nothing is written again.
    """
    async with world.extender(policy=policy) as extender:
        views = extender.knowledge.views
        await until(lambda: views["node-1"].node.spec.assignments == entries)
        with without_answers(world):
            await deleted(world)
            await made_by_hand(world)
            await until(lambda: "node-1" in views and views["node-1"].usable)
            yield extender


@pytest.mark.parametrize("bound", ["node-1", ""], ids=["bound", "not bound yet"])
async def test_nobody_else_gets_it_before_it_is_written_again(world: World, bound: str) -> None:
    entry = await planned(world, "a", bound=bound)
    other = await world.add_pod("b", WHOLE)
    async with lost(world, entry) as extender:
        answer = extender.hooks.filter(filter_args(other, "node-1"))
        told = await extender.binder.bind(bind_args(other, "node-1"))
        meanwhile = (await world.gpu_node("node-1")).spec.assignments
        world.api.disturbance = None
        await world.plan_holds(1)
        await swept(extender)

    assert not answer.node_names
    assert told.error
    assert not meanwhile
    assert (await world.gpu_node("node-1")).spec.assignments == (entry,)


async def test_the_pod_itself_may_have_its_place_meanwhile(world: World) -> None:
    entry = await planned(world, "a", bound="")
    pod = await world.pod("a")
    assert pod is not None
    async with lost(world, entry) as extender:
        assert extender.hooks.filter(filter_args(pod, "node-1")).node_names == ("node-1",)
        await extender.binder.bind(bind_args(pod, "node-1"))
        (again,) = (await world.gpu_node("node-1")).spec.assignments

        assert again.pod == entry.pod
        assert not extender.knowledge.lost
        assert not extender.knowledge.ledger.lost, "it is in the plan now"


async def test_who_waits_for_it_is_woken_as_soon_as_nobody_comes_back_for_it(world: World) -> None:
    entry = await planned(world, "a")
    other = await world.add_pod("b", WHOLE)
    async with lost(world, entry) as extender:
        assert not extender.hooks.filter(filter_args(other, "node-1")).node_names
        await until(lambda: not extender.knowledge.room.is_set())
        extender.knowledge.forget_lost("node-1", uid(entry))

        assert extender.knowledge.room.is_set()
        assert extender.hooks.filter(filter_args(other, "node-1")).node_names == ("node-1",)


async def test_no_plan_is_written_over_it_whoever_decided_that_and_what_is_so_is(
    world: World,
) -> None:
    entry = await planned(world, "a")
    other = msgspec.structs.replace(entry, id="b", pod=PodRef("default", "b", "uid-b"))
    own = msgspec.structs.replace(entry, id="again")
    async with lost(world, entry) as extender:
        plans = Plans(extender.knowledge, KubernetesCluster(world.api))

        async def write(of: Assignment) -> None:
            await plans.write(extender.knowledge.views["node-1"], add=[of])

        for obstacle in (other, msgspec.structs.replace(other, pod=None)):
            with pytest.raises(ClusterUnavailable, match="written again first") as why:
                await write(obstacle)
            assert why.value.undone
        await write(own)
        await until(lambda: not extender.knowledge.ledger.lost)
        await plans.write(extender.knowledge.views["node-1"], remove=[own.id])
        with pytest.raises(ClusterUnavailable, match="on its way"):
            await write(other)  # its kubelet might be given what is made for that
        await world.api.delete(PODS, "a", namespace="default")
        await until(lambda: not [*extender.knowledge.arriving.on("node-1", within=60.0)])
        await write(other)

    assert (await world.gpu_node("node-1")).spec.assignments == (other,)


async def test_what_agents_tell_of_is_so_whatever_was_lost(world: World) -> None:
    entry = await planned(world, "a")
    other = msgspec.structs.replace(entry, id="b", pod=PodRef("default", "b", "uid-b"))
    async with lost(world, entry) as extender:
        plans = Plans(extender.knowledge, KubernetesCluster(world.api))
        await plans.write(extender.knowledge.views["node-1"], add=[other], told=True)

        assert not extender.knowledge.lost


async def test_where_there_is_no_plan_nothing_is_taken(world: World) -> None:
    entry = await planned(world, "a")
    async with world.extender() as extender:
        await until(lambda: extender.knowledge.assigned.get(uid(entry)) == "node-1")
        with without_answers(world):
            await deleted(world)
            await until(lambda: "node-1" in extender.knowledge.lost)

            assert not extender.knowledge.ledger.nodes


async def test_it_counts_for_its_tenant_until_then(world: World) -> None:
    await world.add_namespace("default", team="red")
    entry = await planned(world, "a")
    other = await world.add_pod("b", SMALL)
    async with lost(world, entry, policy=parsed(CAPPED.encode(), "rules").in_force) as extender:
        meanwhile = extender.hooks.filter(filter_args(other, "node-1"))
        extender.knowledge.forget_lost("node-1", uid(entry))
        afterwards = extender.hooks.filter(filter_args(other, "node-1"))

    assert "cap" in meanwhile.failed_and_unresolvable_nodes["node-1"]
    assert afterwards.node_names == ("node-1",)


async def test_a_replica_that_begins_to_lead_goes_by_it_from_its_first_answer(
    world: World,
) -> None:
    entry = await planned(world, "a")
    other = await world.add_pod("b", WHOLE)
    async with lost(world, entry) as extender:
        extender.knowledge.begin_term()

        assert not extender.hooks.filter(filter_args(other, "node-1")).node_names


def uid(entry: Assignment) -> str:
    assert entry.pod is not None
    return entry.pod.uid
