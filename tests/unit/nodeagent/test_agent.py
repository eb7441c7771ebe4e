from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from nodeagent.agent import Agent
from nodeagent.agent.passes import REBOOTED
from nodeagent.api import keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Inventory, Mode
from nodeagent.apiserver.memory import Call as ApiCall
from nodeagent.apiserver.protocol import GPU_NODES, NODES, Unavailable
from nodeagent.driver import DriverError, GpuLost, InstanceInUse, PlacementUnavailable
from nodeagent.journal import Journal
from nodeagent.simulated.driver import Call, Pretended
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.unit.nodeagent.builders import BY_PROFILE, ONE, SEVEN, THREE, assignment, hardware
from tests.unit.nodeagent.station import NAME, Station

SMALL, HALF, WHOLE = BY_PROFILE[ONE], BY_PROFILE[THREE], BY_PROFILE[SEVEN]


@pytest.fixture
async def station() -> Station:
    station = Station()
    await station.install()
    return station


def owners(status: Inventory) -> list[str]:
    return [each.assignment for gpu in status.gpus for each in gpu.instances]


def reasons(status: Inventory) -> dict[str, str]:
    return {each.id: each.reason for each in status.failed}


def failing(
    verb: str, error: type[DriverError], *, done: bool = False
) -> Callable[[Call], Awaitable[None]]:
    """Return a disturbance that lets every call of *verb* fail."""

    async def disturb(call: Call) -> None:
        if (call.verb, call.done) == (verb, done):
            raise error(verb)

    return disturb


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
        plan = [assignment(f"{n}", station.gpu, start=n, since=f"{n}") for n in range(3)]
        await station.plan(*plan)
        for n in range(3):
            await station.until_realized(*(str(m) for m in range(n + 1)))
            await station.bind(f"{n}", {SMALL: 1})
            await station.until_pod(f"{n}", "Running")
        await station.settle()

    assert station.status_writes == before + 3


async def test_a_vm_that_ends_after_its_assignment_left_keeps_its_instance_till_then(
    station: Station,
) -> None:
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        await station.bind("a", {SMALL: 1})
        await station.until_pod("a", "Running")
        before = station.status_writes

        await station.plan()
        await station.settle()
        assert len(station.hardware.gpus[0].instances) == 1
        assert station.status_writes == before

        await station.delete_pod("a")
        await station.until_realized()
        assert not station.hardware.gpus[0].instances
        assert station.status_writes == before + 1


async def test_an_assignment_withdrawn_before_it_was_realized_is_acknowledged(
    station: Station,
) -> None:
    async with station.serving():
        first, second = assignment("a", station.gpu), assignment("b", station.gpu, start=1)
        await station.plan(first, second)
        await station.until_realized("a")
        await station.plan(first)

        await station.until(lambda s: s.observed_generation == 3)
        assert len(station.hardware.gpus[0].instances) == 1


async def test_a_reservation_is_not_realized(station: Station) -> None:
    async with station.serving():
        await station.plan(
            assignment("a", station.gpu, pod=None), assignment("b", station.gpu, start=1)
        )
        await station.until_realized("b")

    assert len(station.hardware.gpus[0].instances) == 1


async def test_a_pod_nobody_planned_for_is_rejected(station: Station) -> None:
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))
        await station.bind("thief", {SMALL: 1})
        await station.until_pod("thief", "Failed")
        pod = await station.pod("thief")

    assert pod["status"]["reason"] == "UnexpectedAdmissionError"


async def test_a_pod_without_devices_just_runs(station: Station) -> None:
    async with station.serving():
        await station.bind("web", {})
        await station.until_pod("web", "Running")


async def test_a_pod_gets_all_its_instances(station: Station) -> None:
    plan = [
        assignment("1", station.gpu, pod="a"),
        assignment("2", station.gpu, pod="a", start=1),
        assignment("3", station.gpu, pod="a", profile=THREE, start=4),
    ]
    async with station.serving():
        await station.plan(*plan)
        await station.until_realized("1", "2", "3")
        await station.bind("a", {SMALL: 2, HALF: 1})
        await station.until_pod("a", "Running")

    assert len(station.checkpoint.claims) == 3
    assert [len(clients) for clients in station.hardware.gpus[0].clients.values()] == [1, 1, 1]


async def test_every_kind_of_impossible_plan_fails_with_its_reason(station: Station) -> None:
    machine = hardware(3)
    machine.gpus[1].mig_enabled = False
    machine.gpus[2].unhealthy = "XID 79"
    station = Station(machine)
    await station.install()
    machine.gpus[0].create(ONE, Placement(6, 1))
    first, off, sick = (gpu.uuid for gpu in machine.gpus)
    async with station.serving():
        await station.plan(
            assignment("nowhere", "GPU-x"),
            assignment("profile", first, profile=99),
            assignment("start", first, start=7),
            assignment("foreign", first, start=6),
            assignment("off", off),
            assignment("sick", sick),
        )
        status = await station.until(lambda s: len(s.failed) == 6)

    assert reasons(status) == {
        "nowhere": "the node has no GPU GPU-x",
        "profile": "the GPU has no profile 99",
        "start": "profile 1g.10gb has no placement {7}:1",
        "foreign": "a GPU instance that Tangram did not create occupies the placement",
        "off": "MIG mode is off",
        "sick": "XID 79",
    }


