"""Calls that outlive the time they were given: NVML blocks, and nobody can end it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from nodeagent.actuate.actuator import Actuator
from nodeagent.actuate.intent import Intent
from nodeagent.api.geometry import Placement
from nodeagent.driver import DriverTimeout, Host, NoSuchInstance
from nodeagent.journal import Made
from nodeagent.journal_file import FileJournal
from nodeagent.kubelet import KubeletError
from nodeagent.simulated.driver import Call, Delayed, SimulatedDriver
from tests.unit.nodeagent.builders import ONE, TWO, assignment, hardware
from tests.unit.nodeagent.station import EAGER, Station, owners, reasons

IMPATIENT = msgspec.structs.replace(EAGER, driver_timeout_seconds=0.02)


@pytest.fixture
async def station(tmp_path: Path) -> Station:
    """Return a node of two GPUs whose journal is a file."""
    station = Station(hardware(2), journal=tmp_path / "journal.json")
    await station.install()
    return station


def first_is_late(verb: str, until: asyncio.Event) -> Callable[[Call], Awaitable[None]]:
    """Return a disturbance that lets the first call of *verb* take effect only then."""
    seen: list[Call] = []

    async def disturb(call: Call) -> None:
        if call.verb == verb and not seen:
            seen.append(call)
            raise Delayed(until)

    return disturb


def unanswered(station: Station) -> dict[str, bool]:
    return {each.assignment: each.unanswered for each in station.journal.made}


class NotingJournal(FileJournal):
    """A journal during whose writing the late call that it notes is answered."""

    def __init__(self, answered: asyncio.Event) -> None:
        super().__init__()
        self._answered = answered

    async def save(self, made: tuple[Made, ...]) -> None:
        await super().save(made)
        if any(each.unanswered for each in made):
            self._answered.set()
            for _ in range(10):  # tasks one behind the other hear of it
                await asyncio.sleep(0)


@pytest.mark.parametrize("made", [False, True])
async def test_an_answer_that_comes_as_the_time_is_over_is_known_should_the_process_end_then(
    made: bool,
) -> None:
    """So it is for an agent that was stopped for a while: it wakes to both, and may be killed.

    The next one could not tell that no GPU instance may still come, and close the GPU for ever.
    """
    node, answered = hardware(), asyncio.Event()
    driver, journal = SimulatedDriver(node), NotingJournal(answered)

    async def disturb(call: Call) -> None:
        if call.verb == "create" and not call.done:
            node.gpus[0].mig_enabled = made  # the call fails where it is off
            raise Delayed(answered)

    driver.disturbance = disturb
    actuator = Actuator(driver, journal, within=0.02)
    intent = Intent((assignment("late", node.gpus[0].uuid),))

    outcome = await actuator.converge(await actuator.look(), intent)

    assert outcome.live == ({"late"} if made else set())
    assert [each.unanswered for each in journal.made] == [False] * made
    assert not outcome.host.gpus[0].unhealthy


async def test_what_was_destroyed_is_ours_no_more_though_nobody_could_be_told_of_it() -> None:
    node = hardware()
    gpu, actuator = node.gpus[0], Actuator(SimulatedDriver(node), FileJournal(), within=1.0)

    async def unheard(host: Host) -> None:
        raise KubeletError("it does not answer")

    await actuator.converge(await actuator.look(), Intent((assignment("a", gpu.uuid),)))
    with pytest.raises(KubeletError):
        await actuator.converge(await actuator.look(), Intent(()), looked=unheard)
    theirs = gpu.create(ONE, Placement(0, 1))  # by hand

    await actuator.converge(await actuator.look(), Intent(()))

    assert gpu.instances.keys() == {theirs}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("planned", [False, True])
async def test_what_a_late_creation_makes_is_ours(
    station: Station, planned: bool, restart: bool
) -> None:
    """It is adopted where it is still planned, and destroyed where it is not."""
    released = asyncio.Event()
    station.driver.disturbance = first_is_late("create", released)
    late = assignment("late", station.gpu)

    async def settled() -> None:
        await station.settle()
        assert not station.hardware.gpus[0].instances
        assert unanswered(station) == {"late": True}
        released.set()
        if planned:
            assert owners(await station.until_realized("late")) == ["late"]
            assert unanswered(station) == {"late": False}
        else:
            await station.until(lambda s: not s.gpus[0].unhealthy)
            assert not station.hardware.gpus[0].instances
            assert not station.journal.made

    async with station.serving(IMPATIENT):
        await station.plan(late)
        status = await station.until(lambda s: "late" in reasons(s))
        assert "NVML error 10" in reasons(status)["late"] or status.gpus[0].unhealthy
        if not planned:
            await station.plan()
        if not restart:
            await settled()
    if restart:
        async with station.serving(IMPATIENT):
            await station.until(lambda s: s.agent_epoch == "life-2")
            await settled()


@pytest.mark.parametrize("restart", [False, True])
async def test_meanwhile_nothing_else_is_created_on_that_gpu_and_the_others_go_on(
    station: Station, restart: bool
) -> None:
    released = asyncio.Event()
    station.driver.disturbance = first_is_late("create", released)
    first, second = (gpu.uuid for gpu in station.hardware.gpus)
    next_one, other = assignment("next", first, start=1), assignment("other", second)
    async with station.serving(IMPATIENT):
        await station.plan(assignment("late", first))
        await station.until(lambda s: bool(s.gpus and s.gpus[0].unhealthy))
        if not restart:
            await station.plan(next_one, other)
            await station.until_realized("other")
    async with station.serving(IMPATIENT):
        await station.plan(next_one, other)
        status = await station.until_realized("other")
        assert reasons(status)["next"] == status.gpus[0].unhealthy
        assert not status.gpus[1].unhealthy
        assert not station.hardware.gpus[0].instances

        released.set()
        status = await station.until(lambda s: owners(s) == ["next", "other"])

    assert not status.gpus[0].unhealthy
    assert len(station.hardware.gpus[0].instances) == 1


async def test_creations_behind_a_late_one_are_not_even_begun(station: Station) -> None:
    released = asyncio.Event()
    station.driver.disturbance = first_is_late("create", released)
    both = [assignment("late", station.gpu), assignment("next", station.gpu, start=1)]
    async with station.serving(IMPATIENT):
        await station.plan(*both)
        status = await station.until(lambda s: len(s.failed) == 2)
        assert station.hardware.gpus[0].instances == {}
        assert unanswered(station) == {"late": True}
        assert status.gpus[0].unhealthy

        released.set()
        await station.until(lambda s: owners(s) == ["late", "next"])


async def test_a_late_creation_that_makes_nothing_in_the_end_opens_the_gpu_again(
    station: Station,
) -> None:
    released = asyncio.Event()
    station.driver.disturbance = first_is_late("create", released)
    async with station.serving(IMPATIENT):
        await station.plan(assignment("late", station.gpu))
        await station.until(lambda s: "late" in reasons(s))
        station.hardware.gpus[0].mig_enabled = False
        released.set()
        await station.until(lambda s: bool(s.gpus) and not s.gpus[0].mig_enabled)
        await station.until(lambda s: not s.gpus[0].unhealthy)
        assert not station.journal.made

        station.hardware.gpus[0].mig_enabled = True
        await station.plan(assignment("next", station.gpu))
        await station.until_realized("next")


async def test_a_creation_whose_outcome_the_driver_does_not_know_counts_until_a_reboot(
    station: Station,
) -> None:
    """Here the call has ended, so nothing but its GPU instance could ever answer it."""

    async def time_out(call: Call) -> None:
        if call.verb == "create" and call.gpu == station.gpu:
            raise DriverTimeout("create")

    station.driver.disturbance = time_out
    async with station.serving(IMPATIENT):
        await station.plan(assignment("late", station.gpu))
        await station.until(lambda s: bool(s.gpus and s.gpus[0].unhealthy))
        station.driver.disturbance = None
        await station.plan(assignment("next", station.gpu))
        status = await station.until(lambda s: "next" in reasons(s))
        assert "never answered" in reasons(status)["next"]
        assert unanswered(station) == {"late": True}
    station.hardware.reboot()

    async with station.serving(IMPATIENT):
        await station.until_realized("next")

    assert unanswered(station) == {"next": False}


async def test_during_a_late_destruction_nothing_is_created_that_it_could_hit(
    station: Station,
) -> None:
    """A GPU instance's id is free again once it is gone, and the late call knows only the id."""
    released = asyncio.Event()
    created: list[Call] = []
    late = first_is_late("destroy", released)

    async def disturb(call: Call) -> None:
        await late(call)
        if call.verb == "create":
            created.append(call)

    async with station.serving(IMPATIENT):
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        station.driver.disturbance = disturb
        await station.plan(assignment("b", station.gpu, start=1))
        await station.until(lambda s: bool(s.gpus[0].unhealthy))
        station.hardware.gpus[0].instances.clear()  # somebody else was faster
        await station.settle()
        assert not created

        released.set()
        await station.until_realized("b")

    assert len(station.hardware.gpus[0].instances) == 1


async def test_what_has_the_id_of_another_by_now_is_left_alone() -> None:
    """As with the NVML driver: GPU instances have ids that come again."""
    node = hardware()
    (gpu,) = node.gpus
    driver = SimulatedDriver(node)
    gi_id = await driver.create(gpu.uuid, ONE, Placement(0, 1))
    await driver.discover()
    gpu.destroy(gi_id)
    assert gpu.create(TWO, Placement(2, 2)) == gi_id

    with pytest.raises(NoSuchInstance, match="another one has its id now"):
        await driver.destroy(gpu.uuid, gi_id)

    assert gi_id in gpu.instances
    await driver.discover()
    await driver.destroy(gpu.uuid, gi_id)
