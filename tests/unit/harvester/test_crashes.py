"""The agent ends at any of its steps, or Harvester's controller does; another goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from nodeagent.journal_file import FileJournal
from tests.fakes.kubelet import temporary_places
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.log import traps
from tests.fakes.pcidevices.names import Version
from tests.fakes.pcidevices.site import Cluster, machine
from tests.unit.harvester.fuse import Fuse, Lives
from tests.unit.harvester.station import NAME, Station


async def story(station: Station) -> None:
    """Two VMs come, one is deleted, the other is stopped and started, and deleted."""
    await station.ready()
    first = station.assignment("a1", await station.vm_of("vm-1"), 3)
    second = station.assignment("a2", await station.vm_of("vm-2"), 5, at=1)
    await station.plan(first, second)
    for each, name in ((first, "vm-1"), (second, "vm-2")):
        await station.until_told(lambda it, id=each.id: id in {r.id for r in it.realized})  # type: ignore[misc]
        await station.running(name)
        assert each.pod is not None
        assert station.places_of(each.pod.uid) == [(0, each.start)]
    await station.remove("vm-1")
    await station.plan(second)
    await station.until(lambda: station.starts() == [5])
    await station.stop("vm-2")
    await station.plan()
    await station.until_told(lambda it: any(i.standing for i in it.gpus[0].instances))
    again = station.assignment("a3", await station.start("vm-2"), 5)
    await station.plan(again)
    await station.until_realized("a3")
    await station.running("vm-2")
    await station.remove("vm-2")
    await station.plan()
    await station.until(lambda: station.starts() == [])
    told = await station.until_told(lambda it: not it.gpus[0].instances and not it.realized)
    assert not told.failed
    assert await station.enabled() == []
    assert station.host_is_whole()
    assert list(traps(station.cluster.log.entries)) == []


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
