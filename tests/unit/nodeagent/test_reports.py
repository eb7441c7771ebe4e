"""What an agent tells of its node, and how seldom."""

from __future__ import annotations

import msgspec
import pytest

from nodeagent.agent import Agent
from nodeagent.api import keys
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import GPU_NODES, NODES, PatchType, Unavailable
from nodeagent.publish import Publisher
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.unit.nodeagent.builders import HALF, ONE, SEVEN, SMALL, THREE, WHOLE, assignment
from tests.unit.nodeagent.station import NAME, Station, owners


async def test_an_agent_reports_what_its_node_has(station: Station) -> None:
    async with station.serving():
        status = await station.until(lambda s: s.agent_epoch == "life-1")

    (gpu,) = status.gpus
    assert (gpu.uuid, gpu.model) == (station.gpu, "NVIDIA H100 80GB HBM3")
    assert status.geometries[gpu.geometry].memory_slices == 8
    assert {t.profile_id for t in status.vgpu_types[gpu.vgpu_types]} >= {ONE, THREE, SEVEN}
    assert (status.mode, status.simulated) == (Mode.VGPU_VFIO, True)
    assert (status.summary.free_slices, status.summary.largest_placeable) == (8, "7g.80gb")
    (ready,) = status.conditions
    assert (ready.type, ready.status) == ("Ready", "True")


async def test_an_agent_announces_itself_before_it_has_a_gpunode() -> None:
    station = Station()
    async with station.serving():
        await station.settle()
        lease = await station.lease()
        await station.api.create(NODES, {"metadata": {"name": NAME}})
        await station.create_gpu_node()
        await station.until(lambda s: bool(s.gpus))

    assert lease["metadata"]["labels"] == {keys.AGENT_LABEL: "true"}
    assert lease["spec"]["holderIdentity"] == "life-1"
    assert lease["spec"]["leaseDurationSeconds"] == 40
    assert lease["spec"]["renewTime"].endswith("Z")


async def test_a_restarted_agent_takes_over_the_lease(station: Station) -> None:
    for _ in range(2):
        async with station.serving():
            await station.settle()

    assert (await station.lease())["spec"]["holderIdentity"] == "life-2"


async def test_the_node_advertises_a_slot_for_all_it_could_ever_hold(station: Station) -> None:
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))

    node = msgspec.json.decode(await station.api.get(NODES, NAME))
    assert node["status"]["allocatable"][SMALL] == "7"
    assert node["status"]["capacity"][WHOLE] == "1"


async def test_the_whole_life_of_a_vm_costs_two_status_writes(station: Station) -> None:
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))
        before = station.status_writes

        await station.plan(assignment("a", station.gpu, profile=THREE))
        status = await station.until_realized("a")
        assert owners(status) == ["a"]
        await station.bind("a", {HALF: 1})
        await station.until_pod("a", "Running")
        await station.settle()
        assert station.status_writes == before + 1

        await station.delete_pod("a")
        await station.until_pod_gone("a")
        await station.settle()
        assert station.status_writes == before + 1

        await station.plan()
        status = await station.until_realized()
        await station.settle()

    assert owners(status) == []
    assert station.status_writes == before + 2
    assert status.observed_generation == (await station.gpu_node()).metadata.generation


async def test_pods_that_queue_for_a_resource_cost_no_more(station: Station) -> None:
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))
        before = station.status_writes
        pods = [await station.create_pod(f"{n}", {SMALL: 1}) for n in range(3)]
        plan = [
            assignment(f"{n}", station.gpu, start=n, since=f"{n}", of=pod)
            for n, pod in enumerate(pods)
        ]
        await station.plan(*plan)
        for n in range(3):
            await station.until_realized(*(str(m) for m in range(n + 1)))
            await station.bind_pod(f"{n}")
            await station.until_pod(f"{n}", "Running")
        await station.settle()

    assert station.status_writes == before + 3


