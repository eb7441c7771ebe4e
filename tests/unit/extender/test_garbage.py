"""When Python looks for garbage while the hooks are served."""

from __future__ import annotations

import asyncio
import gc
import weakref
from unittest.mock import Mock

import pytest

from extender.cli import garbage
from extender.cli.garbage import collected_between_answers
from extender.service import Service
from tests.waiting import until


class Ring:
    """A value that refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture(autouse=True)
def nothing_rests() -> None:
    """Let all be looked through at first, as in a process of its own."""
    gc.unfreeze()


async def test_garbage_goes_in_turns_of_the_loop(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "YOUNG_SECONDS", 0.0)
    async with collected_between_answers(service):
        await until(lambda: bool(gc.get_freeze_count()))
        ring = weakref.ref(Ring())
        assert ring() is not None, "nobody has looked yet"
        await until(lambda: ring() is None)


async def test_what_has_grown_old_before_it_became_garbage_goes_in_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "YOUNG_SECONDS", 0.0)
    monkeypatch.setattr(garbage, "ALL_SECONDS", 0.0)
    async with collected_between_answers(service):
        await until(lambda: bool(gc.get_freeze_count()))
        old = Ring()
        gc.collect()
        ring = weakref.ref(old)
        del old
        await until(lambda: ring() is None)


async def test_afterwards_python_looks_as_before(service: Service) -> None:
    before = gc.get_threshold(), gc.get_freeze_count()

    async with collected_between_answers(service):
        assert gc.get_threshold() != before[0]
        await until(lambda: gc.get_freeze_count() > before[1])

    assert (gc.get_threshold(), gc.get_freeze_count()) == (before[0], 0)


@pytest.mark.virtual_time
async def test_everything_is_looked_through_when_nobody_asks(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    way, collected = service.knowledge.way, list[float]()
    loop = asyncio.get_running_loop()

    def collect(generation: int = 2) -> None:
        if generation == 2:
            collected.append(loop.time() - began)

    monkeypatch.setattr(garbage, "ALL_SECONDS", 10.0)
    monkeypatch.setattr(garbage, "PUT_OFF_SECONDS", 5.0)
    monkeypatch.setattr(garbage, "gc", Mock(collect=collect, get_threshold=gc.get_threshold))
    async with collected_between_answers(service):
        began = loop.time()
        while loop.time() - began < garbage.ALL_SECONDS + 1:
            way.enter()
            way.leave()
            await asyncio.sleep(garbage.YOUNG_SECONDS)
        assert not collected
        await asyncio.sleep(2 * garbage.QUIET_TURNS * garbage.YOUNG_SECONDS)
        assert len(collected) == 1

        while loop.time() - began < 2 * garbage.ALL_SECONDS + 2 * garbage.PUT_OFF_SECONDS:
            way.enter()
            way.leave()
            await asyncio.sleep(garbage.YOUNG_SECONDS)
        assert len(collected) == 2, "somebody always asks"
