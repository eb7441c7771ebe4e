"""What an agent makes of a plan, whatever it says and however it arrives."""

from __future__ import annotations

from nodeagent.api.geometry import Placement
from nodeagent.apiserver.protocol import GPU_NODES, Unavailable
from tests.unit.nodeagent.builders import ONE, SEVEN, SMALL, THREE, assignment, hardware
from tests.unit.nodeagent.station import NAME, Station, owners, reasons


async def test_a_reservation_is_not_realized(station: Station) -> None:
    async with station.serving():
        await station.plan(
            assignment("a", station.gpu, pod=None), assignment("b", station.gpu, start=1)
        )
        await station.until_realized("b")

    assert len(station.hardware.gpus[0].instances) == 1


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


async def test_a_watch_that_breaks_off_loses_no_plan(station: Station) -> None:
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))
        station.api.compact()
        station.api.drop_watches(Unavailable(503, "going down"))
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")


async def test_a_gpu_instance_goes_when_its_entry_becomes_a_reservation(station: Station) -> None:
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        assert len(station.hardware.gpus[0].instances) == 1

        await station.plan(assignment("a", station.gpu, pod=None))
        status = await station.until_realized()

    assert not station.hardware.gpus[0].instances
    assert owners(status) == []
    assert reasons(status) == {}
    assert status.observed_generation == 3


async def test_what_was_over_before_its_entry_became_a_reservation_is_told_no_more(
    station: Station,
) -> None:
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
    station.hardware.reboot()
    async with station.serving():
        await station.until(lambda status: "a" in reasons(status))
        await station.plan(assignment("a", station.gpu, pod=None))
        await station.until(lambda status: not reasons(status))
        await station.plan(assignment("b", station.gpu))
        await station.until_realized("b")
