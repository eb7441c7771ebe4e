"""On Harvester the agent asks for what its roles allow, observed at work, and for nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nodeagent.apiserver.protocol import ApiServer, Kind
from tests.fakes.kubelet import temporary_places
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.names import GROUP, Version
from tests.fakes.pcidevices.site import Cluster, machine
from tests.manifests.calls import Permission
from tests.manifests.test_rbac import allowed
from tests.unit.harvester.station import Station

VERBS = ("get", "list", "watch", "create", "patch", "delete")
GPU_VM = "kubevirt.io"


class Overheard:
    """An API server's door that remembers what was asked for: ``asked``."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self.asked: set[Permission] = set()

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._api, verb)
        if verb not in VERBS:
            return call

        def overheard(kind: Kind, *arguments: Any, **options: Any) -> Any:
            subresource = options.get("subresource", "")
            resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
            self.asked.add((kind.group, resource, verb))
            return call(kind, *arguments, **options)

        return overheard


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    shared = next(each for each in tmp_path.parents if each.name.startswith("pytest-"))
    library = built_for_tests(shared / "fake-nvml")
    with temporary_places() as places:
        gpus = machine(tmp_path, library, "A100-40GB", node="node-1")
        station = Station(Cluster(Version.V1_7), gpus, places, tmp_path)
        async with station.kubelet.serving():
            await station.begin()
            yield station
            await station.close()


async def test_an_agent_on_harvester_may_do_what_it_does_and_nothing_else(
    station: Station,
) -> None:
    overheard: Any = Overheard(station.cluster.client("agent"))
    async with station.agent(api=overheard):
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_realized("a1")
        await station.running("vm-1")
        await station.remove("vm-1")
        await station.plan()
        await station.until(lambda: station.starts() == [])

    everywhere = allowed(("base/nodeagent/rbac.yaml", "tangram-agent"))
    on_harvester = allowed(("overlays/harvester/rbac.yaml", "tangram-agent-harvester"))
    assert overheard.asked <= everywhere | on_harvester
    assert {each for each in overheard.asked if each[0] in (GROUP, GPU_VM)} == on_harvester
