"""Harvester's controller killed at each of its steps, beside a real agent that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.kubelet import temporary_places
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.log import traps
from tests.fakes.pcidevices.names import Version
from tests.fakes.pcidevices.site import Cluster, machine
from tests.unit.harvester.station import Station

# All that the controller does in the life of a VM, as `Store.step` tells it.
STEPS = (
    *("sriov-manage", "sriov-managed"),
    *("create migconfigurations", "created migconfigurations"),
    *("create vgpudevices", "created vgpudevices"),
    *("write status of sriovgpudevices", "wrote status of sriovgpudevices"),
    *("write status of migconfigurations", "wrote status of migconfigurations"),
    *("write status of vgpudevices", "wrote status of vgpudevices"),
    *("create vGPU", "created vGPU", "advertise", "advertised"),
    *("write virtualmachines", "wrote virtualmachines"),
    *("remove vGPU", "removed vGPU", "withdraw", "withdrawn"),
)
OF_1_8 = (
    *("create pcideviceclaims", "created pcideviceclaims"),
    *("write pcidevices", "wrote pcidevices"),
    *("delete pcideviceclaims", "deleted pcideviceclaims"),
)


class Killed(Exception):
    """The controller ends here."""


class Mortal:
    """Kills a station's controller when it comes to *step* for the first time, and replaces it."""

    def __init__(self, station: Station, step: str) -> None:
        self.killed = 0
        self._station = station
        self._step = step
        self._work, self._pass = station.site.work, station.site.pass_
        station.site.step = self._at
        station.site.work = self.work  # type: ignore[method-assign]
        station.site.pass_ = self.pass_  # type: ignore[method-assign]

    def _at(self, step: str) -> None:
        if step == self._step and not self.killed:
            self.killed += 1
            raise Killed(step)

    async def work(self) -> None:
        """Let the controller work, and another one if it is killed."""
        try:
            await self._work()
        except Killed:
            await self._replace()
            await self._work()

    async def pass_(self, seconds: float) -> None:
        """Let time pass."""
        try:
            await self._pass(seconds)
        except Killed:
            await self._replace()

    async def _replace(self) -> None:
        await self._station.plugins.close()
        self._station.site.restart()
        await asyncio.sleep(0)


@pytest.fixture
async def station(tmp_path: Path, version: Version) -> AsyncIterator[Station]:
    shared = next(each for each in tmp_path.parents if each.name.startswith("pytest-"))
    library = built_for_tests(shared / "fake-nvml")
    with temporary_places() as places:
        gpus = machine(tmp_path, library, "A100-40GB", node="node-1")
        station = Station(Cluster(version), gpus, places, tmp_path)
        async with station.kubelet.serving():
            await station.begin()
            yield station
            await station.close()


@pytest.mark.parametrize(
    ("version", "step"),
    [
        *((version, step) for version in Version for step in STEPS),
        *((Version.V1_8, step) for step in OF_1_8),
    ],
)
async def test_a_vm_comes_and_goes_wherever_the_controller_is_killed(
    station: Station, step: str
) -> None:
    mortal = Mortal(station, step)
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_realized("a1")
        await station.running("vm-1")
        assert station.places_of(pod.uid) == [(0, 3)]
        await station.remove("vm-1")
        await station.plan()
        await station.until(lambda: not station.starts())

    assert mortal.killed == 1
    assert station.site.host.kernel.vgpus() == []
    assert list(traps(station.cluster.log.entries)) == []
