"""A VM's life on a Harvester node that is left to Tangram: real agent, fake everything else."""

from __future__ import annotations

from nodeagent.harvester.join import TURNED_OFF
from tests.fakes.pcidevices.log import SRIOV, traps
from tests.fakes.pcidevices.names import SRIOV_GPUS
from tests.unit.harvester.by_hand import GPU, cut_by_hand
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


async def test_an_administrator_who_disables_a_gpu_is_overruled_by_no_agent(
    station: Station,
) -> None:
    async with station.agent():
        await station.ready()
        await station.change(SRIOV_GPUS, GPU, enabled=False)
        await stays_off(station)
    async with station.agent():
        before = (await station.status()).agent_epoch
        await station.until_told(lambda it: it.agent_epoch != before)
        await stays_off(station)

        await station.change(SRIOV_GPUS, GPU, enabled=True)
        await station.ready()
    assert [each.detail for each in station.cluster.log.of(SRIOV)] == ["-e", "-d", "-e"]
    assert list(traps(station.cluster.log.entries)) == []


async def test_nor_is_one_who_disables_a_gpu_that_he_had_cut_by_hand(station: Station) -> None:
    await cut_by_hand(station)
    async with station.agent():
        await station.until_told(lambda it: bool(it.gpus and it.gpus[0].instances))
        await station.change(SRIOV_GPUS, GPU, enabled=False)
        await stays_off(station)


async def stays_off(station: Station) -> None:
    """See that a GPU without virtual functions gets none, and that it is said why."""
    await station.until(lambda: station.site.host.kernel.functions(0) == 0)
    await station.until_told(lambda it: bool(it.gpus) and it.gpus[0].unhealthy == TURNED_OFF)
    await station.pass_(60)
    for _ in range(20):
        await station.work()
    assert station.site.host.kernel.functions(0) == 0


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