async def test_a_foreign_instance_is_reported_and_never_destroyed(station: Station) -> None:
    station.hardware.gpus[0].create(THREE, Placement(0, 4))
    async with station.serving():
        status = await station.until(lambda s: bool(s.gpus))
        await station.plan(assignment("a", station.gpu, profile=SEVEN))
        await station.until(lambda s: "a" in reasons(s))

    assert owners(status) == [""]
    assert len(station.hardware.gpus[0].instances) == 1


async def test_a_refused_creation_is_reported_at_once_and_tried_again(station: Station) -> None:
    station.driver.disturbance = failing("create", PlacementUnavailable)
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: "a" in reasons(s))
        assert "NVML error 23" in reasons(status)["a"]

        station.driver.disturbance = None
        status = await station.until_realized("a")

    assert reasons(status) == {}


async def test_a_success_that_was_none_is_a_failure(station: Station) -> None:
    async def pretend(call: Call) -> None:
        if call.verb == "create":
            raise Pretended

    station.driver.disturbance = pretend
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: "a" in reasons(s))

    assert "reported success, but" in reasons(status)["a"]
    assert status.realized == ()


async def test_an_error_that_was_none_is_a_success(station: Station) -> None:
    station.driver.disturbance = failing("create", DriverError, done=True)
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        status = await station.until_realized("a")

    assert owners(status) == ["a"]


async def test_what_another_put_in_our_place_meanwhile_is_not_taken_for_ours(
    station: Station,
) -> None:
    async def hurry(call: Call) -> None:
        if call.verb == "create" and not station.hardware.gpus[0].instances:
            station.hardware.gpus[0].create(ONE, Placement(0, 1))

    station.driver.disturbance = hurry
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: "a" in reasons(s))
        await station.plan()
        await station.until(lambda s: s.observed_generation == 3)

    assert owners(status) == [""]
    assert len(station.hardware.gpus[0].instances) == 1


async def test_an_instance_that_will_not_go_is_never_handed_to_the_next(station: Station) -> None:
    created: list[Call] = []

    async def pretend(call: Call) -> None:
        if call.verb == "destroy":
            raise Pretended
        if call.verb == "create":
            created.append(call)

    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        station.driver.disturbance = pretend
        await station.plan(assignment("b", station.gpu))
        await station.settle()
        status = await station.status()
        assert owners(status) == ["a"]
        assert "b" not in {each.id for each in status.realized}
        assert not created
        assert [each.assignment for each in station.journal.made] == ["a"]

        station.driver.disturbance = None
        status = await station.until_realized("b")

    assert owners(status) == ["b"]


async def test_an_instance_in_use_goes_once_it_is_released(station: Station) -> None:
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        station.hardware.open(station.gpu, 1, "a monitor")
        await station.plan()
        await station.settle()
        assert len(station.hardware.gpus[0].instances) == 1

        station.hardware.close("a monitor")
        await station.until(lambda s: s.gpus[0].instances == ())


async def test_a_refused_destruction_is_tried_again(station: Station) -> None:
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        station.driver.disturbance = failing("destroy", InstanceInUse)
        await station.plan()
        await station.settle()
        station.driver.disturbance = None

        await station.until(lambda s: s.gpus[0].instances == ())


async def test_a_lost_gpu_is_reported_and_the_others_go_on() -> None:
    station = Station(hardware(2))
    await station.install()
    first, second = (gpu.uuid for gpu in station.hardware.gpus)
    station.hardware.gpus[0].lost = True
    async with station.serving():
        await station.plan(assignment("a", first), assignment("b", second))
        status = await station.until_realized("b")

    assert "GPU is lost" in reasons(status)["a"]
    assert "GPU is lost" in status.gpus[0].unhealthy


async def test_a_driver_that_answers_nothing_makes_the_node_not_ready(station: Station) -> None:
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))
        station.driver.disturbance = failing("discover", GpuLost)
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: s.conditions[0].status == "False")
        assert status.conditions[0].reason == "DriverUnavailable"
        assert status.gpus

        station.driver.disturbance = None
        status = await station.until_realized("a")

    assert status.conditions[0].status == "True"


@pytest.mark.parametrize("journal", [True, False])
async def test_a_restarted_agent_knows_its_own_only_by_its_journal(
    tmp_path: Path, journal: bool
) -> None:
    station = Station(journal=tmp_path / "state" / "journal.json")
    await station.install()
    planned = assignment("a", station.gpu)
    async with station.serving():
        await station.plan(planned)
        await station.until_realized("a")
        await station.bind("a", {SMALL: 1})
        await station.until_pod("a", "Running")
    if not journal:
        (tmp_path / "state" / "journal.json").unlink()

    async with station.serving():
        status = await station.until(lambda s: s.agent_epoch == "life-2")
        await station.delete_pod("a")
        await station.plan()
        await station.until(lambda s: s.observed_generation == 3)
        await station.settle()

    assert owners(status) == (["a"] if journal else [""])
    assert [each.slot for each in status.realized] == [f"{SMALL.partition('/')[2]}-0"]
    assert len(station.hardware.gpus[0].instances) == (0 if journal else 1)


