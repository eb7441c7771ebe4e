"""VMs that ran before the agent came: taken over by the plan's leave, and never disturbed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Layout, PodRef
from tests.unit.nodeagent.builders import HALF, ONE, SMALL, THREE, assignment, hardware
from tests.unit.nodeagent.station import Station, conditions, owners, reasons
from tests.unit.nodeagent.test_crashes import live


@pytest.fixture
async def station(tmp_path: Path) -> Station:
    """A node on which a VM runs that another plugin has served."""
    station = Station(journal=tmp_path / "journal.json")
    await station.install()
    return station


async def running_vm(station: Station, *, start: int = 3, resource: str = SMALL) -> PodRef:
    gi_id = station.hardware.gpus[0].create(ONE, Placement(start, 1))
    return await station.serve_elsewhere("old", gi_id, resource)


def adopting(station: Station, pod: PodRef, *, start: int = 3) -> Assignment:
    return assignment("adopted", station.gpu, start=start, of=pod)


async def test_a_pod_served_by_another_plugin_is_told_with_its_gpu_instance(
    station: Station,
) -> None:
    pod = await running_vm(station)
    async with station.serving():
        status = await station.until(lambda s: bool(s.gpus))

    (instance,) = status.gpus[0].instances
    assert (instance.holder, instance.resource, instance.assignment) == (pod, SMALL, "")
    assert list(conditions(status)) == ["Ready"]


async def test_a_planned_adoption_disturbs_nothing_and_ends_with_the_vm(station: Station) -> None:
    pod = await running_vm(station)
    async with station.serving():
        await station.plan(adopting(station, pod))
        status = await station.until_realized("adopted")
        assert owners(status) == ["adopted"]
        assert [each.slot for each in status.realized] == [""]
        assert station.hardware.gpus[0].clients[1] == {pod.uid}
        assert reasons(status) == {}

        await station.plan()  # the plan may be early: the VM still has it
        await station.until_realized()
        await station.settle()
        assert len(station.hardware.gpus[0].instances) == 1

        await station.delete_pod("old")
        await station.until(lambda s: not owners(s))

    assert station.journal.made == ()


async def test_an_adopted_vm_keeps_no_pod_waiting_for_its_slot(station: Station) -> None:
    pod = await running_vm(station)
    of = await station.create_pod("new", {SMALL: 1})
    new = assignment("new", station.gpu, start=0, since="2026-02", of=of)
    async with station.serving():
        await station.plan(adopting(station, pod), new)
        await station.until_realized("adopted", "new")
        await station.bind_pod("new")
        await station.until_pod("new", "Running")
        await station.delete_pod("old")  # its assignment is still planned, and needs no slot
        await station.until_pod_gone("old")
        await station.plan(
            adopting(station, pod),
            new,
            assignment("next", station.gpu, start=1, since="2026-03"),
        )
        await station.until_realized("adopted", "new", "next")


async def test_what_is_adopted_is_ours_for_the_next_agent_too(station: Station) -> None:
    pod = await running_vm(station)
    async with station.serving():
        await station.plan(adopting(station, pod))
        await station.until_realized("adopted")

    async with station.serving():
        status = await station.until(lambda s: s.agent_epoch == "life-2")
        assert owners(status) == ["adopted"]
        assert [(each.id, each.slot) for each in status.realized] == [("adopted", "")]
        await station.delete_pod("old")
        await station.plan()
        await station.until(lambda s: not owners(s))


async def test_nothing_is_adopted_for_another_pod(station: Station) -> None:
    pod = await running_vm(station)
    async with station.serving():
        await station.plan(adopting(station, msgspec.structs.replace(pod, uid="another")))
        status = await station.until(lambda s: "adopted" in reasons(s))

    (instance,) = status.gpus[0].instances
    assert (instance.assignment, instance.holder) == ("", pod)
    assert station.journal.made == ()


async def test_nothing_is_adopted_at_another_place(station: Station) -> None:
    pod = await running_vm(station, start=3)
    async with station.serving():
        await station.plan(adopting(station, pod, start=2))
        status = await station.until_realized("adopted")

    foreign, made = status.gpus[0].instances
    assert (foreign.start, foreign.assignment, foreign.holder) == (3, "", pod)
    assert (made.start, made.assignment) == (2, "adopted")


async def test_a_pod_that_asked_for_something_else_is_not_taken_over(station: Station) -> None:
    await running_vm(station, resource=HALF)
    async with station.serving():
        status = await station.until(lambda s: bool(s.gpus))

    assert status.gpus[0].instances[0].holder is None
    assert "did not create" in conditions(status)["Drift"]


async def test_a_device_nobody_has_stays_foreign(station: Station) -> None:
    gi_id = station.hardware.gpus[0].create(ONE, Placement(3, 1))
    async with station.serving():
        await station.plan(assignment("a", station.gpu, start=3))
        status = await station.until(lambda s: "a" in reasons(s))
        await station.plan()
        await station.until(lambda s: not s.failed)
        await station.settle()

    assert owners(status) == [""]
    assert gi_id in station.hardware.gpus[0].instances


async def test_on_a_gpu_that_is_not_ours_nobody_is_adopted(station: Station) -> None:
    await running_vm(station)
    await station.choose_gpus("none")
    async with station.serving():
        status = await station.until(lambda s: bool(s.gpus))

    assert status.gpus[0].layout is Layout.UNMANAGED
    assert status.gpus[0].instances[0].holder is None


async def test_an_adopted_vm_whose_gpu_was_reset_gets_nothing_new(station: Station) -> None:
    pod = await running_vm(station)
    async with station.serving():
        await station.plan(adopting(station, pod))
        await station.until_realized("adopted")
        station.hardware.gpus[0].reset()
        station.driver.changed()
        status = await station.until(lambda s: "adopted" in reasons(s))
        await station.settle()

    assert "its pod gets no other" in reasons(status)["adopted"]
    assert status.realized == ()
    assert station.hardware.gpus[0].instances == {}


async def test_an_agent_killed_while_it_adopts_is_made_good_by_the_next(tmp_path: Path) -> None:
    """Wherever it dies, the VM goes on, and is adopted once."""
    kill_at, survived = 0, False
    while not survived:
        kill_at += 1
        station = Station(hardware(1))
        await station.install()
        pod = await running_vm(station)
        await station.plan(
            adopting(station, pod), assignment("b", station.gpu, profile=THREE, start=4)
        )
        journal = tmp_path / f"{kill_at}" / "journal.json"

        survived = await live(station, journal, kill_at, 1)
        assert await live(station, journal, 0, 2)

        status = await station.status()
        assert sorted(owners(status)) == ["adopted", "b"]
        assert {each.id: bool(each.slot) for each in status.realized} == {
            "adopted": False,
            "b": True,
        }
        assert station.hardware.gpus[0].clients[1] == {pod.uid}
    assert kill_at > 8  # it lived: there were as many places to die in
