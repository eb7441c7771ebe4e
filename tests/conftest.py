"""What holds for every test."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
from hypothesis import settings

from tests.virtual_time import VirtualTimeLoop

# A busy machine is no fault of what is tested: performance is proven by ratios, in benchmarks/.
settings.register_profile("tangram", deadline=None)
settings.load_profile("tangram")


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let the time of tests so marked pass at once: theirs is none of a busy machine's."""
    virtual = item.get_closest_marker("virtual_time") is not None
    return {"loop": VirtualTimeLoop if virtual else asyncio.new_event_loop}
