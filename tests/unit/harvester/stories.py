"""What befalls a node, told with an agent or a controller that may end at any of its steps."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from nodeagent.api.gpunode import Assignment, Instance, Inventory, Layout
from nodeagent.harvester.join import STILL_FROZEN
from nodeagent.journal_file import FileJournal
from nodeagent.purview import Purview
from tests.e2e.harvester.administered import Administered
from tests.fakes.kubelet import temporary_places
from tests.fakes.kubevirt.nodes import KUBELET
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.log import REFUSED, traps
from tests.fakes.pcidevices.names import OUT_OF_SYNC, VGPUS, Version, resource_name
from tests.fakes.pcidevices.site import Cluster, machine
from tests.unit.harvester.by_hand import (
    FIRST,
    cut_again,
    cut_by_hand,
    have_another_layout_made,
    layout,
    said_of_the_layout,
)
from tests.unit.harvester.fuse import Fuse, Lives
from tests.unit.harvester.station import KINDS, NAME, SMALL, Station

RESOURCE = resource_name(KINDS[SMALL])
LONG_SECONDS = 400.0
"""Longer than Harvester takes to compare each layout."""


class ControllerEnded(Exception):
    """Harvester's controller has ended."""


class Scene(msgspec.Struct, frozen=True):
    """Where a story takes place; what an administrator does is *by hand*."""

    station: Station
    lives: Lives
    by_hand: Administered


class Story(msgspec.Struct, frozen=True):
    """What is there *before* any agent is, and how it goes on from there.

    In it agents may use the GPUs that they are named alone, unless they may use *all*.
    """

    name: str
    before: Callable[[Scene], Awaitable[None]]
    goes_on: Callable[[Scene], Awaitable[None]]
    all_gpus: bool = True

    def __str__(self) -> str:
        return self.name


async def nothing(scene: Scene) -> None:
    """The node is as Harvester has it."""


async def come_and_go(scene: Scene) -> None:
    """Two VMs come, one is deleted, the other is stopped and started, and deleted."""
    station = scene.station
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


async def a_vm_runs(scene: Scene) -> None:
    """An administrator has cut the GPU, and a VM runs on it."""
    station = scene.station
    with scene.by_hand.shift(station.site.host, _address(station)):
        await cut_by_hand(station, FIRST)
    await station.vm_of("vm-0")
    await station.until(lambda: station.kubelet.allocatable.get(RESOURCE) == 1)
    await station.running("vm-0")


async def handed_over_and_back(scene: Scene) -> None:
    """Live through an agent's whole stay.

    The VM is adopted, and goes; its GPU is named, and serves another VM, stopped and started, which
    goes, too; the GPU is emptied; a VM comes, and the node reboots; the GPU is taken back, and is
    Harvester's once that VM has gone, which by then has run for longer than Harvester takes to
    compare the layout. Then it is cut by hand again.
    """
    station = scene.station
    held = await _held(station)
    assert held.holder is not None
    await station.plan(station.assignment("a0", held.holder, held.start))
    await station.until_realized("a0")
    assert await station.phase("vm-0") == "Running"
    assert station.places_of(held.holder.uid) == [(0, held.start)]
    await station.remove("vm-0")
    await station.plan()
    await station.until_told(_stands)
    assert len(station.starts()) == 2  # nobody has taken away what is the administrator's

    await station.choose_gpus(station.machine.uuids[0])
    await station.until_told(lambda it: it.gpus[0].layout is Layout.DYNAMIC)
    await station.vm_of("vm-late")
    await served(station, "vm-late", "late", held.start)
    await station.stop("vm-late")
    await station.plan()
    await station.until_told(_stands)
    await station.start("vm-late")
    await served(station, "vm-late", "later", held.start)
    await station.remove("vm-late")
    await station.plan()
    await station.until_told(_stands)
    assert len(station.starts()) == 2  # it still is, though the GPU is to be ours
    assert await station.enabled() == [FIRST]

    with scene.by_hand.shift(station.site.host, _address(station)):
        await station.change(VGPUS, FIRST, enabled=False)
        await station.until(lambda: station.starts() == [])
        await _cut_anew(station)
    assert not any(each["requested"] for each in (await layout(station))["profileSpec"])
    await station.vm_of("vm-1")
    before = await served(station, "vm-1", "a1", 3)
    assert before.pod is not None
    assert station.places_of(before.pod.uid) == [(0, 3)]

    async with scene.lives.away():
        await station.reboot()
    await station.until_told(lambda it: it.boot_id == "boot-2")
    await station.ready()
    await station.plan()
    await station.until(lambda: _gone(station, before))
    again = await served(station, "vm-1", "a2", 3)
    assert again.pod is not None
    assert station.places_of(again.pod.uid) == [(0, 3)]

    await station.pass_(LONG_SECONDS)
    assert await said_of_the_layout(station) == OUT_OF_SYNC
    await station.choose_gpus("none")
    await station.until_told(lambda it: it.gpus[0].layout is Layout.STATIC)
    assert await station.phase("vm-1") == "Running"
    await station.remove("vm-1")
    await station.plan()

    async def handed_back() -> bool:
        return not (await layout(station))["enabled"]

    await station.until(handed_back)
    await station.until(lambda: station.starts() == [])
    await station.until_told(lambda it: not it.gpus[0].instances and not it.realized)
    await station.pass_(LONG_SECONDS)
    with scene.by_hand.shift(station.site.host, _address(station)):
        # Where Harvester ends as it cuts, it leaves half a layout, which is its own affair.
        station.site.step = lambda name: None
        await cut_again(station)


