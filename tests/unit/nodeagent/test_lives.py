"""Many VMs come and go on one node, whose agent is killed now and then."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment
from nodeagent.driver import DriverError
from nodeagent.simulated.driver import Call, CutShort
from tests.unit.nodeagent.builders import H100, assignment, hardware
from tests.unit.nodeagent.station import Station

DEVICES = 2  # at most, for each pod
MOVES = 40


class Scheduler:
    """Plans each VM where nothing is, binds it once it is realized, and clears up after it."""

    def __init__(self, station: Station, chance: random.Random) -> None:
        self.station = station
        self.chance = chance
        self.plan: dict[str, list[Assignment]] = {}
        self.bound: set[str] = set()
        self.made = 0

    async def arrive(self) -> None:
        self.made += 1
        pod, entries = f"vm-{self.made}", []
        status = await self.station.status()
        taken = {
            (gpu.uuid, i.placement)
            for gpu in self.station.hardware.gpus
            for i in gpu.instances.values()
        } | {(gpu.uuid, i.placement) for gpu in status.gpus for i in gpu.instances}
        taken |= {(a.gpu, a.placement) for each in self.plan.values() for a in each}
        for number in range(self.chance.randint(1, DEVICES)):
            places = [
                (gpu.uuid, profile.id, place)
                for gpu in self.station.hardware.gpus
                for profile in H100.geometry.profiles
                for place in profile.placements
                if profile.id != 20
                and not any(gpu.uuid == at and place.mask & it.mask for at, it in taken)
            ]
            if not places:
                return
            gpu, profile_id, place = self.chance.choice(places)
            taken.add((gpu, place))
            entries.append(
                assignment(
                    f"{pod}/{number}",
                    gpu,
                    profile=profile_id,
                    start=place.start,
                    pod=pod,
                    since=f"{self.made:04}",
                )
            )
        wanted = Counter(each.resource for each in entries)
        ref = await self.station.create_pod(pod, wanted)
        self.plan[pod] = [msgspec.structs.replace(each, pod=ref) for each in entries]
        await self._write()

    async def bind(self) -> None:
        realized = {each.id for each in (await self.station.status()).realized}
        for pod, entries in self.plan.items():
            if pod not in self.bound and realized.issuperset(each.id for each in entries):
                self.bound.add(pod)
                await self.station.bind_pod(pod)

    async def leave(self) -> None:
        if self.plan:
            pod = self.chance.choice(sorted(self.plan))
            await self.station.delete_pod(pod)
            self.plan.pop(pod)
            if self.chance.random() < 0.5:
                await self.station.settle()  # the pod is gone before its places are given back
            await self._write()

    async def _write(self) -> None:
        await self.station.plan(*(each for entries in self.plan.values() for each in entries))


class CarelessDriver:
    """Cuts every third creation short, and sees to it that none is begun beside a free one."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.begun = 0

    async def disturb(self, call: Call) -> None:
        if call.verb == "create" and not call.done:
            gpu = self.station.hardware.gpu(call.gpu)
            free = {gpu.instances[gi_id].profile_id for gi_id in gpu.bare}
            assert call.profile_id not in free, "its vGPU might be put into another one"
            self.begun += 1
            if self.begun % 3 == 1:
                raise CutShort(DriverError("create"))


@pytest.mark.parametrize("seed", range(8))
async def test_each_pod_gets_exactly_the_instances_planned_for_it(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    station = Station(hardware(2), journal=tmp_path / "journal.json")
    await station.install()
    scheduler = Scheduler(station, chance)
    station.driver.disturbance = CarelessDriver(station).disturb
    async with AsyncExitStack() as life:
        await life.enter_async_context(station.serving())
        for _ in range(MOVES):
            match chance.randrange(8):
                case 0 | 1 | 2:
                    await scheduler.arrive()
                case 3 | 4:
                    await scheduler.bind()
                case 5:
                    await scheduler.leave()
                case 6:
                    await station.settle()
                case _:
                    await life.aclose()
                    await life.enter_async_context(station.serving())
        async with asyncio.timeout(10):
            while not scheduler.plan.keys() <= scheduler.bound:
                await scheduler.bind()
                await station.settle()
        for pod in scheduler.plan:
            await station.until_pod(pod, "Running")
            assert await held(station, pod) == {
                (a.gpu, a.profile_id, a.placement) for a in scheduler.plan[pod]
            }
        while scheduler.plan:
            await scheduler.leave()
        await station.until(lambda s: not any(gpu.instances for gpu in s.gpus))

    assert not any(gpu.instances for gpu in station.hardware.gpus)
    assert station.checkpoint.claims == {}
    assert station.journal.made == ()


async def held(station: Station, pod: str) -> set[tuple[str, int, Placement]]:
    """Return what the pod really has open."""
    uid = (await station.pod(pod))["metadata"]["uid"]
    return {
        (gpu.uuid, gpu.instances[gi_id].profile_id, gpu.instances[gi_id].placement)
        for gpu in station.hardware.gpus
        for gi_id, clients in gpu.clients.items()
        if uid in clients
    }
