"""The agent ends at any of its steps, or Harvester's controller does; another goes on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.fakes.kubevirt.nodes import KUBELET
from tests.fakes.pcidevices.log import REFUSED
from tests.fakes.pcidevices.names import Version
from tests.unit.harvester.fuse import Fuse
from tests.unit.harvester.station import Station
from tests.unit.harvester.stories import COME_AND_GO, DAY_0, Story, served, told

AGENTS_STEPS = ((COME_AND_GO, 50, 14), (DAY_0, 78, 20))
CONTROLLERS_STEPS = ((COME_AND_GO, 90, 40), (DAY_0, 130, 50))
"""So many each takes at least in a story, and the stride at which a few of them are tried here.

How many more there are depends on how often Harvester scans. Others are tried in 1.8 than in 1.7;
`make harvester-steps` takes every one.
"""


def steps(counts: Iterable[tuple[Story, int, int]]) -> list[tuple[Story, Version, int]]:
    """Return the steps at which to end something, for each story and version."""
    return [
        (story, version, step)
        for story, count, stride in counts
        for at, version in enumerate(Version)
        for step in range(at * stride // 2, count, stride)
    ]


@pytest.mark.parametrize(("story", "version", "step"), steps(AGENTS_STEPS), ids=str)
async def test_wherever_the_agent_ends_all_comes_as_planned(
    tmp_path: Path, story: Story, version: Version, step: int
) -> None:
    fuse = Fuse(step)
    await told(story, tmp_path, version, fuse)
    assert fuse.burnt


@pytest.mark.parametrize(("story", "version", "step"), steps(CONTROLLERS_STEPS), ids=str)
async def test_wherever_harvesters_controller_ends_all_comes_as_planned(
    tmp_path: Path, story: Story, version: Version, step: int
) -> None:
    assert await told(story, tmp_path, version, Fuse(), controller=step) > step


@pytest.mark.parametrize("write", range(4), ids=("empty", "use", "touch", "disable"))
@pytest.mark.parametrize("version", list(Version), ids=str)
async def test_whichever_change_of_a_layout_is_an_agents_last_the_next_agent_goes_on_from_there(
    tmp_path: Path, version: Version, write: int
) -> None:
    """A hand-made layout is disabled, made neutral, touched to be thawed, and handed back."""
    fuse = Fuse(write, named="after patch migconfigurations")
    await told(DAY_0, tmp_path, version, fuse)
    assert fuse.burnt


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
