"""An older state of the GpuNode: late news, or all there is after a restore from a backup."""

from __future__ import annotations

import contextlib

import pytest

from nodeagent.agent import Agent
from nodeagent.apiserver.protocol import GPU_NODES, PatchType
from nodeagent.journal_file import FileJournal
from nodeagent.publish import Heard, Publisher
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.unit.nodeagent.builders import assignment
from tests.unit.nodeagent.station import NAME, SOON, Station


@pytest.fixture
def agent(station: Station) -> Agent:
    return Agent(
        NAME,
        api=station.api,
        driver=station.driver,
        kubelet=SimulatedKubelet(station.api, station.hardware),
        journal=FileJournal(),
        epoch="life",
    )


@pytest.mark.parametrize("listed", [False, True])
async def test_an_older_plan_replaces_a_newer_one_only_if_it_was_listed(
    station: Station, agent: Agent, listed: bool
) -> None:
    old = await station.gpu_node()
    await station.plan(assignment("a", station.gpu))
    agent.heard(await station.gpu_node())
    await agent.converge()

    agent.heard(old, listed=listed)
    await agent.converge()

    assert len(station.hardware.gpus[0].instances) == (0 if listed else 1)


async def test_what_a_restored_api_server_has_forgotten_is_told_again(
    station: Station, agent: Agent
) -> None:
    await station.plan(assignment("a", station.gpu))
    backup = await station.gpu_node()
    agent.heard(backup)
    await agent.converge()
    assert await station.until_realized("a")

    lost = [{"op": "replace", "path": "/status", "value": backup.status}]
    await station.api.patch(GPU_NODES, NAME, lost, patch_type=PatchType.JSON, subresource="status")
    agent.heard(await station.gpu_node(), listed=True)
    await agent.converge()

    assert [each.id for each in (await station.status()).realized] == ["a"]


async def test_a_list_that_shows_all_that_was_told_costs_no_write(
    station: Station, agent: Agent
) -> None:
    agent.heard(await station.gpu_node())
    await agent.converge()
    before = station.status_writes

    agent.heard(await station.gpu_node(), listed=True)
    await agent.converge()

    assert station.status_writes == before


async def test_what_is_listed_is_told_from_what_is_watched(station: Station) -> None:
    heard: list[Heard] = []
    follow = Publisher(station.api, NAME, timeout=1.0, pace=SOON).follow()
    async with contextlib.aclosing(follow):
        heard.append(await anext(follow))
        await station.plan(assignment("a", station.gpu))
        heard.append(await anext(follow))
        await station.api.delete(GPU_NODES, NAME)
        heard.append(await anext(follow))

    assert [(h.node.metadata.generation if h.node else 0, h.listed) for h in heard] == [
        (1, True),
        (2, False),
        (0, False),
    ]
