"""The judge of a Harvester cluster notices what is wrong, whoever has made it so."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nodeagent.api import keys
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import PODS, Kind, PatchType
from tests.e2e.harvester.administered import Administered
from tests.e2e.harvester.judge import fits, violations
from tests.e2e.harvester.place import kept
from tests.e2e.harvester.witness import Launcher, Witness
from tests.fakes.kubelet import temporary_places
from tests.fakes.kubevirt import LauncherNode
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.host import Host
from tests.fakes.pcidevices.log import HOT_REMOVE, Log
from tests.fakes.pcidevices.names import Version
from tests.fakes.pcidevices.site import Cluster, machine
from tests.unit.harvester.station import BIG, Station


class Seen:
    """A station as the judge sees a cluster, and its one node."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.witness = Witness(station.cluster.api, lambda node, devices, uid: frozenset())
        self.administered = Administered(station.cluster.log)
        self.limits: Mapping[str, str] = {}
        """What the VM asks for, if it is to be something else than it does."""

    @property
    def log(self) -> Log:
        return self.station.cluster.log

    @property
    def nodes(self) -> Mapping[str, SeenNode]:
        return {"node-1": SeenNode(self.station)}

    async def launchers(self) -> dict[str, dict[str, Any]]:
        pods = await self.station.pods()
        for pod in pods if self.limits else ():
            pod["spec"]["containers"][0]["resources"]["limits"] = self.limits
        return {pod["metadata"]["labels"]["vm.kubevirt.io/name"]: pod for pod in pods}

    async def gpu_nodes(self) -> dict[str, GpuNode]:
        return {"node-1": await self.station.gpu_node()}

    async def listed(self, kind: Kind, namespace: str = "") -> list[dict[str, Any]]:
        page = await self.station.cluster.api.list(kind, namespace=namespace)
        return [msgspec.json.decode(raw) for raw in page.items]

    async def wrong(self) -> list[str]:
        return await violations(self, within=0.0)

    async def decided(self, *, start: int) -> None:
        """Have the VM's Binding say that it was decided to be at that memory slice."""
        (pod,) = (await self.launchers()).values()
        (entry,) = (await self.station.gpu_node()).spec.assignments
        decision = {
            "id": entry.id,
            "gpu": entry.gpu,
            "profile": "1g.5gb",
            "profileId": entry.profile_id,
            "start": start,
            "size": entry.size,
            "resource": entry.resource,
        }
        text = msgspec.json.encode([decision]).decode()
        patch = {"metadata": {"annotations": {keys.DECISION_ANNOTATION: text}}}
        metadata = pod["metadata"]
        await self.station.cluster.api.patch(
            PODS, metadata["name"], patch, patch_type=PatchType.MERGE, namespace="default"
        )
        place = (entry.gpu, entry.profile_id, start)
        self.witness.launchers[metadata["uid"]] = Launcher(
            "vm-1", "node-1", frozenset(), Counter([place])
        )


class SeenNode:
    def __init__(self, station: Station) -> None:
        self.station = station

    @property
    def host(self) -> Host:
        return self.station.site.host

    @property
    def launchers(self) -> LauncherNode:
        return self.station.node


@pytest.fixture
async def seen(tmp_path: Path, version: Version) -> AsyncIterator[Seen]:
    """A node on which one VM runs, at the fourth memory slice, as was planned."""
    shared = next(each for each in tmp_path.parents if each.name.startswith("pytest-"))
    library = built_for_tests(shared / "fake-nvml")
    with temporary_places() as places:
        gpus = machine(tmp_path, library, "A100-40GB", node="node-1")
        station = Station(Cluster(version), gpus, places, tmp_path)
        async with station.kubelet.serving():
            await station.begin()
            async with station.agent():
                await station.ready()
                pod = await station.vm_of("vm-1")
                await station.plan(station.assignment("a1", pod, 3))
                await station.until_realized("a1")
                await station.running("vm-1")
            seen = Seen(station)
            await seen.decided(start=3)
            yield seen
            await station.close()


async def test_all_is_well(seen: Seen) -> None:
    assert await seen.wrong() == []


