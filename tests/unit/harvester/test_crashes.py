"""The agent ends at any of its steps, or Harvester's controller does; another goes on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from nodeagent.api.gpunode import Assignment
from nodeagent.journal_file import FileJournal
from tests.fakes.kubelet import temporary_places
from tests.fakes.kubevirt.nodes import KUBELET
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.log import REFUSED, traps
from tests.fakes.pcidevices.names import Version
from tests.fakes.pcidevices.site import Cluster, machine
from tests.unit.harvester.fuse import Fuse, Lives
from tests.unit.harvester.station import NAME, Station


async def story(station: Station) -> None:
    """Two VMs come, one is deleted, the other is stopped and started, and deleted."""
    await station.ready()
    await station.vm_of("vm-1")
    second = station.assignment("a2.0", await station.vm_of("vm-2"), 5, at=1)
    first = await served(station, "vm-1", "a1", 3, second)
    second = await served(station, "vm-2", "a2", 5, first, at=1)
    for each in (first, second):
        assert each.pod is not None
        assert station.places_of(each.pod.uid) == [(0, each.start)]
    await station.remove("vm-1")
    await station.plan(second)
    await station.until(lambda: station.starts() == [5])
    await station.stop("vm-2")
    await station.plan()
    await station.until_told(lambda it: any(i.standing for i in it.gpus[0].instances))
    await station.start("vm-2")
    await served(station, "vm-2", "a3", 5)
    await station.remove("vm-2")
    await station.plan()
    await station.until(lambda: station.starts() == [])
    told = await station.until_told(lambda it: not it.gpus[0].instances and not it.realized)
    assert not told.failed
    assert await station.enabled() == []
    assert station.host_is_whole()
    assert list(traps(station.cluster.log.entries)) == []


async def served(
    station: Station, name: str, id: str, start: int, *others: Assignment, at: int = 0
) -> Assignment:
    """Plan for a VM's launcher and let it come; return its entry once the VM runs.

    With Harvester's controller its device plugins end, and until there are others the kubelet has
    no device: who comes just then is refused. The VM's next launcher is planned for, then, as the
    extender does.
    """
    for n in itertools.count():
        entry = station.assignment(f"{id}.{n}", await station.launcher_of(name), start, at=at)
        await station.plan(*others, entry)
        await station.until_told(lambda it, id=entry.id: id in {r.id for r in it.realized})  # type: ignore[misc]
        await station.bind(name)
        await station.until(lambda entry=entry: runs_or_is_replaced(station, name, entry))  # type: ignore[misc]
        if await station.phase(name) == "Running":
            return entry
    raise AssertionError("it is served some time")


async def runs_or_is_replaced(station: Station, name: str, entry: Assignment) -> bool:
    """Tell whether the launcher that was planned for runs, or its VM has another one."""
    assert entry.pod is not None
    found = {
        pod["metadata"]["uid"]
        for pod in await station.launchers()
        if pod["metadata"]["labels"]["vm.kubevirt.io/name"] == name
    }
    if found == {entry.pod.uid}:
        return await station.phase(name) == "Running" and await station.noted(name)
    return bool(found) and entry.pod.uid not in found


async def told(directory: Path, version: Version, fuse: Fuse, *, controller: int = -1) -> int:
    """Tell the story with an agent that ends as *fuse* says; return how many steps others took.

    The controller ends at its step of number *controller*.
    """
    shared = next(each for each in directory.parents if each.name.startswith("pytest-"))
    steps = 0

    def step(name: str) -> None:
        nonlocal steps
        steps += 1
        if steps == controller + 1:
            raise ControllerEnded(name)

    with temporary_places() as places:
        gpus = machine(directory, built_for_tests(shared / "fake-nvml"), "A100-40GB", node="node-1")
        station = Station(Cluster(version), gpus, places, directory)
        async with station.kubelet.serving():
            await station.begin()
            station.site.step = step
            station.ending = ControllerEnded
            try:
                async with Lives(station, fuse).lived():
                    await story(station)
            finally:
                await station.close()
            refused = [each for each in station.cluster.log.of(REFUSED) if each.actor == KUBELET]
            assert len(refused) <= (controller >= 0), refused
    journal = FileJournal(directory / "agent" / NAME / "journal.json")
    await journal.load()
    assert journal.made == ()
    return steps


class ControllerEnded(Exception):
    """Harvester's controller has ended."""


AGENTS_STEPS = {Version.V1_7: 50, Version.V1_8: 50}
CONTROLLERS_STEPS = {Version.V1_7: 90, Version.V1_8: 120}
"""So many each takes at least in the story; how many more depends on how often Harvester scans.

A few of these are tried here, others in 1.8 than in 1.7; `make harvester-steps` takes every one.
"""


def steps(counts: Mapping[Version, int], stride: int) -> list[tuple[Version, int]]:
    """Return the steps at which to end something, for each version."""
    return [
        (version, step)
        for at, (version, count) in enumerate(counts.items())
        for step in range(at * stride // 2, count, stride)
    ]


@pytest.mark.parametrize(("version", "step"), steps(AGENTS_STEPS, 14))
async def test_wherever_the_agent_ends_all_comes_as_planned(
    tmp_path: Path, version: Version, step: int
) -> None:
    fuse = Fuse(step)
    await told(tmp_path, version, fuse)
    assert fuse.burnt


@pytest.mark.parametrize(("version", "step"), steps(CONTROLLERS_STEPS, 40))
async def test_wherever_harvesters_controller_ends_all_comes_as_planned(
    tmp_path: Path, version: Version, step: int
) -> None:
    assert await told(tmp_path, version, Fuse(), controller=step) > step


async def test_a_launcher_that_comes_as_the_controller_ends_is_refused_and_the_next_is_served(
    station: Station,
) -> None:
    bind = station.bind

    async def bind_as_the_controller_ends(name: str) -> None:
        station.bind = bind  # type: ignore[method-assign]
        await station.plugins.close()
        await bind(name)
        await station.node.work()
        station.site.restart()

    async with station.agent():
        await station.ready()
        await station.vm_of("vm-1")
        station.bind = bind_as_the_controller_ends  # type: ignore[method-assign]
        entry = await served(station, "vm-1", "a1", 3)

        assert entry.id == "a1.1"
        assert entry.pod is not None
        assert station.places_of(entry.pod.uid) == [(0, 3)]
    assert [each.actor for each in station.cluster.log.of(REFUSED)] == [KUBELET]
