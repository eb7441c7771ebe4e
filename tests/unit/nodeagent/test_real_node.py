"""The whole agent as ``tangram-agent run`` puts it together, over the fakes of what a node has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.protocol import PODS
from tests.fakes.kubelet import temporary_places
from tests.unit.nodeagent.real_station import FOREIGN, RealStation
from tests.unit.nodeagent.station import owners


@pytest.fixture(params=[Mode.CONTAINER, Mode.VGPU_MDEV, Mode.VGPU_VFIO])
async def station(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RealStation]:
    with temporary_places() as places:
        made = RealStation(tmp_path, places, request.param)
        await made.install()
        async with made.kubelet.serving():
            yield made
        await made.fakes.close()


async def test_pods_get_the_gpu_instances_planned_for_them_across_a_restart_of_the_agent(
    station: RealStation,
) -> None:
    foreign = station.fakes.machine.create_gpu_instance(0, FOREIGN, Placement(4, 4))
    first, second = await station.create_vm("first"), await station.create_vm("second")
    a, b = station.assignment("a", 2, first.ref), station.assignment("b", 0, second.ref)
    await station.plan(a, b)

    async with station.real_agent():
        await station.until_realized("a")  # the second waits: the kubelet cannot tell them apart
        await station.bind_pod("first")
        device = await station.admitted(first)
        assert station.start_of(device) == 2
        await station.until_realized("a", "b")

    async with station.real_agent():
        await station.bind_pod("second")
        assert station.start_of(await station.admitted(second)) == 0
        assert station.start_of(device) == 2

        station.kubelet.end(first)
        await station.api.delete(PODS, "first", namespace="default", grace_seconds=0)
        await station.plan(b)
        status = await station.until_realized("b")

    assert sorted(owners(status)) == ["", "b"]
    left = {each.gi_id: each.placement.start for each in station.fakes.machine.gpu_instances(0)}
    assert left.pop(foreign) == 4
    assert list(left.values()) == [0]


async def test_without_a_driver_the_node_says_so_and_the_agent_goes_on(
    tmp_path: Path,
) -> None:
    with temporary_places() as places:
        station = RealStation(tmp_path, places, Mode.CONTAINER)
        await station.install()
        async with station.kubelet.serving():
            station.fakes.machine.always("nvmlInitWithFlags", 9)
            async with station.real_agent():
                told = await station.until(lambda status: bool(status.conditions))
                assert told.conditions[0].reason == "DriverUnavailable"
                station.fakes.machine.clear_faults()
                await station.until(lambda status: len(status.gpus) == 1)
        await station.fakes.close()