async def test_what_came_and_went_behind_a_queue_is_told_after_a_bounded_delay(
    station: Station,
) -> None:
    """The extender holds its slices until it is told of a plan without it."""
    now = 0.0
    agent = Agent(
        NAME,
        api=station.api,
        driver=station.driver,
        kubelet=SimulatedKubelet(station.api, station.hardware),
        journal=station.journal,
        epoch="life",
        clock=lambda: now,
    )
    queue = [assignment(f"{n}", station.gpu, start=n, since=f"{n}") for n in range(2)]
    await station.plan(*queue)
    agent.heard(await station.gpu_node())
    await agent.converge()
    before = station.status_writes

    await station.plan(*queue, assignment("x", station.gpu, start=5, since="5"))
    await station.plan(*queue)
    agent.heard(await station.gpu_node())
    assert await agent.converge() == 30.0
    now = 20.0
    assert await agent.converge() == 10.0
    assert station.status_writes == before

    now = 30.0
    await agent.converge()
    status = await station.status()
    assert status.observed_generation == (await station.gpu_node()).metadata.generation
    assert [each.id for each in status.realized] == ["0"]

    now = 90.0
    await agent.converge()
    assert station.status_writes == before + 1


@pytest.mark.parametrize("done", [False, True])
async def test_a_write_without_an_answer_is_made_good(station: Station, done: bool) -> None:
    failed: list[Call] = []

    async def once(call: Call) -> None:
        told = call.subresource == "status" and call.kind == GPU_NODES and call.done is done
        if told and len(failed) < 2:
            failed.append(call)
            raise Unavailable(0, "no answer")

    station.api.disturbance = once
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")


async def test_what_was_told_without_an_answer_is_not_left_there_when_it_has_passed(
    station: Station,
) -> None:
    async def lose(call: Call) -> None:
        if call.subresource == "status" and call.kind == GPU_NODES and call.done:
            raise Unavailable(0, "the answer was lost")

    agent = Agent(
        NAME,
        api=station.api,
        driver=station.driver,
        kubelet=SimulatedKubelet(station.api, station.hardware),
        journal=station.journal,
        epoch="life",
    )
    agent.heard(await station.gpu_node())
    await agent.converge()
    (gpu,) = station.hardware.gpus
    gpu.unhealthy = "xid-79"
    station.api.disturbance = lose
    with pytest.raises(Unavailable):
        await agent.converge()
    station.api.disturbance = None
    assert (await station.status()).gpus[0].unhealthy == "xid-79"

    gpu.unhealthy = ""
    await agent.converge()

    assert (await station.status()).gpus[0].unhealthy == ""


async def test_a_status_written_whole_leaves_nothing_of_the_last_one(station: Station) -> None:
    async with station.serving():
        await station.plan(assignment("a", "GPU-x"))
        await station.until(lambda s: bool(s.failed))
        await station.plan()
        await station.until(lambda s: not s.failed)


async def test_what_an_older_write_has_taken_the_place_of_is_told_again(station: Station) -> None:
    async with station.serving():
        older = await station.until(lambda s: bool(s.gpus))
        await station.plan(assignment("a", station.gpu))
        newer = await station.until_realized("a")
        await station.tell(older)  # carried out when nobody waited for it any more
        again = await station.until_realized("a")

    assert again.sequence > newer.sequence


async def test_what_another_agent_tells_is_not_fought_over(station: Station) -> None:
    async with station.serving():
        status = await station.until(lambda s: bool(s.gpus))
        await station.tell(msgspec.structs.replace(status, agent_epoch="another"))
        await station.settle()
        assert (await station.status()).agent_epoch == "another"

        await station.plan(assignment("a", station.gpu))
        assert (await station.until_realized("a")).agent_epoch == "life-1"


async def test_no_two_writes_of_a_status_have_the_same_sequence(station: Station) -> None:
    seen: list[int] = []

    async def lose(call: Call) -> None:
        told = (call.verb, call.kind, call.subresource) == ("patch", GPU_NODES, "status")
        if told and call.done:
            seen.append((await station.status()).sequence)
            if len(seen) < 3:
                raise Unavailable(0, "no answer")

    station.api.disturbance = lose
    async with station.serving():
        await station.until(lambda s: len(seen) >= 3)

    assert len(set(seen)) == len(seen)


async def test_a_status_is_told_beside_a_plan_that_cannot_be_read(station: Station) -> None:
    node = await station.gpu_node()
    strange = [{"op": "add", "path": "/spec/assignments", "value": "of a newer release"}]
    await station.api.patch(GPU_NODES, NAME, strange, patch_type=PatchType.JSON)

    version = await Publisher(station.api, NAME, timeout=1.0).tell(node, node.status)

    assert version == node.version
