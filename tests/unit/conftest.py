from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command of ours sets: to log to its stderr, which is closed when it has ended."""
    yield
    structlog.reset_defaults()
