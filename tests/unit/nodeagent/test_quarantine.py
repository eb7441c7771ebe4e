"""What the agent does about GPUs that are sick, reset, or touched by somebody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Inventory, Mode
from nodeagent.driver import DriverError
from nodeagent.kubelet import KubeletError, Offer
from nodeagent.settings import Settings
from nodeagent.simulated.driver import Call, CutShort
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.unit.nodeagent.builders import HALF, ONE, SMALL, THREE, assignment, hardware
from tests.unit.nodeagent.station import Station, conditions, owners, reasons
from tests.waiting import until

SICK = "XID 79: fallen off the bus"
CONTAINER_SMALL, CONTAINER_BIG = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"


async def run(station: Station, id: str = "a", *, start: int = 0, resource: str = "") -> Assignment:
    """Have a pod run on the first GPU, by the only assignment of the plan."""
    wanted = resource or SMALL
    pod = await station.create_pod(id, {wanted: 1})
    planned = assignment(id, station.gpu, start=start, resource=wanted, of=pod)
    await station.plan(planned)
    await station.until_realized(id)
    await station.bind_pod(id)
    await station.until_pod(id, "Running")
    return planned


async def test_a_sick_gpu_gets_nothing_new_and_keeps_what_runs_until_it_is_well(
    station: Station,
) -> None:
    async with station.serving():
        running = await run(station)
        station.hardware.gpus[0].unhealthy = SICK
        await station.plan(running, assignment("b", station.gpu, start=1))
        status = await station.until(lambda s: "b" in reasons(s))
        assert reasons(status) == {"b": SICK}
        assert status.gpus[0].unhealthy == SICK
        assert [each.id for each in status.realized] == ["a"]

        station.hardware.gpus[0].unhealthy = ""
        station.driver.changed()
        status = await station.until_realized("a", "b")

    assert reasons(status) == {}


async def test_what_a_sick_gpu_does_not_show_stays_realized_and_is_flagged(
    station: Station,
) -> None:
    async with station.serving():
        running = await run(station)
        station.hardware.gpus[0].lost = True
        station.driver.changed()
        status = await station.until(lambda s: "a" in reasons(s))
        assert "GPU is lost" in reasons(status)["a"]
        assert [each.id for each in status.realized] == ["a"]
        assert [each.assignment for each in station.journal.made] == ["a"]

        station.hardware.gpus[0].lost = False
        await station.plan(running, assignment("b", station.gpu, start=1))
        status = await station.until_realized("a", "b")

    assert reasons(status) == {}


async def test_a_sick_gpu_is_cleared_of_what_has_ended(station: Station) -> None:
    async with station.serving():
        await run(station)
        station.hardware.gpus[0].unhealthy = SICK
        await station.delete_pod("a")
        await station.plan()
        await station.until(lambda s: not owners(s) and s.observed_generation == 3)
        assert not station.hardware.gpus[0].instances

    assert station.journal.made == ()


async def test_what_is_made_by_hand_where_a_sick_gpu_was_cleared_is_never_touched(
    station: Station,
) -> None:
    gpu = station.hardware.gpus[0]
    async with station.serving():
        await run(station)
        (ours,) = gpu.instances.values()
        gpu.unhealthy = SICK
        await station.delete_pod("a")
        await station.plan()
        await station.until(lambda s: not owners(s) and s.observed_generation == 3)

        by_hand = gpu.create(ours.profile_id, ours.placement)
        station.driver.changed()
        await station.until(lambda s: owners(s) == [""])
        gpu.unhealthy = ""
        station.driver.changed()
        await station.until(lambda s: not s.gpus[0].unhealthy)

    assert list(gpu.instances) == [by_hand]


async def test_what_a_gpu_is_said_to_have_destroyed_is_ours_while_it_cannot_be_read(
    station: Station,
) -> None:
    """Drivers have reported successes that were none."""
    gpu = station.hardware.gpus[0]

    async def destroy(call: Call) -> None:
        if call.verb == "destroy" and call.done:
            gpu.lost = True

    async with station.serving():
        await run(station)
        gpu.unhealthy = SICK
        station.driver.disturbance = destroy
        await station.delete_pod("a")
        await station.plan()
        await station.until(lambda s: "GPU is lost" in s.gpus[0].unhealthy)
        assert [each.assignment for each in station.journal.made] == ["a"]


async def test_a_reset_ends_a_running_vm_and_nothing_is_made_for_it(station: Station) -> None:
    async with station.serving():
        running = await run(station)
        station.hardware.gpus[0].reset()
        await station.plan(running, assignment("b", station.gpu, start=1))
        status = await station.until_realized("b")
        assert "its pod gets no other" in reasons(status)["a"]
        assert owners(status) == ["b"]
        assert "assignment a is gone" in conditions(status)["Drift"]

    async with station.serving():  # nor does the next agent
        await station.settle()
        status = await station.status()
        assert status.agent_epoch == "life-2"
        assert "its pod gets no other" in reasons(status)["a"]
        assert owners(status) == ["b"]

        await station.plan()
        status = await station.until(lambda s: not s.failed)

    assert "Drift" not in conditions(status)


async def test_a_reset_gives_a_container_its_gpu_instance_again_behind_the_same_slot() -> None:
    station = Station(hardware(1, mode=Mode.CONTAINER))
    await station.install()
    async with station.serving():
        await run(station, resource="nvidia.com/mig-1g.10gb")
        before = await station.status()
        station.hardware.gpus[0].reset()
        station.driver.changed()
        await station.settle()
        status = await station.status()

    assert len(station.hardware.gpus[0].instances) == 1
    assert status.realized == before.realized
    assert status.failed == ()


async def test_while_its_instance_is_made_anew_a_pod_is_given_none_that_has_the_same_id(
    station: Station,
) -> None:
    gpu, begun = station.hardware.gpus[0], asyncio.Event()

    async def held_up(call: Call) -> None:
        if call.verb == "create":
            begun.set()
            await asyncio.Event().wait()

    async with station.serving():
        pod = await station.create_pod("a", {SMALL: 1})
        await station.plan(assignment("a", station.gpu, of=pod))
        await station.until_realized("a")
        ours = next(iter(gpu.instances))
        station.driver.disturbance = held_up
        gpu.reset()
        assert gpu.create(THREE, Placement(4, 4)) == ours  # by hand
        station.driver.changed()
        await begun.wait()
        await station.bind_pod("a")
        await station.until_pod("a", "Failed")

    assert not gpu.clients.get(ours)


async def test_nor_one_that_is_made_after_its_own_went_while_others_were_destroyed() -> None:
    station = Station(hardware(mode=Mode.CONTAINER))
    await station.install()
    gpu, made = station.hardware.gpus[0], asyncio.Event()

    async def disturbed(call: Call) -> None:
        if call.verb == "destroy" and not call.done and not made.is_set():
            gpu.destroy(ours)  # by hand
        if call.verb == "create" and call.done and not made.is_set():
            made.set()
            await station.bind_pod("a")
            await station.until_pod("a", "Failed")

    async with station.serving():
        pods = {
            name: await station.create_pod(name, {resource: 1})
            for name, resource in (("a", CONTAINER_SMALL), ("b", CONTAINER_BIG))
        }
        awaited = assignment("a", station.gpu, of=pods["a"], resource=CONTAINER_SMALL)
        leaves = assignment(
            "z", station.gpu, profile=THREE, start=4, pod="z", resource=CONTAINER_BIG
        )
        await station.plan(awaited, leaves)
        await station.until_realized("a", "z")
        ours = next(id for id, each in gpu.instances.items() if each.placement.start == 0)
        station.driver.disturbance = disturbed
        next_ = assignment(
            "b", station.gpu, profile=THREE, start=4, of=pods["b"], resource=CONTAINER_BIG
        )
        await station.plan(next_, awaited)
        await asyncio.wait_for(made.wait(), 10)
        await station.until_pod("a", "Failed")

    assert gpu.instances[ours].profile_id == THREE  # it has the id
    assert not gpu.clients.get(ours)


async def test_nothing_is_made_before_the_kubelet_knows_what_is_gone(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, offer, failures = station.hardware.gpus[0], SimulatedKubelet.offer, 3

    async def deaf(kubelet: SimulatedKubelet, offered: Offer) -> None:
        nonlocal failures
        if gpu.instances or not failures:
            await offer(kubelet, offered)
            return
        failures -= 1
        raise KubeletError("no space left on device")

    async with station.serving():
        await station.plan(assignment("a", station.gpu, pod="a"))
        await station.until_realized("a")
        monkeypatch.setattr(SimulatedKubelet, "offer", deaf)
        gpu.reset()
        station.driver.changed()
        await until(lambda: bool(gpu.instances))

    assert failures == 0


async def test_whom_an_agent_awaits_the_next_one_awaits_too() -> None:
    """Its pod is bound, and on its way to the kubelet, when its GPU is lost."""
    station = Station(hardware(2))
    await station.install()
    first, second = station.hardware.gpus
    a = await station.create_pod("a", {SMALL: 1})
    b = await station.create_pod("b", {SMALL: 1})
    plan = [assignment("a", first.uuid, of=a)]
    async with station.serving():
        await station.plan(*plan)
        await station.until_realized("a")
        first.lost = True
        station.driver.changed()
        await station.until_realized()

    async with station.serving():
        await station.plan(*plan, assignment("b", second.uuid, start=1, of=b))
        await until(lambda: bool(second.instances))
        await station.settle()
        await station.bind_pod("a")
        await station.until_pod("a", "Failed")
        assert not second.clients
        await station.plan(assignment("b", second.uuid, start=1, of=b))
        await station.until_realized("b")
        await station.bind_pod("b")
        await station.until_pod("b", "Running")


@pytest.mark.parametrize("lives", [1, 2])
async def test_whose_instance_has_gone_is_not_given_that_of_a_pod_that_has_ended(
    station: Station, lives: int
) -> None:
    gpu = station.hardware.gpus[0]

    async def fails(call: Call) -> None:
        if call.verb == "create":
            raise DriverError("nvmlDeviceCreateGpuInstance", code=999)

    async with contextlib.AsyncExitStack() as agents:
        await agents.enter_async_context(station.serving())
        ran = await run(station)
        (left,) = gpu.instances
        pod = await station.create_pod("b", {SMALL: 1})
        await station.plan(ran, assignment("b", station.gpu, start=1, of=pod))
        await station.until_realized("a", "b")
        station.driver.disturbance = fails
        gpu.destroy(next(gi_id for gi_id in gpu.instances if gi_id != left))
        await station.delete_pod("a")
        await station.until_pod_gone("a")
        station.driver.changed()
        await station.until(lambda s: "b" in reasons(s))
        if lives > 1:
            await agents.aclose()
            await agents.enter_async_context(station.serving())
            await station.until(lambda s: s.agent_epoch == "life-2")
        await station.bind_pod("b")
        await station.until_pod("b", "Failed")

    assert list(gpu.instances) == [left]
    assert not gpu.clients.get(left)


async def test_an_id_used_again_by_somebody_else_is_not_taken_for_ours(station: Station) -> None:
    async with station.serving():
        await run(station)
        gpu = station.hardware.gpus[0]
        gpu.reset()
        assert gpu.create(ONE, Placement(5, 1)) == 1  # the id that ours had
        station.driver.changed()
        await station.until(lambda s: "a" in reasons(s))
        await station.delete_pod("a")
        await station.plan()
        await station.until(lambda s: s.observed_generation == 3)
        await station.settle()

    assert [each.placement for each in gpu.instances.values()] == [Placement(5, 1)]


async def test_what_somebody_else_made_is_drift_and_let_be(station: Station) -> None:
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))
        gi_id = station.hardware.gpus[0].create(THREE, Placement(4, 4))
        station.driver.changed()
        status = await station.until(lambda s: "Drift" in conditions(s))
        assert conditions(status)["Drift"] == (
            f"{station.gpu} 3g.40gb {{4}}:4: a GPU instance that Tangram did not create"
        )
        writes = station.status_writes
        await station.settle()
        assert station.status_writes == writes  # told once
        assert gi_id in station.hardware.gpus[0].instances

        station.hardware.gpus[0].destroy(gi_id)
        station.driver.changed()
        await station.until(lambda s: "Drift" not in conditions(s))


async def test_a_device_taken_away_under_a_pod_is_drift_and_never_fought_over(
    station: Station,
) -> None:
    calls: list[Call] = []

    async def note(call: Call) -> None:
        if call.verb != "discover":
            calls.append(call)

    async with station.serving():
        await run(station)
        station.driver.disturbance = note
        station.hardware.gpus[0].bare.add(1)
        station.driver.changed()
        status = await station.until(lambda s: "Drift" in conditions(s))
        await station.settle()

    assert "the device of assignment a is gone, a pod had it" in conditions(status)["Drift"]
    assert calls == []


async def test_a_free_instance_of_somebody_else_excludes_its_profile_on_that_gpu(
    station: Station,
) -> None:
    """The driver chooses which free GPU instance backs a vGPU: it might choose that one."""
    gi_id = station.hardware.gpus[0].create(ONE, Placement(6, 1), bare=True)
    async with station.serving():
        await station.plan(
            assignment("a", station.gpu, start=4), assignment("b", station.gpu, profile=THREE)
        )
        status = await station.until(lambda s: "a" in reasons(s) and bool(s.realized))
        assert "would take the vGPU" in reasons(status)["a"]
        assert [each.id for each in status.realized] == ["b"]
        assert [each.vacant for each in status.gpus[0].instances] == [True, False]

        station.hardware.gpus[0].destroy(gi_id)
        await station.plan(assignment("c", station.gpu, start=4))
        await station.until_realized("c")


async def test_containers_are_not_bothered_by_a_free_instance() -> None:
    station = Station(hardware(1, mode=Mode.CONTAINER))
    await station.install()
    station.hardware.gpus[0].create(ONE, Placement(6, 1), bare=True)
    async with station.serving():
        await station.plan(assignment("a", station.gpu, resource="nvidia.com/mig-1g.10gb"))
        status = await station.until_realized("a")

    assert not any(each.vacant for each in status.gpus[0].instances)


def first_cut_short(error: BaseException) -> Callable[[Call], Awaitable[None]]:
    """Return a disturbance that leaves the first creation without its device."""
    done: list[Call] = []

    async def disturb(call: Call) -> None:
        if call.verb == "create" and not done:
            done.append(call)
            raise CutShort(error)

    return disturb


async def test_what_a_creation_left_behind_goes_before_another_of_its_profile_is_made(
    station: Station,
) -> None:
    """At any moment at most one GPU instance of a profile is free on a GPU."""
    free: list[int] = []
    disturb = first_cut_short(DriverError("create", code=999))

    async def watch(call: Call) -> None:
        free.append(len(station.hardware.gpus[0].bare))
        if call.verb == "create" and not call.done:
            assert not station.hardware.gpus[0].bare
        await disturb(call)

    station.driver.disturbance = watch
    async with station.serving():
        await station.plan(*(assignment(id, station.gpu, start=n) for n, id in enumerate("abc")))
        # All three exist; the pods are tied one after the other.
        await station.until(lambda s: sorted(owners(s)) == ["a", "b", "c"] and bool(s.realized))

    assert max(free) == 1
    assert not station.hardware.gpus[0].bare


async def test_a_rival_plugin_is_told_with_the_remedy_and_gets_no_competition(
    station: Station,
) -> None:
    async with station.serving():
        running = await run(station)
        station.checkpoint.rivals[SMALL] = "the socket of kubevirt-gpu-device-plugin"
        await station.plan(
            running,
            assignment("b", station.gpu, start=1),
            assignment("c", station.gpu, profile=THREE, start=4),
        )
        status = await station.until_realized("a", "c")
        assert "another device plugin advertises" in reasons(status)["b"]
        assert status.rivals == (SMALL,)
        assert conditions(status)["RivalPlugins"] == (
            f"{SMALL}: the socket of kubevirt-gpu-device-plugin;"
            " remove that plugin, or leave the resource to it (--resource)"
        )

        station.checkpoint.rivals.clear()
        station.driver.changed()
        status = await station.until(lambda s: not s.rivals)

    assert HALF not in status.rivals
    assert "RivalPlugins" not in conditions(status)


@pytest.mark.parametrize("hang", ["discover", "create"])
async def test_the_lease_is_renewed_while_a_pass_hangs_in_the_driver(
    station: Station, hang: str
) -> None:
    reached = asyncio.Event()

    async def never(call: Call) -> None:
        if call.verb == hang:
            reached.set()
            await asyncio.Event().wait()

    station.driver.disturbance = never
    settings = Settings(lease_renew_seconds=0.001, driver_timeout_seconds=60.0)
    async with station.serving(settings):
        await station.plan(assignment("a", station.gpu))
        async with asyncio.timeout(10):
            await reached.wait()
        first = (await station.lease())["spec"]["renewTime"]

        async def renewed() -> bool:
            return bool((await station.lease())["spec"]["renewTime"] != first)

        await until(renewed)


async def test_a_driver_that_tells_of_a_change_is_looked_at_before_the_next_scan(
    station: Station,
) -> None:
    rare = Settings(rescan_seconds=3600.0, first_retry_seconds=0.001)

    def sees_it(status: Inventory) -> bool:
        return bool(status.gpus) and bool(status.gpus[0].instances)

    async with station.serving(rare):
        await station.until(lambda s: bool(s.gpus))
        await station.settle()
        station.hardware.gpus[0].create(ONE, Placement(0, 1))
        await station.settle()
        assert not sees_it(await station.status())
        station.driver.changed()
        await station.until(sees_it)
