"""Day 0: GPUs cut by hand, VMs that run already; opting GPUs in, and handing them back."""

from __future__ import annotations

import pytest

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Instance, Inventory, Layout
from nodeagent.harvester.join import STILL_FROZEN
from tests.fakes.pcidevices.log import CREATE_VGPU, DESTROY_INSTANCE, REFUSED, REMOVE_VGPU, traps
from tests.fakes.pcidevices.names import (
    MIG_CONFIGURATIONS,
    OUT_OF_SYNC,
    SYNCED,
    VGPUS,
    resource_name,
)
from tests.unit.harvester.by_hand import (
    FIRST,
    GPU,
    cut_again,
    cut_by_hand,
    have_another_layout_made,
    layout,
    said_of_the_layout,
)
from tests.unit.harvester.station import KINDS, SMALL, Station

RESOURCE = resource_name(KINDS[SMALL])


def standing(status: Inventory) -> list[Instance]:
    return [each for gpu in status.gpus for each in gpu.instances if each.standing]


async def test_a_gpu_that_is_not_opted_in_is_left_as_it_is_and_its_devices_are_told(
    station: Station,
) -> None:
    await cut_by_hand(station, FIRST)
    before, instances = len(station.cluster.log.entries), station.machine.gpu_instances(0)

    async with station.agent(all_gpus=False):
        status = await station.until_told(lambda it: bool(standing(it)))
        await station.site.pass_(300)

    assert status.gpus[0].layout is Layout.STATIC
    (free,) = standing(status)
    assert (free.resource, free.keepers) == (RESOURCE, ())
    assert station.machine.gpu_instances(0) == instances
    by_us = [e for e in station.cluster.log.entries[before:] if e.actor == "agent"]
    assert by_us == []


async def test_its_devices_are_given_to_vms_and_stay(station: Station) -> None:
    await cut_by_hand(station, FIRST)
    async with station.agent(all_gpus=False):
        (free,) = standing(await station.until_told(lambda it: bool(standing(it))))
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, free.start))
        await station.until_realized("a1")
        await station.running("vm-1")
        assert station.places_of(pod.uid) == [(0, free.start)]

        await station.remove("vm-1")
        await station.plan()
        await station.until_told(lambda it: bool(standing(it)))

        assert await station.enabled() == [FIRST]
    assert station.cluster.log.of(REMOVE_VGPU) == []


async def test_a_vm_that_ran_before_is_told_with_its_device_and_taken_over(
    station: Station,
) -> None:
    await cut_by_hand(station, FIRST)
    pod = await station.vm_of("vm-1")
    await station.until(lambda: station.kubelet.allocatable.get(RESOURCE) == 1)
    await station.running("vm-1")
    async with station.agent(all_gpus=False):
        told = await station.until_told(
            lambda it: any(each.holder for gpu in it.gpus for each in gpu.instances)
        )
        (held,) = [each for each in told.gpus[0].instances if each.holder]
        assert (held.holder, held.resource, held.standing) == (pod, RESOURCE, False)

        await station.plan(station.assignment("a1", pod, held.start))
        status = await station.until_realized("a1")

    assert [each.slot for each in status.realized] == [""]
    assert await station.phase("vm-1") == "Running"


async def test_an_idle_gpu_that_is_opted_in_is_emptied_by_harvester_and_cut_anew(
    station: Station,
) -> None:
    await cut_by_hand(station)
    async with station.agent(all_gpus=False):
        await station.until_told(lambda it: bool(it.gpus) and len(it.gpus[0].instances) == 2)
        await station.choose_gpus(station.machine.uuids[0])
        await station.ready()
        assert station.starts() == []
        spec = await layout(station)
        assert spec["enabled"]
        assert not any(it["requested"] for it in spec["profileSpec"])

        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 2))
        await station.until_realized("a1")
        assert station.starts() == [2]
    # Harvester took away what it had made itself, as it was told to: nobody used it.
    assert len(station.cluster.log.of(DESTROY_INSTANCE)) == 2


