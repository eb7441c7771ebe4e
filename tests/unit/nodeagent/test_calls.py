from __future__ import annotations

import asyncio

import pytest

from nodeagent.actuate.calls import Calls
from nodeagent.driver import CREATE, DESTROY, DriverError, DriverTimeout, GpuLost


@pytest.mark.parametrize(
    ("outcome", "answered"),
    [(None, True), (GpuLost(DESTROY), True), (DriverTimeout(DESTROY), False)],
)
async def test_a_late_call_keeps_its_gpu_busy_until_it_has_ended_and_that_was_noted(
    outcome: DriverError | None, answered: bool
) -> None:
    calls, end = Calls(within=0.0), asyncio.Event()

    async def destroy() -> None:
        await end.wait()
        if outcome:
            raise outcome

    with pytest.raises(DriverTimeout):
        await calls.make("GPU-0", DESTROY, destroy())
    assert calls.busy == {"GPU-0"}
    assert not calls.ended()

    end.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert calls.busy == calls.ended() == {"GPU-0"}
    assert calls.answered(DESTROY) == ({"GPU-0"} if answered else frozenset())
    assert not calls.answered(CREATE)

    calls.forget(calls.ended())
    assert not calls.busy


async def test_a_call_ends_with_its_caller() -> None:
    calls, cancelled = Calls(within=60.0), asyncio.Event()

    async def create() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    caller = asyncio.create_task(calls.make("GPU-0", CREATE, create()))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    async with asyncio.timeout(1):
        await cancelled.wait()
    assert not calls.busy
