"""A VM's life on a Harvester node that is left to Tangram: real agent, fake everything else."""

from __future__ import annotations

from tests.fakes.pcidevices.log import traps
from tests.unit.harvester.station import SMALL, Station


async def test_a_gpu_is_made_ready_without_a_hand_on_it(station: Station) -> None:
    async with station.agent():
        status = await station.ready()

    assert status.mode == "harvester"
    assert list(traps(station.cluster.log.entries)) == []


async def test_one_whose_mig_mode_is_off_is_made_ready_too(station: Station) -> None:
    station.machine.switch_mig(0, on=False)
    async with station.agent():
        await station.until_told(lambda it: bool(it.gpus and it.gpus[0].mig_enabled))
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_realized("a1")

    assert station.starts() == [3]
    assert list(traps(station.cluster.log.entries)) == []


async def test_a_vm_gets_the_gpu_instance_that_was_planned_for_it(station: Station) -> None:
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_realized("a1")
        await station.running("vm-1")

        assert station.places_of(pod.uid) == [(0, 3)]
    assert list(traps(station.cluster.log.entries)) == []


async def test_what_a_deleted_vm_had_is_gone(station: Station) -> None:
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3, SMALL))
        await station.until_realized("a1")
        await station.running("vm-1")
        await station.remove("vm-1")
        await station.plan()
        await station.until(lambda: station.starts() == [])

        assert await station.enabled() == []
        told = await station.until_told(lambda it: not it.gpus[0].instances)
        assert not told.realized
    assert list(traps(station.cluster.log.entries)) == []