class ControllerEnded(Exception):
    """Harvester's controller has ended."""


async def test_what_helps_is_said_where_harvester_ends_before_it_says_that_all_is_deleted(
    station: Station,
) -> None:
    """No write is tried that its webhook would refuse, and the agent deletes nobody's object."""
    await cut_by_hand(station)
    station.ending = ControllerEnded

    def step(name: str) -> None:
        if name == "write status of migconfigurations" and not station.starts():
            station.site.step = lambda name: None
            raise ControllerEnded(name)

    station.site.step = step
    async with station.agent(all_gpus=False):
        await station.until_told(lambda it: bool(it.gpus) and len(it.gpus[0].instances) == 2)
        await station.choose_gpus(station.machine.uuids[0])
        await station.until_told(lambda it: it.gpus[0].unhealthy == STILL_FROZEN)
        for _ in range(20):
            await station.work()
        assert (await station.status()).gpus[0].unhealthy == STILL_FROZEN
        assert station.cluster.log.of(REFUSED) == []

        await have_another_layout_made(station)
        await station.ready()
    assert not any(it["requested"] for it in (await layout(station))["profileSpec"])


@pytest.mark.parametrize("annotation", [None, "all", "GPU-nonsense"])
async def test_what_was_cut_by_hand_stays_unless_its_gpu_is_named(
    station: Station, annotation: str | None
) -> None:
    await cut_by_hand(station)
    starts = station.starts()
    if annotation is not None:
        await station.choose_gpus(annotation)
    async with station.agent():
        told = await station.until_told(lambda it: bool(it.gpus and it.gpus[0].instances))
        await station.site.pass_(300)
        await station.change(VGPUS, FIRST, enabled=True, vGPUTypeName=KINDS[SMALL])
        (free,) = standing(await station.until_told(lambda it: bool(standing(it))))
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, free.start))
        await station.until_realized("a1")

    assert told.gpus[0].layout is Layout.STATIC
    assert "only on a GPU named in tangram.dev/gpus" in told.gpus[0].unhealthy
    assert station.starts() == starts
    assert (await layout(station))["profileSpec"][0]["requested"] == 2
    assert station.cluster.log.of(DESTROY_INSTANCE) == []


async def test_a_gpu_cut_by_hand_after_it_was_left_to_tangram_is_static_from_then_on(
    station: Station,
) -> None:
    async with station.agent():
        await station.ready()
        # Harvester freezes the counts while the layout is in force, so whoever changes them is on
        # the way from disabled to enabled.
        spec = [{"name": "MIG 1g.5gb", "id": SMALL, "requested": 2}]
        await station.change(MIG_CONFIGURATIONS, GPU, enabled=False)
        await station.change(MIG_CONFIGURATIONS, GPU, enabled=True, profileSpec=spec)
        told = await station.until_told(lambda it: it.gpus[0].layout is Layout.STATIC)
        await station.site.pass_(300)

        assert "of its own" in told.gpus[0].unhealthy
    assert len(station.machine.gpu_instances(0)) == 2
    assert (await layout(station))["enabled"]


async def test_one_named_whose_devices_are_enabled_waits_and_takes_nothing_new(
    station: Station,
) -> None:
    await cut_by_hand(station, FIRST)
    await station.choose_gpus(station.machine.uuids[0])
    async with station.agent():
        told = await station.until_told(lambda it: bool(it.gpus and it.gpus[0].instances))
        await station.site.pass_(300)

        assert "asks for GPU instances of its own" in told.gpus[0].unhealthy
        assert told.gpus[0].layout is Layout.DYNAMIC
    assert (await layout(station))["enabled"]
    assert len(station.machine.gpu_instances(0)) == 2


