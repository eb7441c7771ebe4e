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


class _Rest:
    """Lets no collection look through what is there before any test: all modules and all tests.

    That takes half a second each time. What is tested may end such a rest; the next test renews it.
    To ask Python whether it lasts would take a tenth of a second: it counts what rests.
    """

    def __init__(self) -> None:
        self._unfreeze = gc.unfreeze
        self._lasts = False

    def begin(self) -> None:
        """Collect, and let rest what is left, if nothing does."""
        if not self._lasts:
            gc.collect()
            gc.freeze()
            self._lasts = True

    def end(self) -> None:
        """Be ``gc.unfreeze``."""
        self._lasts = False
        self._unfreeze()


_REST = _Rest()
gc.unfreeze = _REST.end


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test with what was there before any at rest."""
    _REST.begin()


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let the time of tests so marked pass at once: theirs is none of a busy machine's."""
    virtual = item.get_closest_marker("virtual_time") is not None
    return {"loop": VirtualTimeLoop if virtual else asyncio.new_event_loop}
