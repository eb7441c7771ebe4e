"""What signals do to a process full of agents."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from nodeagent.agent import Agent
from nodeagent.serving import SIGNALS, serve
from nodeagent.settings import Settings
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.unit.nodeagent.builders import SMALL, assignment
from tests.unit.nodeagent.station import EAGER, NAME, SOON, Station
from tests.waiting import until


@asynccontextmanager
async def served(
    station: Station, settings: Settings, alive: Path | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve the station by an agent whose process gets the signals of this one."""
    agent = Agent(
        NAME,
        api=station.api,
        driver=station.driver,
        kubelet=SimulatedKubelet(station.api, station.hardware, station.checkpoint, pace=SOON),
        journal=station.journal,
        epoch="served",
        settings=settings,
        pace=SOON,
    )
    task = asyncio.create_task(serve([agent], alive, alive_every=0.001))
    try:
        await station.until(lambda s: s.agent_epoch == "served")
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ended(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        await task


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_process_without_waiting_pods_ends_at_the_first_signal(
    station: Station, number: signal.Signals
) -> None:
    async with served(station, EAGER) as task:
        signal.raise_signal(number)
        await ended(task)


async def test_a_file_is_touched_again_and_again_until_the_process_ends(
    station: Station, tmp_path: Path
) -> None:
    file = tmp_path / "alive"
    async with served(station, EAGER, file) as task:
        for _ in range(2):
            await until(file.exists)
            file.unlink()
        signal.raise_signal(signal.SIGTERM)
        await ended(task)
        file.unlink(missing_ok=True)
        await station.settle()

    assert not file.exists()


async def test_a_file_that_cannot_be_touched_ends_the_process_and_says_why(
    station: Station, tmp_path: Path
) -> None:
    task = asyncio.create_task(serve([], tmp_path / "nowhere" / "alive"))
    with pytest.raises(ExceptionGroup) as raised:
        await ended(task)
    assert raised.group_contains(FileNotFoundError, match="nowhere")


async def test_the_first_signal_waits_for_the_tied_pod_and_the_second_for_nobody(
    station: Station,
) -> None:
    patient = msgspec.structs.replace(EAGER, drain_seconds=3600.0)
    async with served(station, patient) as task:
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        signal.raise_signal(signal.SIGTERM)
        await station.settle()
        assert not task.done()

        signal.raise_signal(signal.SIGTERM)
        await ended(task)


async def test_the_tied_pod_gets_its_slot_before_the_process_ends(station: Station) -> None:
    patient = msgspec.structs.replace(EAGER, drain_seconds=3600.0)
    pod = await station.create_pod("a", {SMALL: 1})
    async with served(station, patient) as task:
        await station.plan(assignment("a", station.gpu, of=pod))
        await station.until_realized("a")
        signal.raise_signal(signal.SIGTERM)
        await station.bind_pod("a")
        await ended(task)

    assert list(station.checkpoint.claims.values()) == [pod.uid]
