from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.kubelet import temporary_places
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.names import Version
from tests.fakes.pcidevices.site import Cluster, machine
from tests.unit.kubevirt_fake.house import House


@pytest.fixture(params=list(Version))
def version(request: pytest.FixtureRequest) -> Version:
    return Version(request.param)


@pytest.fixture
async def house(tmp_path: Path, version: Version) -> AsyncIterator[House]:
    """A cluster with one node, whose GPU is enabled and neutral."""
    shared = next(each for each in tmp_path.parents if each.name.startswith("pytest-"))
    library = built_for_tests(shared / "fake-nvml")
    with temporary_places() as places:
        gpus = machine(tmp_path, library, "A100-40GB", node="node-1")
        house = House(Cluster(version), gpus, places)
        async with house.kubelet.serving():
            await house.begin()
            yield house
            await house.plugins.close()
