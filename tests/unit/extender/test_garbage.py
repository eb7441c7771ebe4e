"""When Python looks for garbage while the hooks are served."""

from __future__ import annotations

import gc
import weakref

import pytest

from extender.cli import garbage
from extender.cli.garbage import collected_between_answers
from tests.waiting import until


class Ring:
    """A value that refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.self = self


async def test_garbage_goes_in_turns_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "YOUNG_SECONDS", 0.0)
    async with collected_between_answers():
        ring = weakref.ref(Ring())
        assert ring() is not None, "nobody has looked yet"
        await until(lambda: ring() is None)


async def test_what_has_grown_old_before_it_became_garbage_goes_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "YOUNG_SECONDS", 0.0)
    monkeypatch.setattr(garbage, "ALL_SECONDS", 0.0)
    old = Ring()
    gc.collect()
    ring = weakref.ref(old)
    async with collected_between_answers():
        del old
        await until(lambda: ring() is None)


async def test_afterwards_python_looks_as_before() -> None:
    before = gc.get_threshold()

    async with collected_between_answers():
        assert gc.get_threshold() != before

    assert gc.get_threshold() == before
