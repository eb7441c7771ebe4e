"""What an agent still knows after a restart, a reboot, or the loss of its journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nodeagent.agent.endings import REBOOTED
from nodeagent.api.gpunode import Inventory, Mode, PodRef
from nodeagent.apiserver import memory
from nodeagent.apiserver.protocol import GPU_NODES, Unavailable
from nodeagent.driver import DriverError
from nodeagent.simulated.driver import Call
from tests.unit.nodeagent.builders import SMALL, THREE, assignment, hardware
from tests.unit.nodeagent.station import NAME, Station, owners, reasons


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("running", [True, False])
async def test_without_its_journal_an_agent_knows_only_what_a_pod_has_as_its_own(
    tmp_path: Path, journal: bool, running: bool
) -> None:
    station = Station(journal=tmp_path / "state" / "journal.json")
    await station.install()
    planned = assignment("a", station.gpu, of=await station.create_pod("a", {SMALL: 1}))
    async with station.serving():
        await station.plan(planned)
        await station.until_realized("a")
        if running:
            await station.bind_pod("a")
            await station.until_pod("a", "Running")
    if not journal:
        (tmp_path / "state" / "journal.json").unlink()

    async with station.serving():
        status = await station.until(lambda s: s.agent_epoch == "life-2")
        if running:
            await station.delete_pod("a")
        await station.plan()
        await station.until(lambda s: s.observed_generation == 3)
        await station.settle()

    known = journal or running
    assert owners(status) == (["a"] if known else [""])
    slot = f"{SMALL.partition('/')[2]}-0"
    assert [each.slot for each in status.realized] == ([slot] if known else [])
    assert len(station.hardware.gpus[0].instances) == (0 if known else 1)


async def test_who_was_tied_before_a_gpu_node_was_deleted_gets_its_own_by_the_next_agent(
    tmp_path: Path,
) -> None:
    station = Station(journal=tmp_path / "journal.json")
    await station.install()
    first, second = [await station.create_pod(name, {SMALL: 1}) for name in ("first", "second")]
    planned = (
        assignment("first", station.gpu, start=0, of=first),
        assignment("second", station.gpu, start=1, of=second, since="2026-01-02T00:00:00Z"),
    )
    async with station.serving():
        await station.plan(planned[0])
        await station.until_realized("first")
        await station.bind_pod("first")
        await station.until_pod("first", "Running")
        await station.plan(*planned)
        await station.until_realized("first", "second")
    await station.api.delete(GPU_NODES, NAME)
    await station.create_gpu_node()
    await station.plan(*planned)
    await station.delete_pod("first")  # its slot is free, and it is in the plan yet

    async with station.serving():
        await station.until_realized("first", "second")
        await station.bind_pod("second")
        await station.until_pod("second", "Running")

    had = {start: uids for start, uids in _users(station).items() if uids}
    assert had == {1: {second.uid}}


@pytest.mark.parametrize("late", ["life-1", "life-2"])
async def test_who_was_tied_gets_its_own_though_an_older_word_has_taken_the_place_of_a_newer(
    tmp_path: Path, late: str
) -> None:
    """The API server carries out late what nobody waits for any more, of that agent or another."""
    station = Station(hardware(2), journal=tmp_path / "journal.json")
    await station.install()
    older, bound = [await station.create_pod(name, {SMALL: 1}) for name in ("older", "bound")]
    planned = (
        assignment("older", station.hardware.gpus[1].uuid, of=older),
        assignment("bound", station.gpu, of=bound, since="2026-01-02T00:00:00Z"),
    )

    async def cannot_be_made_yet(call: Call) -> None:
        if call.verb == "create" and call.gpu != station.gpu:
            raise DriverError(call.verb)

    async with station.serving():
        words = {"life-1": await station.until(lambda s: s.agent_epoch == "life-1")}
    station.driver.disturbance = cannot_be_made_yet
    async with station.serving():
        words["life-2"] = await station.until(lambda s: s.agent_epoch == "life-2")
        await station.plan(*planned)
        await station.until_realized("bound")
    station.driver.disturbance = None
    await station.bind_pod("bound")
    await station.tell(words[late])

    async with station.serving():
        await station.until_pod("bound", "Running")
        assert _users(station) == {0: {bound.uid}}
        await station.until_realized("older", "bound")


async def test_late_words_of_an_agent_that_told_of_nothing_but_trouble_are_known_for_older_ones(
    tmp_path: Path,
) -> None:
    station = Station(journal=tmp_path / "journal.json")
    await station.install()

    async def fail(call: Call) -> None:
        raise DriverError(call.verb)

    async def lose(call: memory.Call) -> None:
        if call.subresource == "status" and not call.done:
            lost.append(call)
            raise Unavailable(0, "no answer")

    lost: list[memory.Call] = []
    async with station.serving():
        before = await station.until(lambda s: s.agent_epoch == "life-1")
    station.driver.disturbance, station.api.disturbance = fail, lose
    async with station.serving():
        while not lost:
            await station.settle()
    station.driver.disturbance = station.api.disturbance = None
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        newest = await station.until_realized("a")
    await station.tell(msgspec.structs.replace(before, agent_epoch="life-2"))
    station.driver.disturbance = fail
    async with station.serving():
        status = await station.until(lambda s: s.agent_epoch == "life-4")

    assert status.realized == newest.realized
    assert status.observed_generation == before.observed_generation, "nobody has looked again"


async def test_what_an_agent_says_that_could_keep_nothing_is_believed(tmp_path: Path) -> None:
    """So it is where the state directory is an older copy."""
    station = Station(journal=tmp_path / "journal.json")
    await station.install()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
    copy = (tmp_path / "told.json").read_bytes()
    async with station.serving():
        await station.plan(assignment("b", station.gpu, start=1))
        newest = await station.until_realized("b")
    (tmp_path / "told.json").write_bytes(copy)

    async def fail(call: Call) -> None:
        raise DriverError(call.verb)

    station.driver.disturbance = fail
    async with station.serving():
        status = await station.until(lambda s: s.agent_epoch == "life-3")

    assert status.realized == newest.realized


async def test_what_is_realized_is_told_only_once_it_is_kept(tmp_path: Path) -> None:
    station = Station(journal=tmp_path / "journal.json")
    await station.install()
    occupied = tmp_path / "told.json.new"
    occupied.mkdir()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: owners(s) == ["a"])
        assert not status.realized
        occupied.rmdir()
        await station.plan(assignment("a", station.gpu), assignment("b", station.gpu, start=1))
        await station.until_realized("a")


async def test_what_an_earlier_agent_told_is_told_though_it_cannot_be_kept(tmp_path: Path) -> None:
    station = Station(journal=tmp_path / "journal.json")
    await station.install()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        before = await station.until_realized("a")
    (tmp_path / "told.json").unlink()
    (tmp_path / "told.json.new").mkdir()
    async with station.serving():
        status = await station.until(lambda s: s.agent_epoch == "life-2")

    assert status.realized == before.realized


async def test_of_a_gpu_node_made_anew_nothing_is_told_that_nobody_has_seen_but_what_was_realized(
    tmp_path: Path,
) -> None:
    station = Station(journal=tmp_path / "journal.json")
    await station.install()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        before = await station.until_realized("a")
    await station.api.delete(GPU_NODES, NAME)
    await station.create_gpu_node()

    async def fail(call: Call) -> None:
        raise DriverError(call.verb)

    station.driver.disturbance = fail
    async with station.serving():
        status = await station.until(lambda s: s.agent_epoch == "life-2")

    assert status.realized == before.realized
    assert (status.gpus, status.observed_generation) == ((), 0)


async def test_a_torn_journal_is_reported_and_nothing_is_destroyed(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    station = Station(journal=path)
    await station.install()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
    path.write_bytes(path.read_bytes()[:-7])
    await station.plan(assignment("b", station.gpu, start=1))

    async with station.serving():
        status = await station.until_realized("b")

    assert owners(status) == ["", "b"]
    assert (status.conditions[0].status, status.conditions[0].reason) == (
        "False",
        "JournalUnreadable",
    )
    assert path.with_name("journal.json.unreadable").exists()


async def test_a_journal_that_cannot_be_written_lets_nothing_be_created(tmp_path: Path) -> None:
    station = Station(journal=tmp_path / "occupied" / "journal.json")
    await station.install()
    (tmp_path / "occupied").touch()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: "a" in reasons(s))

    assert reasons(status)["a"] == "the journal cannot be written"
    assert not station.hardware.gpus[0].instances


async def test_a_reboot_ends_what_ran_and_what_ran_is_not_made_again(tmp_path: Path) -> None:
    station = Station(journal=tmp_path / "journal.json")
    await station.install()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        await station.bind("a", {SMALL: 1})
        await station.until_pod("a", "Running")
    station.hardware.reboot()

    for _ in range(2):  # nor by the agent after the next
        async with station.serving():
            # Of another resource: whoever has the same waits until "a" has left the plan.
            other = assignment("b", station.gpu, profile=THREE, start=4)
            await station.plan(assignment("a", station.gpu), other)
            status = await station.until_realized("b")
            await station.until_pod("a", "Failed")
            assert reasons(status) == {"a": REBOOTED}
            assert owners(status) == ["b"]


async def test_a_pod_bound_to_what_a_reboot_has_ended_takes_nobody_elses(tmp_path: Path) -> None:
    station = Station(journal=tmp_path / "journal.json")
    await station.install()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
    station.hardware.reboot()
    await station.bind("a", {SMALL: 1})  # by an extender that has yet to hear of it

    async with station.serving():
        await station.plan(assignment("a", station.gpu), assignment("b", station.gpu, start=1))
        await station.until_pod("a", "Failed")
        status = await station.until(lambda s: s.agent_epoch == "life-2")
        assert not status.realized
        await station.plan(assignment("b", station.gpu, start=1))
        await station.until_realized("b")


async def test_vms_whose_places_swap_over_a_reboot_each_get_their_new_one(tmp_path: Path) -> None:
    station = Station(journal=tmp_path / "journal.json")
    await station.install()

    async def run(places: dict[str, int]) -> dict[str, PodRef]:
        """Plan a pod at each start, bind each as it is realized, and wait until it runs."""
        pods = {name: await station.create_pod(name, {SMALL: 1}) for name in places}
        await station.plan(
            *(
                assignment(name, station.gpu, start=start, of=pods[name])
                for name, start in places.items()
            )
        )
        for name in places:
            await station.until(_realizes(name))
            await station.bind_pod(name)
            await station.until_pod(name, "Running")
        return pods

    async with station.serving():
        await run({"a": 0, "b": 1})
    station.hardware.reboot()

    # The kubelet still counts the slots of the launchers that the reboot ended as theirs.
    async with station.serving():
        pods = await run({"a-2": 1, "b-2": 0})
        status = await station.status()
        for name in ("a", "b"):
            await station.until_pod(name, "Failed")

    assert _users(station) == {1: {pods["a-2"].uid}, 0: {pods["b-2"].uid}}
    assert sorted(owners(status)) == ["a-2", "b-2"]
    assert not reasons(status)


async def test_a_reboot_gives_containers_their_instances_again(tmp_path: Path) -> None:
    station = Station(hardware(1, mode=Mode.CONTAINER), journal=tmp_path / "journal.json")
    await station.install()
    planned = assignment("a", station.gpu, resource="nvidia.com/mig-1g.10gb")
    async with station.serving():
        await station.plan(planned)
        before = await station.until_realized("a")
    station.hardware.reboot()

    async with station.serving():
        status = await station.until(lambda s: s.boot_id != before.boot_id)

    assert owners(status) == ["a"]
    assert status.realized == before.realized


async def test_instances_a_gpu_reset_took_away_are_made_again(station: Station) -> None:
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")
        station.hardware.gpus[0].instances.clear()
        await station.plan(
            assignment("a", station.gpu), assignment("b", station.gpu, profile=THREE, start=4)
        )
        status = await station.until_realized("a", "b")

    assert owners(status) == ["a", "b"]


def _users(station: Station) -> dict[int, set[str]]:
    """Return which pods (UIDs) have the GPU instances of the first GPU open, by their starts."""
    gpu = station.hardware.gpus[0]
    return {gpu.instances[gi_id].placement.start: uids for gi_id, uids in gpu.clients.items()}


def _realizes(id: str) -> Callable[[Inventory], bool]:
    return lambda status: id in {each.id for each in status.realized}
