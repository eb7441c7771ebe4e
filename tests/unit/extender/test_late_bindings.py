"""Bindings, and writes of a plan, that come long after their sender has given up."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster import objects
from extender.cluster.door import KubernetesCluster, plan_patch
from extender.request import NotOurs
from extender.service.ports import ClusterUnavailable, PodFacts
from nodeagent.api import keys
from nodeagent.api.gpunode import GpuNode, PodRef
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    PODS,
    Conflict,
    Invalid,
    PatchType,
    Refused,
    Unavailable,
)
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

HASTY = msgspec.structs.replace(QUICK, http_timeout_seconds=0.4)


@pytest.fixture
async def world() -> World:
    made = World()
    for name in ("node-1", "node-2"):
        await made.add_node(name)
    return made


class Lost:
    """Loses every Binding of a pod on its way; each may come yet, as it was posted."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self.versions: list[str] = []
        world.api.disturbance = self

    async def __call__(self, call: Call) -> None:
        if call.subresource == "binding" and not call.done:
            # What was posted is for the pod as it is: nobody else has changed it.
            pod = await self._world.pod(self._name)
            assert pod is not None
            self.versions.append(pod["metadata"]["resourceVersion"])
            raise Unavailable(0, "no answer within 1 s")

    async def arrive(self, node: str) -> None:
        """Have all of them come now."""
        self._world.api.disturbance = None
        for version in self.versions:
            await bound_late(self._world, self._name, node, version)


async def bound_late(world: World, name: str, node: str, version: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "resourceVersion": version},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
    await world.api.create(PODS, body, namespace="default", name=name, subresource="binding")


async def test_a_late_binding_does_not_bind_a_pod_that_went_elsewhere_meanwhile(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "7-80C")
    async with world.extender(HASTY) as extender, world.obedient("node-1"):
        lost = Lost(world, "vm")
        assert (await extender.binder.bind(bind_args(pod, "node-1"))).error
        world.api.disturbance = None
        assert (await extender.binder.bind(bind_args(pod, "node-2"))).error  # nobody makes it there

        assert lost.versions
        with pytest.raises(Conflict):
            await lost.arrive("node-1")

    assert await world.bound("vm") == ""
    assert (await world.gpu_node("node-1")).spec.assignments == ()
    assert len((await world.gpu_node("node-2")).spec.assignments) == 1


async def test_a_late_binding_does_not_bind_a_pod_that_did_not_come_back_in_time(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "7-80C")
    hasty = msgspec.structs.replace(HASTY, reservation_seconds=0.1)
    async with world.extender(hasty) as extender, world.obedient("node-1"):
        lost = Lost(world, "vm")
        await extender.binder.bind(bind_args(pod, "node-1"))
        world.api.disturbance = None
        await world.plan_holds(0)

        with pytest.raises(Conflict):
            await lost.arrive("node-1")

    assert await world.bound("vm") == ""


async def test_a_late_binding_does_not_bind_a_member_of_a_gang_that_has_been_withdrawn(
    world: World,
) -> None:
    gang = {keys.GANG: "g", keys.GANG_SIZE: "2"}
    pods = [await world.add_pod(name, "7-80C", annotations=gang) for name in ("a", "b")]
    nodes = ("node-1", "node-2")
    async with world.extender(HASTY) as extender, world.obedient(*nodes):
        for pod in pods:
            extender.hooks.filter(filter_args(pod, *nodes))
        await until(lambda: all(p["metadata"]["uid"] in extender.knowledge.assigned for p in pods))
        lost = Lost(world, "a")
        place = extender.knowledge.assigned[pods[0]["metadata"]["uid"]]
        binds = [
            extender.binder.bind(
                bind_args(pod, extender.knowledge.assigned[pod["metadata"]["uid"]])
            )
            for pod in pods
        ]
        await asyncio.gather(*binds)
        assert lost.versions
        world.api.disturbance = None
        await world.delete_pod(pods[1])
        await until(lambda: pods[0]["metadata"]["uid"] not in extender.knowledge.assigned)

        with pytest.raises(Conflict):
            await bound_late(world, "a", place, lost.versions[0])