@pytest.mark.parametrize("named", ["before the VM came", "while it ran"])
async def test_what_a_vm_had_on_a_gpu_that_is_named_stays_until_its_device_is_disabled_by_hand(
    station: Station, named: str
) -> None:
    await cut_by_hand(station, FIRST)
    before = len(station.cluster.log.entries)
    async with station.agent(all_gpus=False):
        (free,) = standing(await station.until_told(lambda it: bool(standing(it))))
        if named == "before the VM came":
            await _named(station)
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, free.start))
        await station.until_realized("a1")
        await station.running("vm-1")
        if named == "while it ran":
            await _named(station)
        await station.remove("vm-1")
        await station.plan()
        await station.until_told(lambda it: bool(standing(it)) and not it.realized)
        for _ in range(20):
            await station.work()

        assert await station.enabled() == [FIRST]
        assert len(station.starts()) == 2
        assert list(traps(station.cluster.log.entries[before:])) == []

        await station.change(VGPUS, FIRST, enabled=False)
        await station.ready()
        assert station.starts() == []


async def _named(station: Station) -> None:
    await station.choose_gpus(station.machine.uuids[0])
    await station.until_told(lambda it: it.gpus[0].layout is Layout.DYNAMIC)


@pytest.mark.parametrize("heeds_touches", [True, False])
async def test_a_gpu_handed_back_is_harvesters_again_once_its_last_vm_has_gone(
    station: Station, heeds_touches: bool
) -> None:
    """A Harvester that is deaf to touches is later to find what it may make, and what has gone."""
    station.site.heeds_touches = heeds_touches
    station.site.restart()
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_realized("a1")
        await station.running("vm-1")

        await station.choose_gpus("none")
        await station.until_told(lambda it: it.gpus[0].layout is Layout.STATIC)
        await station.pass_(400)
        assert await station.phase("vm-1") == "Running"
        assert (await layout(station))["enabled"]
        assert await said_of_the_layout(station) == "out-of-sync"

        await station.remove("vm-1")
        await station.plan()
        await station.until(lambda: station.starts() == [])
        removed = station.cluster.now

        async def handed_back() -> bool:
            return not (await layout(station))["enabled"]

        await station.until(handed_back)
        assert station.starts() == []
        assert (station.cluster.now - removed < 30) is heeds_touches
        await station.pass_(400)
    assert list(traps(station.cluster.log.entries)) == []
    await cut_again(station)  # which nobody refuses


async def test_after_a_reboot_a_vm_left_behind_by_tangram_has_a_vgpu_once_its_count_is_set(
    station: Station,
) -> None:
    """So says the page on uninstalling: the layout, which asks for nothing, is seen empty then."""
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_realized("a1")
        await station.running("vm-1")
        await station.pass_(400)
        assert await said_of_the_layout(station) == OUT_OF_SYNC
        await station.choose_gpus("none")
        await station.until_told(lambda it: it.gpus[0].layout is Layout.STATIC)

    async def has_another_launcher() -> bool:
        return pod.uid not in {each["metadata"]["uid"] for each in await station.launchers()}

    await station.reboot()
    await station.until(has_another_launcher)
    await station.pass_(60)
    assert station.starts() == []
    assert await said_of_the_layout(station) not in (SYNCED, OUT_OF_SYNC)
    spec = [{"name": "MIG 1g.5gb", "id": SMALL, "requested": 1}]
    await station.change(MIG_CONFIGURATIONS, GPU, profileSpec=spec)
    await station.pass_(60)
    await station.until(lambda: station.kubelet.allocatable.get(RESOURCE) == 1)
    await station.running("vm-1")
    assert len(station.starts()) == 1


async def test_a_gpu_instance_made_by_hand_on_an_opted_in_gpu_is_never_touched(
    station: Station,
) -> None:
    async with station.agent():
        await station.ready()
        station.machine.create_gpu_instance(0, SMALL, Placement(0, 1))
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))

        told = await station.until_told(lambda it: bool(it.failed))

        assert "a free GPU instance of the same profile" in told.failed[0].reason
        assert station.starts() == [0]
    assert station.cluster.log.of(CREATE_VGPU) == []
