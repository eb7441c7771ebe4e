"""What holds for every test."""

import asyncio
import gc
from collections.abc import Callable, Mapping

import pytest
from hypothesis import settings

from tests.virtual_time import VirtualTimeLoop

# A busy machine is no fault of what is tested: performance is proven by ratios, in benchmarks/.
settings.register_profile("tangram", deadline=None)
settings.load_profile("tangram")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let no collection look through what is there before any test: all modules and all tests.

    That takes half a second each time. What is tested may end such a rest; the next test renews it.
    """
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let the time of tests so marked pass at once: theirs is none of a busy machine's."""
    virtual = item.get_closest_marker("virtual_time") is not None
    return {"loop": VirtualTimeLoop if virtual else asyncio.new_event_loop}