async def test_a_torn_journal_is_reported_and_nothing_is_destroyed(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    station = Station(journal=path)
    await station.install()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
    path.write_bytes(path.read_bytes()[:-7])
    await station.plan(assignment("b", station.gpu, start=1))

    async with station.serving():
        status = await station.until_realized("b")

    assert owners(status) == ["", "b"]
    assert (status.conditions[0].status, status.conditions[0].reason) == (
        "False",
        "JournalUnreadable",
    )
    assert path.with_name("journal.json.unreadable").exists()


async def test_a_journal_that_cannot_be_written_lets_nothing_be_created(tmp_path: Path) -> None:
    station = Station(journal=tmp_path / "occupied" / "journal.json")
    await station.install()
    (tmp_path / "occupied").touch()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: "a" in reasons(s))

    assert reasons(status)["a"] == "the journal cannot be written"
    assert not station.hardware.gpus[0].instances


async def test_a_reboot_ends_what_ran_and_what_ran_is_not_made_again(tmp_path: Path) -> None:
    station = Station(journal=tmp_path / "journal.json")
    await station.install()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        await station.bind("a", {SMALL: 1})
        await station.until_pod("a", "Running")
    station.hardware.reboot()

    for _ in range(2):  # nor by the agent after the next
        async with station.serving():
            await station.plan(assignment("a", station.gpu), assignment("b", station.gpu, start=1))
            status = await station.until_realized("b")
            await station.until_pod("a", "Failed")
            assert reasons(status) == {"a": REBOOTED}
            assert owners(status) == ["b"]


async def test_a_reboot_gives_containers_their_instances_again(tmp_path: Path) -> None:
    station = Station(hardware(1, mode=Mode.CONTAINER), journal=tmp_path / "journal.json")
    await station.install()
    planned = assignment("a", station.gpu, resource="nvidia.com/mig-1g.10gb")
    async with station.serving():
        await station.plan(planned)
        before = await station.until_realized("a")
    station.hardware.reboot()

    async with station.serving():
        status = await station.until(lambda s: s.boot_id != before.boot_id)

    assert owners(status) == ["a"]
    assert status.realized == before.realized


async def test_instances_a_gpu_reset_took_away_are_made_again(station: Station) -> None:
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        station.hardware.gpus[0].instances.clear()
        await station.plan(
            assignment("a", station.gpu), assignment("b", station.gpu, profile=THREE, start=4)
        )
        status = await station.until_realized("a", "b")

    assert owners(status) == ["a", "b"]


async def test_a_gpunode_created_anew_is_followed(station: Station) -> None:
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        await station.api.delete(GPU_NODES, NAME)
        await station.settle()
        await station.create_gpu_node()
        await station.plan(assignment("b", station.gpu))
        status = await station.until_realized("b")

    assert owners(status) == ["b"]


async def test_without_a_gpunode_nothing_is_destroyed(station: Station) -> None:
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        await station.api.delete(GPU_NODES, NAME)
        await station.settle()

    assert len(station.hardware.gpus[0].instances) == 1


async def test_an_older_plan_never_replaces_a_newer_one(station: Station) -> None:
    old = await station.gpu_node()
    await station.plan(assignment("a", station.gpu))
    new = await station.gpu_node()

    agent = Agent(
        NAME,
        api=station.api,
        driver=station.driver,
        kubelet=SimulatedKubelet(station.api, station.hardware),
        journal=Journal(),
        epoch="life",
    )
    agent.heard(new)
    agent.heard(old)
    await agent.converge()

    assert len(station.hardware.gpus[0].instances) == 1


@pytest.mark.parametrize("done", [False, True])
async def test_a_write_without_an_answer_is_made_good(station: Station, done: bool) -> None:
    failed: list[ApiCall] = []

    async def once(call: ApiCall) -> None:
        told = call.subresource == "status" and call.kind == GPU_NODES and call.done is done
        if told and len(failed) < 2:
            failed.append(call)
            raise Unavailable(0, "no answer")

    station.api.disturbance = once
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")


async def test_a_watch_that_breaks_off_loses_no_plan(station: Station) -> None:
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))
        station.api.compact()
        station.api.drop_watches(Unavailable(503, "going down"))
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")


async def test_a_status_written_whole_leaves_nothing_of_the_last_one(station: Station) -> None:
    async with station.serving():
        await station.plan(assignment("a", "GPU-x"))
        await station.until(lambda s: bool(s.failed))
        await station.plan()
        await station.until(lambda s: not s.failed)
