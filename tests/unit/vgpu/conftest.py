from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from nodeagent.api.gpunode import Mode
from tests.unit.vgpu.node import VgpuNode


@pytest.fixture(params=[Mode.VGPU_MDEV, Mode.VGPU_VFIO])
def mode(request: pytest.FixtureRequest) -> Mode:
    mode: Mode = request.param
    return mode


@pytest.fixture
async def node_of(tmp_path: Path, mode: Mode) -> AsyncIterator[Callable[..., VgpuNode]]:
    """Make the test's node, once for each of the kernel's interfaces."""
    made: list[VgpuNode] = []

    def make(model: str = "A30-24GB", **options: Any) -> VgpuNode:
        assert not made, "one node in a test"
        made.append(VgpuNode(tmp_path, model, mode, **options))
        return made[0]

    yield make
    for node in made:
        await node.close()


@pytest.fixture
def node(node_of: Callable[..., VgpuNode]) -> VgpuNode:
    return node_of()
