from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nvml.node import Node


@pytest.fixture
async def node_of(tmp_path: Path) -> AsyncIterator[Callable[..., Node]]:
    """Make the test's node: ``node_of("A30-24GB", gpus=2)``."""
    made: list[Node] = []

    def make(model: str = "H100-80GB", **options: Any) -> Node:
        assert not made, "one node in a test"
        made.append(Node(tmp_path, model, **options))
        return made[0]

    yield make
    for node in made:
        await node.close()
