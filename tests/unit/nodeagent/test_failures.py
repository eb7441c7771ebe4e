"""What an agent does about a driver that refuses, lies or falls silent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nodeagent.agent import Agent
from nodeagent.api.geometry import Placement
from nodeagent.apiserver.memory import Call as ApiCall
from nodeagent.apiserver.protocol import GPU_NODES, Unavailable
from nodeagent.driver import DriverError, GpuLost, InstanceInUse, PlacementUnavailable
from nodeagent.simulated.driver import Call, CutShort, Pretended
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.unit.nodeagent.builders import ONE, SEVEN, WHOLE, assignment, hardware
from tests.unit.nodeagent.station import NAME, Station, owners, reasons


def failing(
    verb: str, error: type[DriverError], *, done: bool = False
) -> Callable[[Call], Awaitable[None]]:
    """Return a disturbance that lets every call of *verb* fail."""

    async def disturb(call: Call) -> None:
        if (call.verb, call.done) == (verb, done):
            raise error(verb)

    return disturb


async def test_a_refused_creation_is_reported_at_once_and_tried_again(station: Station) -> None:
    station.driver.disturbance = failing("create", PlacementUnavailable)
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: "a" in reasons(s))
        assert "NVML error 23" in reasons(status)["a"]

        station.driver.disturbance = None
        status = await station.until_realized("a")

    assert reasons(status) == {}


async def test_a_retry_that_falls_due_while_a_pass_is_at_work_is_not_forgotten(
    station: Station,
) -> None:
    now = 0.0

    async def disturb(call: Call) -> None:
        nonlocal now
        if call.verb == "create" and not now:
            raise CutShort(DriverError("create"))
        if call.verb == "destroy":
            now = 1.5  # the time of the retry passes while what was left behind is cleared away

    station.driver.disturbance = disturb
    agent = Agent(
        NAME,
        api=station.api,
        driver=station.driver,
        kubelet=SimulatedKubelet(station.api, station.hardware),
        journal=station.journal,
        epoch="life",
        clock=lambda: now,
    )
    await station.plan(assignment("a", station.gpu))
    agent.heard(await station.gpu_node())
    assert await agent.converge() == 1.0
    assert await agent.converge() == 0.0
    await agent.converge()

    assert [each.id for each in (await station.status()).realized] == ["a"]


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


async def test_trouble_does_not_unsay_what_was_told_in_a_write_without_an_answer(
    station: Station,
) -> None:
    """That write may still be carried out, and be read before this one or after it."""
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))
        dropped: list[ApiCall] = []

        async def drop_and_break(call: ApiCall) -> None:
            if (call.kind, call.subresource) == (GPU_NODES, "status") and not dropped:
                dropped.append(call)
                station.driver.disturbance = failing("discover", GpuLost)
                raise Unavailable(0, "no answer: it is still on its way")

        station.api.disturbance = drop_and_break
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: s.conditions[0].status == "False")

        assert status.conditions[0].reason == "DriverUnavailable"
        assert [each.id for each in status.realized] == ["a"]
        assert owners(status) == ["a"]


async def test_a_pod_whose_instance_somebody_destroyed_keeps_no_slot_from_the_next(
    station: Station,
) -> None:
    """It runs on, and the kubelet has its slot, the only one of that resource there is room for."""
    async with station.serving():
        await station.plan(assignment("a", station.gpu, profile=SEVEN))
        await station.until_realized("a")
        await station.bind("a", {WHOLE: 1})
        await station.until_pod("a", "Running")
        station.hardware.gpus[0].instances.clear()
        station.hardware.gpus[0].clients.clear()
        await station.plan(assignment("b", station.gpu, profile=SEVEN))

        status = await station.until(lambda s: owners(s) == ["b"])
        assert {each.id for each in status.realized} == {"a", "b"}