async def test_a_plan_that_says_another_place_is_noticed(seen: Seen) -> None:
    (entry,) = (await seen.station.gpu_node()).spec.assignments
    await seen.station.plan(msgspec.structs.replace(entry, start=5))

    found = await seen.wrong()

    assert any("vm-1: has" in each for each in found)
    assert await seen.wrong() == found


async def test_a_vm_that_has_another_profile_than_it_asks_for_is_noticed(seen: Seen) -> None:
    seen.limits = {seen.station.resource(BIG): "1", "cpu": "4"}

    assert await seen.wrong() == ["vm-1: has {19: 1}, by profile, and asks for {9: 1}"]


@pytest.mark.parametrize(
    ("profiles", "well"),
    [([], True), ([9], True), ([9, 9], False), ([14, 19], True), ([9, 14], False), ([0], False)],
    ids=str,
)
def test_what_fits_is_found_out_for_all_that_a_vm_asks_for_together(
    profiles: list[int], well: bool
) -> None:
    geometry = MODELS["A100-40GB"].geometry
    half = geometry.occupied(geometry.empty, 9, Placement(0, 4))

    assert fits([(geometry, half)], profiles) is well
    assert fits([(geometry, half), (geometry, geometry.empty)], [0, *profiles]) is well


async def test_a_vm_elsewhere_than_was_decided_is_noticed_whatever_the_plan_says(
    seen: Seen,
) -> None:
    await seen.decided(start=5)

    assert any("vm-1: decided to be at" in each for each in await seen.wrong())


async def test_where_a_vm_kept_a_device_another_one_may_be_instead(seen: Seen) -> None:
    await seen.decided(start=5)
    (launcher,) = seen.witness.launchers.values()
    launcher.kept = frozenset({(seen.station.machine.uuids[0], 19, 3)})

    assert await seen.wrong() == []


async def test_what_a_vm_has_that_runs_is_kept_for_itself_alone(seen: Seen) -> None:
    station = seen.station
    (pod,) = (await seen.launchers()).values()
    uid, (device,) = pod["metadata"]["uid"], await station.enabled()
    host, node = station.site.host, station.node
    here = frozenset({(station.machine.uuids[0], 19, 3)})

    assert kept(host, [device], node.open_beside(uid)) == here
    assert kept(host, [device], node.open_beside("another")) == frozenset()
    assert kept(host, [], node.open_beside(uid)) == frozenset()

    await station.stop("vm-1")
    assert kept(host, [device], node.open_beside("another")) == here


async def test_who_was_bound_by_somebody_else_needs_no_decision(seen: Seen) -> None:
    (pod,) = (await seen.launchers()).values()
    patch = {"metadata": {"annotations": {keys.DECISION_ANNOTATION: None}}}
    await seen.station.cluster.api.patch(
        PODS, pod["metadata"]["name"], patch, patch_type=PatchType.MERGE, namespace="default"
    )
    assert await seen.wrong() == ["vm-1: bound without a decision"]

    seen.administered.vms.add("vm-1")
    assert await seen.wrong() == []


async def test_a_gpu_that_is_cut_by_hand_is_the_administrators(seen: Seen) -> None:
    host = seen.station.site.host
    (address,) = host.gpus

    with seen.administered.shift(host, address):
        host.create_instance(0, 19)
    assert await seen.wrong() == []

    host.create_instance(0, 19)
    assert any("the controller made a GPU instance" in each for each in await seen.wrong())


async def test_a_gpu_instance_of_nobody_is_noticed(seen: Seen) -> None:
    seen.station.machine.create_gpu_instance(0, 19, Placement(0, 1))

    assert any("is in no plan" in each for each in await seen.wrong())


async def test_what_a_stopped_vm_keeps_is_somebodys(seen: Seen) -> None:
    await seen.station.stop("vm-1")
    await seen.station.plan()
    assert await seen.wrong() == []

    await seen.station.remove("vm-1")
    assert any("is in no plan" in each for each in await seen.wrong())


async def test_a_step_into_a_trap_is_noticed_for_ever(seen: Seen) -> None:
    seen.log.add("node-1", HOT_REMOVE, "node-1 0000:10:00.4")

    assert any("torn off the bus" in each for each in await seen.wrong())