async def test_a_pod_that_changed_since_it_was_seen_is_bound_as_it_is_now(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    changed = 0

    async def change_it(call: Call) -> None:
        nonlocal changed
        if call.subresource == "binding" and not call.done and not changed:
            changed += 1
            await world.api.patch(
                PODS,
                "vm",
                {"metadata": {"labels": {"by": "somebody"}}},
                patch_type=PatchType.MERGE,
                namespace="default",
            )

    async with world.extender() as extender, world.obedient("node-1"):
        world.api.disturbance = change_it
        assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""

    assert changed == 1
    assert await world.bound("vm") == "node-1"


async def test_a_place_is_kept_while_it_is_not_certain_that_none_comes(world: World) -> None:
    pod = await world.add_pod("vm", "7-80C")

    async def change_nothing(call: Call) -> None:
        if (call.verb, call.kind) == ("patch", PODS) and not call.done:
            raise Unavailable(500, "etcdserver: request timed out")

    hasty = msgspec.structs.replace(HASTY, reservation_seconds=0.1)
    async with world.extender(hasty) as extender:
        world.api.disturbance = change_nothing
        await extender.binder.bind(bind_args(pod, "node-1"))
        answer = await extender.binder.bind(bind_args(pod, "node-2"))
        assert "request timed out" in answer.error
        assert len((await world.gpu_node("node-1")).spec.assignments) == 1

        world.api.disturbance = None
        await world.plan_holds(0)


@pytest.mark.parametrize("refused", [Refused(403, "no"), Invalid(422, "too long")], ids=str)
async def test_where_pods_may_not_be_changed_the_place_is_given_back_all_the_same(
    world: World, capsys: pytest.CaptureFixture[str], refused: Refused | Invalid
) -> None:
    pod = await world.add_pod("vm", "7-80C")

    async def forbid(call: Call) -> None:
        if (call.verb, call.kind) == ("patch", PODS) and not call.done:
            raise refused

    hasty = msgspec.structs.replace(HASTY, reservation_seconds=0.1)
    async with world.extender(hasty) as extender:
        world.api.disturbance = forbid
        await extender.binder.bind(bind_args(pod, "node-1"))
        await world.plan_holds(0)

    assert "bindings_not_voided" in capsys.readouterr().out


async def test_a_pod_whose_place_is_being_taken_back_is_bound_to_entries_of_its_own(
    world: World,
) -> None:
    """The write that takes them back is on its way, while another extender comes to lead."""
    pod = await world.add_pod("vm", "7-80C")
    sent: list[GpuNode] = []

    async def hold_up(call: Call) -> None:
        if (call.verb, call.kind) == ("patch", GPU_NODES) and not call.subresource:
            sent.append(await world.gpu_node("node-1"))
            raise Unavailable(0, "no answer within 5 s")

    patient = msgspec.structs.replace(HASTY, reservation_seconds=1.0)
    async with world.extender(patient) as extender:
        await extender.binder.bind(bind_args(pod, "node-1"))
        world.api.disturbance = hold_up
        await until(lambda: bool(sent))
    world.api.disturbance = None
    (before,) = sent[0].spec.assignments

    async with world.extender() as extender, world.obedient("node-1"):
        assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""
        patch = plan_patch(sent[0], remove=[before.id])
        with pytest.raises((Conflict, Invalid)):
            await world.api.patch(GPU_NODES, "node-1", patch, patch_type=PatchType.JSON)

    assert await world.bound("vm") == "node-1"
    (after,) = (await world.gpu_node("node-1")).spec.assignments
    assert after.id != before.id
    assert (after.gpu, after.start, after.since) == (before.gpu, before.start, before.since)


async def test_nothing_is_posted_to_entries_that_are_being_taken_back(world: World) -> None:
    pod = await world.add_pod("vm", "7-80C")
    reclaimed = 0

    async def take_back(call: Call) -> None:
        nonlocal reclaimed
        if call.subresource == "binding" and not call.done and not reclaimed:
            reclaimed += 1
            (entry,) = (await world.gpu_node("node-1")).spec.assignments
            found = await world.pod("vm")
            assert found is not None
            said = f"{found['metadata']['resourceVersion']} {entry.id}"
            await world.api.patch(
                PODS,
                "vm",
                {"metadata": {"annotations": {keys.UNBOUND_ANNOTATION: said}}},
                patch_type=PatchType.MERGE,
                namespace="default",
            )

    async with world.extender() as extender, world.obedient("node-1"):
        world.api.disturbance = take_back
        answer = await extender.binder.bind(bind_args(pod, "node-1"))
        assert "was being given back" in answer.error
        assert await world.bound("vm") == ""
        assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""

    assert await world.bound("vm") == "node-1"


async def test_all_that_a_pod_has_is_said_to_be_taken_back_wherever_it_is(world: World) -> None:
    """What is said of one node must not take back what was said of another."""
    pod = await world.add_pod("vm", "1-10C")
    patient = msgspec.structs.replace(HASTY, reservation_seconds=1.0)
    async with world.extender(patient) as extender:
        await extender.binder.bind(bind_args(pod, "node-1"))
        (one,) = (await world.gpu_node("node-1")).spec.assignments
        other = msgspec.structs.replace(one, id="other", gpu="GPU-0")
        await world.api.patch(
            GPU_NODES,
            "node-2",
            [{"op": "add", "path": "/spec", "value": {"assignments": [other]}}],
            patch_type=PatchType.JSON,
        )
        await until(lambda: len(extender.knowledge.assigned.nodes_of(uid(pod))) == 2)
        said: list[str] = []

        async def listen(call: Call) -> None:
            if (call.verb, call.kind, call.done) == ("patch", PODS, True):
                found = await world.pod("vm")
                assert found is not None
                said.append(found["metadata"]["annotations"][keys.UNBOUND_ANNOTATION])

        world.api.disturbance = listen
        await world.plan_holds(0)
        await world.plan_holds(0, "node-2")

    assert said
    assert {each for one_said in said[:1] for each in one_said.split(" ")[1:]} == {one.id, "other"}


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ("", 0),
        ("12345", 0),
        ("12345 a b", 2),
        ("x " * 1000, 128),
        ("x" * 5000, 0),
    ],
    ids=["nothing", "no entry", "two entries", "far too many", "too long"],
)
async def test_what_a_pod_says_to_be_taken_back_is_bounded(
    world: World, said: str, ids: int
) -> None:
    await world.add_pod("vm", "1-10C", annotations={keys.UNBOUND_ANNOTATION: said})
    read = await KubernetesCluster(world.api).read_pod("default", "vm")

    assert read is not None
    assert len(read.giving_back) == ids


