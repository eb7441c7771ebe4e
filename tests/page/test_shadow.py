"""The policy beside the live one at the page: there where there is one, in words and numbers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from extender.server import desk
from extender.shadow import Standing, State
from tests.page.chromium import complaints
from tests.page.reader import opened, text, wait
from tests.page.running import unserved_fleet
from tests.unit.extender.shadow.test_told import evidence, running

pytestmark = pytest.mark.xdist_group("chromium")


@contextlib.contextmanager
def beside(said: Standing) -> Iterator[str]:
    """Serve the page of a small fleet with a shadow."""
    with unserved_fleet(2) as (fleet, loop):
        door = desk(fleet.service, reviewer=None, shadow=lambda: said)
        url = asyncio.run_coroutine_threadsafe(door.__aenter__(), loop).result(10)
        try:
            yield url
        finally:
            asyncio.run_coroutine_threadsafe(door.__aexit__(None, None, None), loop).result(30)


def test_what_a_shadow_shows_is_on_the_page(driver: Any) -> None:
    complaints(driver)
    with beside(running(evidence())) as url:
        opened(driver, url)
        wait(driver, lambda driver: "Refused" in text(driver, "#shadow"))

        said = text(driver, "#shadow")
        assert "new beside old for 2.0 h: 10 VMs, 70.0 % alike" in said
        assert "-2 ± 1" in said
        assert "95 %" in said
        assert "behind" not in said
        assert complaints(driver) == []


def test_a_shadow_that_is_behind_is_said_to_be(driver: Any) -> None:
    with beside(msgspec.structs.replace(running(evidence()), lag_seconds=600.0)) as url:
        opened(driver, url)
        wait(driver, lambda driver: "behind by 10 min" in text(driver, "#shadow"))


def test_a_fault_of_its_policy_is_on_the_page(driver: Any) -> None:
    said = Standing(state=State.WAITING, fault="shadow.yaml: $.value: is <b>nonsense</b>")
    with beside(said) as url:
        opened(driver, url)
        wait(driver, lambda driver: "<b>nonsense</b>" in text(driver, "#shadow"))


def test_without_a_shadow_nothing_is_said_of_one(driver: Any) -> None:
    with beside(Standing(state=State.NONE)) as url:
        opened(driver, url)
        wait(driver, lambda driver: text(driver, "#fits"))

        assert driver.execute_script("return document.getElementById('shadow').hidden")