COME_AND_GO = Story("VMs come and go", nothing, come_and_go)
DAY_0 = Story("a GPU is handed over and back", a_vm_runs, handed_over_and_back, all_gpus=False)
STORIES = (COME_AND_GO, DAY_0)


async def told(
    story: Story, directory: Path, version: Version, fuse: Fuse, *, controller: int = -1
) -> int:
    """Tell a story with an agent that ends as *fuse* says; return how many steps others took.

    The controller ends at its step of number *controller*, of those it takes beside an agent.
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
        log = station.cluster.log
        lives = Lives(station, fuse, Purview(all_gpus=story.all_gpus))
        scene = Scene(station, lives, Administered(log))
        async with station.kubelet.serving():
            await station.begin()
            await story.before(scene)
            station.site.step = step
            station.ending = ControllerEnded
            try:
                async with lives.lived():
                    await story.goes_on(scene)
                    assert await station.enabled() == []
                    assert station.host_is_whole()
            finally:
                await station.close()
            refused = [each for each in log.of(REFUSED) if each.actor == KUBELET]
            assert len(refused) <= (controller >= 0), refused
            assert list(traps(scene.by_hand.others(log.entries))) == []
    journal = FileJournal(directory / "agent" / NAME / "journal.json")
    await journal.load()
    assert journal.made == ()
    return steps


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
        await station.until(lambda entry=entry: _runs_or_is_replaced(station, name, entry))  # type: ignore[misc]
        if await station.phase(name) == "Running":
            return entry
    raise AssertionError("it is served some time")


async def _runs_or_is_replaced(station: Station, name: str, entry: Assignment) -> bool:
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


async def _cut_anew(station: Station) -> None:
    """Wait until the GPU takes GPU instances; where that needs an administrator, be one.

    A controller that has ended after it deleted the last GPU instance has never said so.
    """

    def decided(told: Inventory) -> bool:
        return any(each.unhealthy in ("", STILL_FROZEN) for each in told.gpus)

    await station.until_told(decided)
    for _ in range(20):
        await station.work()
    if (await station.until_told(decided)).gpus[0].unhealthy == STILL_FROZEN:
        await have_another_layout_made(station)
    await station.ready()


async def _held(station: Station) -> Instance:
    """Wait until a pod is told of that has a device, and return the GPU instance it has."""
    told = await station.until_told(
        lambda it: any(each.holder for gpu in it.gpus for each in gpu.instances)
    )
    (held,) = [each for each in told.gpus[0].instances if each.holder]
    return held


def _stands(told: Inventory) -> bool:
    return any(each.standing for gpu in told.gpus for each in gpu.instances)


async def _gone(station: Station, entry: Assignment) -> bool:
    assert entry.pod is not None
    return entry.pod.uid not in {pod["metadata"]["uid"] for pod in await station.pods()}


def _address(station: Station) -> str:
    (address,) = station.site.host.gpus
    return address
