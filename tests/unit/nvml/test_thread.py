from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator

import pytest

from nodeagent.driver import DriverBusy, DriverTimeout, GpuLost
from nodeagent.nvml.thread import NvmlThread
from tests.waiting import until


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What a stuck job waits for."""
    event = threading.Event()
    yield event
    event.set()


async def test_every_job_runs_on_the_same_thread_one_after_the_other() -> None:
    thread = NvmlThread(within=5)
    running = []

    def job() -> int:
        running.append(1)
        assert len(running) == 1
        running.pop()
        return threading.get_ident()

    idents = await asyncio.gather(*(thread.run("call", job) for _ in range(20)))
    thread.stop()

    assert len(set(idents)) == 1
    assert idents[0] != threading.get_ident()


async def test_a_job_that_does_not_return_is_reported_and_nothing_else_is_begun(
    release: threading.Event,
) -> None:
    thread = NvmlThread(within=0.05, in_flight=lambda: "nvmlDeviceGetName")
    begun = []

    with pytest.raises(DriverTimeout, match=r"^look: no answer .*: in nvmlDeviceGetName$"):
        await thread.run("look", release.wait)
    assert thread.stuck
    with pytest.raises(
        DriverBusy, match=r"^create: not begun .*: nvmlDeviceGetName has not returned$"
    ):
        await thread.run("create", lambda: begun.append(1))
    assert not begun

    release.set()
    await until(lambda: not thread.stuck)
    assert await thread.run("look", lambda: "there again") == "there again"
    thread.stop()


async def left(thread: NvmlThread, job: Callable[[], object]) -> None:
    """Begin a job and go away."""
    begun = threading.Event()

    def begin() -> None:
        begun.set()
        job()

    caller = asyncio.create_task(thread.run("look", begin))
    await until(begun.is_set)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_caller_that_goes_away_leaves_the_job_to_end_first(
    release: threading.Event,
) -> None:
    thread = NvmlThread(within=5)
    await left(thread, release.wait)

    after = asyncio.create_task(thread.run("create", release.is_set))
    await asyncio.sleep(0.01)
    assert not after.done()
    assert not thread.stuck

    release.set()
    assert await after is True
    thread.stop()


async def test_a_job_whose_caller_went_away_may_be_stuck_as_any_other(
    release: threading.Event,
) -> None:
    thread = NvmlThread(within=0.05)
    await left(thread, release.wait)

    with pytest.raises(DriverBusy):
        await thread.run("look", lambda: None)
    assert thread.stuck
    thread.stop()


async def test_the_loop_does_not_complain_of_what_a_job_raises_whose_caller_went_away(
    release: threading.Event,
) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    thread = NvmlThread(within=5)

    def fail() -> None:
        release.wait()
        raise GpuLost("look")

    await left(thread, fail)
    release.set()
    await thread.close()
    await asyncio.sleep(0)  # for what is to be told of the job's end
    gc.collect()

    assert complaints == []


async def test_closing_waits_for_the_job_of_a_caller_that_went_away(
    release: threading.Event,
) -> None:
    thread = NvmlThread(within=5)
    done = []

    def job() -> None:
        release.wait()
        done.append(1)

    await left(thread, job)
    closing = asyncio.create_task(thread.close())
    await asyncio.sleep(0.01)
    assert not closing.done()

    release.set()
    await closing
    assert done


async def test_closing_waits_no_longer_for_a_job_than_any_call_may_take(
    release: threading.Event,
) -> None:
    thread = NvmlThread(within=0.05)
    await left(thread, release.wait)

    await thread.close()
    assert thread.stuck


async def test_while_one_wants_to_be_alone_nothing_else_is_begun() -> None:
    thread = NvmlThread(within=5)
    done: list[str] = []

    async with thread.alone("shut down", lambda: done.append("shut down")):
        other = asyncio.create_task(thread.run("look", lambda: done.append("look")))
        await asyncio.sleep(0.01)
        assert done == ["shut down"]

    await other
    assert done == ["shut down", "look"]
    thread.stop()


async def test_whoever_cannot_be_alone_is_told_so(release: threading.Event) -> None:
    thread = NvmlThread(within=0.05)

    def fail() -> None:
        raise ValueError("the job's own")

    with pytest.raises(ValueError, match="the job's own"):
        async with thread.alone("shut down", fail):
            pytest.fail("the context was entered")
    with pytest.raises(DriverTimeout):
        async with thread.alone("shut down", release.wait):
            pytest.fail("the context was entered")
    with pytest.raises(DriverBusy):
        async with thread.alone("shut down", lambda: None):
            pytest.fail("the context was entered")
    thread.stop()


async def test_what_is_waited_for_to_the_end_answers_late_while_others_are_refused(
    release: threading.Event,
) -> None:
    thread = NvmlThread(within=0.05)
    late = asyncio.create_task(thread.run("create", release.wait, to_the_end=True))
    await until(lambda: thread.stuck)

    with pytest.raises(DriverBusy):
        await thread.run("look", lambda: None)
    assert not late.done()

    release.set()
    assert await late is True
    thread.stop()


async def test_an_error_of_the_job_is_the_callers() -> None:
    thread = NvmlThread(within=5)

    def fail() -> None:
        raise TimeoutError("the job's own")

    with pytest.raises(TimeoutError, match="the job's own"):
        await thread.run("look", fail)
    thread.stop()
