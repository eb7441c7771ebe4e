from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.page.chromium import chromium_for_tests
from tests.page.running import demo


@pytest.fixture(scope="package")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium_for_tests(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


POLICY = Path(__file__).with_name("policy.yaml")


@pytest.fixture(scope="package")
def page(driver: Any) -> Iterator[str]:
    """The address of a demo with rules that more is asked of than there is room for."""
    with demo(
        *("--nodes", "3", "--vms", "60", "--load", "1.6", "--lifetime", "25", "--seed", "5"),
        *("--policy", str(POLICY)),
    ) as url:
        yield url
