"""Whoever has something on a GPU that is closed is warned of it: on the pod, and on its VM."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from nodeagent.agent.alarms import MOST_AT_ONCE, REASON, alarms
from nodeagent.api.gpunode import Assignment, PodRef, Realized
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import EVENTS, PODS, ApiError, Refused, Unavailable
from nodeagent.settings import Settings
from nodeagent.simulated.driver import Call as DriverCall
from tests.unit.nodeagent.builders import SMALL, assignment, hardware
from tests.unit.nodeagent.station import EAGER, Station
from tests.waiting import until

SICK = "XID 79: fallen off the bus"
OFTEN = Settings(rescan_seconds=0.01, first_retry_seconds=0.001, longest_retry_seconds=0.01)


async def events(station: Station) -> list[dict[str, Any]]:
    page = await station.api.list(EVENTS)
    return [msgspec.json.decode(each) for each in page.items]


async def has(station: Station, count: int) -> bool:
    return len(await events(station)) == count


async def about(station: Station) -> list[tuple[str, str]]:
    """Return the kind and the name of what each Event is about."""
    found = [each["involvedObject"] for each in await events(station)]
    return sorted((each["kind"], each["name"]) for each in found)


async def launcher(station: Station, vm: str) -> PodRef:
    """Create the pod of a VM."""
    owner = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "name": vm,
        "uid": f"uid-{vm}",
        "controller": True,
    }
    name = f"virt-launcher-{vm}"
    limits = {"resources": {"limits": {SMALL: "1"}}}
    body = {
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "compute", **limits}]},
    }
    made = msgspec.json.decode(await station.api.create(PODS, body, namespace="default"))
    return PodRef("default", name, made["metadata"]["uid"])


async def two_run(station: Station) -> None:
    """Have a VM and a pod that is none run, each on a GPU of its own."""
    vm, other = await launcher(station, "vm"), await station.create_pod("other", {SMALL: 1})
    second = station.hardware.gpus[1].uuid
    await station.plan(
        assignment("a", station.gpu, of=vm, start=2), assignment("b", second, of=other)
    )
    for id, pod in (("a", vm), ("b", other)):
        await station.until(lambda s, id=id: id in {each.id for each in s.realized})  # type: ignore[misc]
        await station.bind_pod(pod.name)
        await station.until_pod(pod.name, "Running")


@pytest.fixture
async def station() -> Station:
    station = Station(hardware(2))
    await station.install()
    return station


def fall_sick(station: Station, gpu: int = 0) -> None:
    station.hardware.gpus[gpu].unhealthy = SICK
    station.driver.changed()


async def test_the_pod_and_the_vm_it_runs_are_told_why_their_gpu_is_closed_and_no_others(
    station: Station,
) -> None:
    async with station.serving():
        await two_run(station)
        assert await events(station) == []
        fall_sick(station)
        await until(lambda: has(station, 2))
        pod, vm = sorted(await events(station), key=lambda each: each["involvedObject"]["kind"])

    assert pod["involvedObject"]["name"] == "virt-launcher-vm"
    assert vm["involvedObject"] == {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "namespace": "default",
        "name": "vm",
        "uid": "uid-vm",
    }
    assert (pod["type"], pod["reason"], pod["metadata"]["namespace"]) == (
        "Warning",
        REASON,
        "default",
    )
    assert (
        pod["message"]
        == vm["message"]
        == (
            f"GPU {station.gpu} takes nothing new: {SICK}. It still holds {SMALL} of"
            " pod virt-launcher-vm (memory slices 2 to 2), which may fail."
        )
    )


async def test_it_is_told_once_whatever_follows_and_by_the_next_agent_neither(
    station: Station,
) -> None:
    creations = 0

    async def note(call: Call) -> None:
        nonlocal creations
        creations += call.verb == "create" and call.kind == EVENTS and not call.done

    station.api.disturbance = note
    async with station.serving(OFTEN):
        await two_run(station)
        fall_sick(station)
        await until(lambda: has(station, 2))
        await station.until(lambda s: s.gpus[0].unhealthy == SICK)
        await several_passes(station)
        assert creations == 2

    async with station.serving(OFTEN):
        await station.until(lambda s: s.agent_epoch == "life-2")
        await several_passes(station)

    assert len(await events(station)) == 2


async def several_passes(station: Station) -> None:
    """Wait until the agent has looked at the GPUs ten times more."""
    looked = 0

    async def note(call: DriverCall) -> None:
        nonlocal looked
        looked += call.verb == "discover" and not call.done

    station.driver.disturbance = note
    await until(lambda: looked >= 10)
    station.driver.disturbance = None


async def test_a_gpu_that_is_closed_for_another_reason_is_told_of_again(station: Station) -> None:
    async with station.serving():
        await two_run(station)
        fall_sick(station)
        await until(lambda: has(station, 2))
        station.hardware.gpus[0].lost = True
        station.driver.changed()
        await until(lambda: has(station, 4))

    assert {"GPU is lost" in each["message"] for each in await events(station)} == {True, False}


@pytest.mark.parametrize(
    ("error", "told"),
    [(Unavailable(503, "not now"), True), (Refused(403, "events is forbidden"), False)],
)
async def test_what_keeps_events_from_being_written_keeps_nothing_else(
    station: Station, error: ApiError, told: bool
) -> None:
    failing = True

    async def fail(call: Call) -> None:
        if failing and call.verb == "create" and call.kind == EVENTS:
            raise error

    station.api.disturbance = fail
    async with station.serving(OFTEN):
        await two_run(station)
        fall_sick(station)
        await station.until(lambda s: s.gpus[0].unhealthy == SICK)
        pod = await station.create_pod("new", {SMALL: 1})
        node = await station.gpu_node()
        second = station.hardware.gpus[1].uuid
        await station.plan(*node.spec.assignments, assignment("c", second, of=pod, start=3))
        await station.until_realized("a", "b", "c")
        failing = False
        await several_passes(station)
        assert await has(station, 2 if told else 0)


async def test_events_that_nobody_answers_for_hold_a_pass_up_for_its_time_only(
    station: Station,
) -> None:
    asked = asyncio.Event()

    async def never(call: Call) -> None:
        if call.verb == "create" and call.kind == EVENTS:
            asked.set()
            await asyncio.Event().wait()

    station.api.disturbance = never
    hasty = msgspec.structs.replace(OFTEN, api_timeout_seconds=0.2)
    async with station.serving(hasty):
        await two_run(station)
        fall_sick(station)
        await asked.wait()
        await several_passes(station)

    assert await events(station) == []


async def test_of_many_pods_some_are_warned_in_each_pass(station: Station) -> None:
    machine = hardware(4)
    station = Station(machine)
    await station.install()
    plan: list[Assignment] = []
    written = [0]

    async def count(call: Call) -> None:
        written[-1] += call.verb == "create" and call.kind == EVENTS and not call.done

    async def begin_anew(call: DriverCall) -> None:
        if call.verb == "discover" and not call.done and written[-1]:
            written.append(0)

    station.api.disturbance = count
    station.driver.disturbance = begin_anew
    async with station.serving(OFTEN):
        for gpu in machine.gpus:
            for start in range(5):
                name = f"pod-{len(plan)}"
                pod = await station.create_pod(name, {SMALL: 1})
                plan.append(assignment(name, gpu.uuid, start=start, of=pod))
                await station.plan(*plan)
                await station.until_realized(*(each.id for each in plan))
                await station.bind_pod(name)
                await station.until_pod(name, "Running")
        for gpu in machine.gpus:
            gpu.unhealthy = SICK
        station.driver.changed()
        await until(lambda: has(station, 20))

    assert [each for each in written if each] == [MOST_AT_ONCE, 20 - MOST_AT_ONCE]


async def test_of_a_pod_that_is_gone_nobody_is_warned(station: Station) -> None:
    async with station.serving(EAGER):
        await two_run(station)
        await station.api.delete(PODS, "virt-launcher-vm", namespace="default", grace_seconds=0)
        await launcher(station, "vm")  # another, of the same name
        fall_sick(station)
        fall_sick(station, 1)
        await until(lambda: has(station, 1))

    assert await about(station) == [("Pod", "other")]


def test_nobody_is_warned_of_a_gpu_that_has_only_to_be_made_ready() -> None:
    host = hardware(1).host()
    (gpu,) = host.gpus
    plan = [assignment("a", gpu.uuid)]

    def warned(**told: Any) -> int:
        gpus = (msgspec.structs.replace(gpu, **told),)
        now = msgspec.structs.replace(host, gpus=gpus)
        return len(alarms(plan, now, realized=[Realized("a", "slot")]))

    assert warned(unhealthy=SICK) == 1
    assert warned(unhealthy="Harvester has yet to list its functions", unready=True) == 0
