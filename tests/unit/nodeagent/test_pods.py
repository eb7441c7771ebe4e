"""What pods get of what an agent has made."""

from __future__ import annotations

from tests.unit.nodeagent.builders import HALF, SMALL, THREE, assignment
from tests.unit.nodeagent.station import Station


async def test_a_pod_gets_all_its_instances(station: Station) -> None:
    plan = [
        assignment("1", station.gpu, pod="a"),
        assignment("2", station.gpu, pod="a", start=1),
        assignment("3", station.gpu, pod="a", profile=THREE, start=4),
    ]
    async with station.serving():
        await station.plan(*plan)
        await station.until_realized("1", "2", "3")
        await station.bind("a", {SMALL: 2, HALF: 1})
        await station.until_pod("a", "Running")

    assert len(station.checkpoint.claims) == 3
    assert [len(clients) for clients in station.hardware.gpus[0].clients.values()] == [1, 1, 1]


async def test_a_pod_nobody_planned_for_is_rejected(station: Station) -> None:
    async with station.serving():
        await station.until(lambda s: bool(s.gpus))
        await station.bind("thief", {SMALL: 1})
        await station.until_pod("thief", "Failed")
        pod = await station.pod("thief")

    assert pod["status"]["reason"] == "UnexpectedAdmissionError"


async def test_a_pod_without_devices_just_runs(station: Station) -> None:
    async with station.serving():
        await station.bind("web", {})
        await station.until_pod("web", "Running")
