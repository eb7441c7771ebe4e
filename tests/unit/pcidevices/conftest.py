from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.names import Version
from tests.fakes.pcidevices.site import Cluster, machine
from tests.unit.pcidevices.node import Node


@pytest.fixture(params=list(Version))
def version(request: pytest.FixtureRequest) -> Version:
    return Version(request.param)


@pytest.fixture
async def node_of(tmp_path: Path) -> Callable[[Version], Node]:
    """Make the test's node, with an A100 whose virtual functions are not enabled yet."""
    shared = next(each for each in tmp_path.parents if each.name.startswith("pytest-"))
    library = built_for_tests(shared / "fake-nvml")

    def make(version: Version) -> Node:
        return Node(Cluster(version), machine(tmp_path, library, "A100-40GB", node="node-1"))

    return make


@pytest.fixture
async def node(node_of: Callable[[Version], Node], version: Version) -> Node:
    """A node whose controller has found its GPU, and given it its virtual functions."""
    node = node_of(version)
    await node.begin()
    return node