async def test_what_one_has_said_to_be_taken_back_stays_said_when_another_says_more(
    world: World,
) -> None:
    await world.add_pod("vm", "1-10C")
    cluster = KubernetesCluster(world.api)
    said = await cluster.read_pod("default", "vm")
    for entry in ("one", "other"):
        assert said is not None
        said = await cluster.void_bindings(said, [entry])

    assert said is not None
    assert {*said.giving_back} == {"one", "other"}


async def test_nothing_is_said_of_a_pod_that_has_changed_since_it_was_read(world: World) -> None:
    """Said late, it would make a Binding void that was posted since."""
    await world.add_pod("vm", "1-10C")
    cluster = KubernetesCluster(world.api)
    before = await cluster.read_pod("default", "vm")
    assert before is not None
    await cluster.void_bindings(before, ["one"])

    with pytest.raises(ClusterUnavailable):
        await cluster.void_bindings(before, ["other"])

    after = await cluster.read_pod("default", "vm")
    assert after is not None
    assert after.giving_back == ("one",)


@given(
    before=st.lists(st.text("0123456789abcdef", min_size=1, max_size=128), max_size=128),
    ids=st.sets(st.text("0123456789abcdef", min_size=1, max_size=128), max_size=64),
)
def test_all_that_is_taken_back_now_is_said_however_much_was_before(
    before: list[str], ids: set[str]
) -> None:
    ref = PodRef("default", "vm", "u")
    pod = PodFacts(ref, NotOurs(ref), giving_back=tuple(before))
    said = objects.unbound(pod, ids, "stamp")
    value = msgspec.json.encode({"metadata": {"annotations": {keys.UNBOUND_ANNOTATION: said}}})
    found = objects.pod(value, devices_per_pod=16).giving_back

    assert ids <= {*found} <= ids | {*before}
    assert len(found) == min(128, len(ids | {*before}))


async def test_a_pod_that_is_none_of_ours_is_never_changed(world: World) -> None:
    pod = await world.add_pod("web", schedulingGates=[{"name": "example.com/wait"}])
    async with world.extender(HASTY) as extender:
        answer = await extender.binder.bind(bind_args(pod, "node-1"))

    assert "could not be bound" in answer.error
    after = await world.pod("web")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == pod["metadata"]["resourceVersion"]


def uid(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["uid"])
