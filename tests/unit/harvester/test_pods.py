"""Several pods and several devices; and what must not happen on the way."""

from __future__ import annotations

import asyncio

from tests.fakes.pcidevices.log import CREATE_VGPU, REFUSED, traps
from tests.unit.harvester.station import BIG, Station


async def test_a_pod_with_two_devices_gets_both_of_its_own(station: Station) -> None:
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1", count=2)
        await station.plan(station.assignment("a1", pod, 1), station.assignment("a2", pod, 4))
        await station.until_realized("a1", "a2")
        await station.running("vm-1")

        assert sorted(station.places_of(pod.uid)) == [(0, 1), (0, 4)]
    assert list(traps(station.cluster.log.entries)) == []


async def test_pods_of_a_type_come_one_after_the_other_each_to_its_own(station: Station) -> None:
    async with station.agent():
        await station.ready()
        pods = [await station.vm_of(f"vm-{n}") for n in range(4)]
        plan = [station.assignment(f"a{n}", pod, 6 - n, at=n) for n, pod in enumerate(pods)]
        await station.plan(*plan)
        for n in range(4):
            await station.until_told(lambda it, n=n: f"a{n}" in {r.id for r in it.realized})  # type: ignore[misc]
            told = {each.id for each in (await station.status()).realized}
            assert told == {f"a{m}" for m in range(n + 1)}  # nobody's who is yet to come
            await station.running(f"vm-{n}")

        for pod, each in zip(pods, plan, strict=True):
            assert station.places_of(pod.uid) == [(0, each.start)]
    assert list(traps(station.cluster.log.entries)) == []


async def test_different_types_do_not_wait_for_each_other(station: Station) -> None:
    async with station.agent():
        await station.ready()
        one = station.assignment("a1", await station.vm_of("vm-1"), 6)
        three = station.assignment("a2", await station.vm_of("vm-2", BIG), 0, BIG)
        await station.plan(one, three)

        await station.until_realized("a1", "a2")
        await station.running("vm-1", "vm-2")
    assert list(traps(station.cluster.log.entries)) == []


async def test_a_plan_that_is_dropped_while_a_device_is_made_waits_for_its_uuid(
    station: Station,
) -> None:
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        async with asyncio.timeout(10):
            while not await station.enabled():
                await asyncio.sleep(0.002)
                if not await offered(station):
                    await station.site.pass_(1.0)
        # Enabled, and Harvester has not made it yet: its VGPUDevice has no uuid.
        await station.plan()
        await station.until_told(lambda it: it.observed_generation >= 3)
        await station.until(lambda: station.starts() == [])

        assert await station.enabled() == []
    assert station.host_is_whole()
    assert list(traps(station.cluster.log.entries)) == []


async def offered(station: Station) -> bool:
    return any(
        (it.get("status") or {}).get("availableTypes") for it in (await station.objects()).values()
    )


async def test_a_node_that_reboots_makes_nothing_for_pods_that_have_ended(
    station: Station,
) -> None:
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_realized("a1")
        await station.running("vm-1")
    await station.reboot()
    async with station.agent():
        told = await station.until_told(lambda it: it.boot_id == "boot-2" and bool(it.failed))
        assert "rebooted" in told.failed[0].reason
        assert station.starts() == []

        # The VM's next launcher inherits the place, and its device is made there anew.
        await station.ready()
        await station.plan()
        await station.until(lambda: gone(station, pod.uid))
        again = await station.launcher_of("vm-1")
        await station.plan(station.assignment("a2", again, 3))
        await station.until_realized("a2")
        await station.running("vm-1")

        assert station.places_of(again.uid) == [(0, 3)]
    assert list(traps(station.cluster.log.entries)) == []
    assert station.cluster.log.of(REFUSED) == []


async def gone(station: Station, uid: str) -> bool:
    return uid not in {pod["metadata"]["uid"] for pod in await station.pods()}


async def test_by_a_touch_a_device_is_made_without_the_wait_of_30_seconds(
    station: Station,
) -> None:
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        began = station.cluster.now
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_realized("a1")

    (made,) = station.cluster.log.of(CREATE_VGPU)
    assert made.at - began < 15
