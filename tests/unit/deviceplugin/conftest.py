from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nodeagent.deviceplugin import Places
from tests.unit.deviceplugin.node import Node


@pytest.fixture
def places() -> Iterator[Places]:
    """Directories whose names are short enough for sockets."""
    root = Path(tempfile.mkdtemp(prefix="kubelet-"))
    yield Places(root / "device-plugins", root / "pod-resources.sock", root / "cdi")
    shutil.rmtree(root)


@pytest.fixture
async def node(places: Places) -> AsyncIterator[Node]:
    node = Node(places)
    async with node.kubelet.serving():
        node.run()
        yield node
        await node.end()
