from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from nodeagent.deviceplugin import Places
from tests.fakes.kubelet import temporary_places
from tests.unit.deviceplugin.node import Node


@pytest.fixture
def places() -> Iterator[Places]:
    with temporary_places() as places:
        yield places


@pytest.fixture
async def node(places: Places) -> AsyncIterator[Node]:
    node = Node(places)
    async with node.kubelet.serving():
        node.run()
        yield node
        await node.end()
