"""The agent is killed at every call it makes, twice, and the next one ends at the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.agent import Agent
from nodeagent.api.geometry import Placement
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import GPU_NODES
from nodeagent.journal import Kept, Made
from nodeagent.journal_file import FileJournal
from nodeagent.simulated import driver as simulated
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.unit.nodeagent.builders import SEVEN, THREE, assignment
from tests.unit.nodeagent.station import NAME, Station


class Killed(BaseException):
    """The process ends here."""


class Doom:
    """Kills at the call with that number."""

    def __init__(self, at: int) -> None:
        self.left = at

    async def strike(self, _: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    async def strike_writes(self, call: Call) -> None:
        if call.kind == GPU_NODES and call.verb == "patch":
            await self.strike(call)


class DoomedJournal(FileJournal):
    def __init__(self, path: Path, doom: Doom) -> None:
        super().__init__(path)
        self._doom = doom

    async def save(self, made: tuple[Made, ...]) -> None:
        await self._doom.strike("before")
        await super().save(made)
        await self._doom.strike("after")

    async def keep(self, kept: Kept) -> None:
        await self._doom.strike("before")
        await super().keep(kept)
        await self._doom.strike("after")


async def agent(station: Station, journal: FileJournal) -> Agent:
    """Return a new agent that has read its journal and its plan."""
    station.lives += 1
    await journal.load()
    started = Agent(
        NAME,
        api=station.api,
        driver=station.driver,
        kubelet=SimulatedKubelet(station.api, station.hardware, station.checkpoint),
        journal=journal,
        epoch=f"life-{station.lives}",
    )
    started.heard(await station.gpu_node())
    return started


async def live(station: Station, path: Path, kill_at: int, passes: int) -> bool:
    """Let an agent live through so many passes; tell whether it survived."""
    doom = Doom(kill_at)
    station.driver.disturbance = doom.strike
    living = await agent(station, DoomedJournal(path, doom))
    station.api.disturbance = doom.strike_writes
    try:
        for _ in range(passes):
            await living.converge()
    except (Killed, BaseExceptionGroup):
        return False
    finally:
        station.api.disturbance = None
        station.driver.disturbance = None
    return True


@pytest.mark.parametrize("again", [1, 2, 3, 5, 8])
async def test_an_agent_killed_anywhere_is_made_good_by_the_next(
    tmp_path: Path, again: int
) -> None:
    kill_at, survived = 0, False
    while not survived:
        kill_at += 1
        station = Station()
        await station.install()
        path = tmp_path / f"{kill_at}" / "journal.json"
        foreign = station.hardware.gpus[0].create(19, Placement(6, 1))
        old = assignment("old", station.gpu, profile=THREE)
        await station.plan(old)
        assert await live(station, path, 0, 1)
        new = [
            assignment("new", station.gpu, profile=THREE),
            assignment("impossible", station.gpu, profile=SEVEN),
        ]
        await station.plan(*new)

        survived = await live(station, path, kill_at, 1)
        await live(station, path, again, 1)
        assert await live(station, path, 0, 2)

        status = await station.status()
        found = {each.gi_id: each.assignment for each in status.gpus[0].instances}
        assert found.pop(foreign) == ""
        assert list(found.values()) == ["new"]
        assert [each.id for each in status.realized] == ["new"]
        assert [each.id for each in status.failed] == ["impossible"]
        assert len(station.hardware.gpus[0].instances) == 2
    assert kill_at == 16  # it lived: there were fifteen places to die in


@pytest.mark.parametrize("planned", [True, False])
async def test_what_an_agent_killed_in_a_creation_left_behind_is_made_anew_or_removed(
    tmp_path: Path, planned: bool
) -> None:
    """Between a GPU instance and its device there is no call of ours to be killed at."""
    station = Station()
    await station.install()
    await station.plan(assignment("a", station.gpu), assignment("b", station.gpu, start=1))

    async def die(call: simulated.Call) -> None:
        if call.verb == "create":
            raise simulated.CutShort(Killed())

    station.driver.disturbance = die
    journal = FileJournal(tmp_path / "journal.json")
    with pytest.raises(BaseExceptionGroup):
        await (await agent(station, journal)).converge()
    assert list(station.hardware.gpus[0].bare) == [1]

    station.driver.disturbance = None
    if not planned:
        await station.plan()
    successor = await agent(station, FileJournal(tmp_path / "journal.json"))
    await successor.converge()

    status = await station.status()
    assert [each.assignment for each in status.gpus[0].instances] == ["a", "b"] * planned
    assert not station.hardware.gpus[0].bare
