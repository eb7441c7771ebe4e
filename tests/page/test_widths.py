"""The page on a large screen, beside something else, and on a phone: nothing is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.page.chromium import HEIGHT, WIDTH, violations
from tests.page.reader import opened, wait
from tests.page.test_page import explained

pytestmark = pytest.mark.xdist_group("chromium")

PHONE = 500  # Chromium's windows are no narrower

CUT = """
const wider = (each) => each.scrollWidth > each.clientWidth + 1;
return [...document.querySelectorAll(".block b")].filter(wider).map((each) => each.innerText);
"""
"""Labels of blocks that are not to be read whole."""

HIDDEN = """
const root = document.documentElement;
const higher = (each) => each.scrollHeight > each.clientHeight + 1;
return [
  ...[...document.querySelectorAll("aside .body")].filter(higher),
  ...[...document.querySelectorAll("header *, #filters *, aside *")]
    .filter((each) => each.getBoundingClientRect().right > root.clientWidth),
  ...(root.scrollWidth > root.clientWidth ? [root] : []),
].map((each) => each.outerHTML.slice(0, 200));
"""
"""What has to be scrolled by itself, or lies beyond the right edge."""


@pytest.fixture
def resized(driver: Any) -> Iterator[Any]:
    """A browser whose window has its size again afterwards."""
    yield driver
    driver.set_window_size(WIDTH, HEIGHT)


@pytest.mark.parametrize("width", [WIDTH, 1000, PHONE])
def test_what_is_written_on_a_block_is_read_whole(resized: Any, page: str, width: int) -> None:
    resized.set_window_size(width, HEIGHT)
    opened(resized, page)

    assert resized.execute_script(CUT) == []


def test_on_a_phone_the_whole_page_scrolls_and_nothing_beside_it(resized: Any, page: str) -> None:
    resized.set_window_size(PHONE, HEIGHT)
    opened(resized, page)
    wait(resized, explained, 40)

    assert resized.execute_script(HIDDEN) == []
    assert violations(resized) == []
