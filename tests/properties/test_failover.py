"""Extenders come and go, slow and cut off, while VMs do: whoever writes is the one that leads.

Judged from the API server alone: from the Lease at the moment of each write, and from the plans.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import LEASES, Unavailable
from tests.fakes.replicas import PATIENT, WRITES, Member, Replicas, soon, speaking
from tests.virtual_time import in_virtual_time

NAMES = ("a", "b")
NODES = ("node-1", "node-2")
# A pod gets its place back into the pool within the story.
BRISK = msgspec.structs.replace(PATIENT, reservation_seconds=20.0)

Move = tuple[str, Any]
someone = st.sampled_from(NAMES)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from(["1-10C", "3-40C", "7-80C"])),
        st.tuples(st.just("arrive"), st.sampled_from(["1-10C", "3-40C", "7-80C"])),
        st.tuples(st.just("depart"), st.integers(0, 20)),
        st.tuples(st.just("kill"), someone),
        st.tuples(st.just("send away"), someone),
        st.tuples(st.just("start"), someone),
        st.tuples(st.just("isolate the leader"), st.floats(0, 30)),
        st.tuples(st.just("pass"), st.floats(0, 25)),
    ),
    max_size=16,
)


class Troubled(Replicas):
    """Calls of extenders take their time, and some answers are lost; agents are spared."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._inner = self.api.disturbance
        self.api.disturbance = self._trouble
        self.violations: list[str] = []
        self.running: dict[str, Member] = {}
        self.lives = 0
        self.vms: list[dict[str, Any]] = []

    async def _trouble(self, call: Call) -> None:
        who = speaking.get()
        if who and call.done and call.verb in WRITES and call.kind != LEASES:
            speaking.set("")  # the judge is not in the story
            holder = await self.holder()
            speaking.set(who)
            if (holder or "").partition("_")[0] != who:
                self.violations.append(f"{who} wrote {call.kind.plural} under {holder}")
        assert self._inner is not None
        await self._inner(call)
        if who and call.verb != "watch" and self._chance.random() < 0.05:
            if call.done:
                raise Unavailable(0, "the answer was lost")
            await asyncio.sleep(self._chance.expovariate(0.5))

    def start(self, name: str) -> None:
        if name not in self.running:
            self.lives += 1
            member = self.member(name, identity=f"{name}_{self.lives}", settings=BRISK)
            member.start()
            self.running[name] = member

    async def make(self, move: Move) -> None:
        match move:
            case ("arrive", wanted):
                self.vms.append(await self.add_pod(f"vm-{len(self.vms)}", wanted))
            case ("depart", index) if self.vms:
                pod = self.vms[index % len(self.vms)]
                if await self.pod(pod["metadata"]["name"]):
                    await self.delete_pod(pod)
            case ("kill", name) if name in self.running:
                await self.running.pop(name).kill()
            case ("send away", name) if name in self.running:
                await self.running.pop(name).leave()
            case ("start", name):
                self.start(name)
            case ("isolate the leader", seconds):
                leaders = [name for name, each in self.running.items() if each.leads]
                self.cut_off.update(leaders)
                await asyncio.sleep(seconds)
                self.cut_off.difference_update(leaders)
            case ("pass", seconds):
                await asyncio.sleep(seconds)

    async def schedule_for_ever(self) -> None:
        """Come back for every pending pod, to whoever is there: it is for them to refuse."""
        while True:
            for pod in tuple(self.vms):
                name = pod["metadata"]["name"]
                if await self.pod(name) and not await self.bound(name):
                    for member in tuple(self.running.values()):
                        task = asyncio.create_task(self._attempt(member, pod))
                        await asyncio.wait([task], timeout=1.0)
            await asyncio.sleep(1.0)

    @staticmethod
    async def _attempt(member: Member, pod: dict[str, Any]) -> None:
        for node in NODES:
            if not await member.schedule(pod, node):
                return

    async def settled(self) -> bool:
        """Tell whether plans hold what bound pods have, and nothing else."""
        entries = [a for name in NODES for a in (await self.gpu_node(name)).spec.assignments]
        decided = []
        for pod in self.vms:
            if await self.bound(pod["metadata"]["name"]):
                decided += [each.id for each in await self.decision(pod["metadata"]["name"])]
        return sorted(a.id for a in entries) == sorted(decided)


def overlapping(node: GpuNode) -> Iterator[str]:
    taken: dict[str, int] = {}
    for entry in node.spec.assignments:
        if taken.get(entry.gpu, 0) & entry.placement.mask:
            yield f"{node.name}: {entry.gpu} is promised twice"
        taken[entry.gpu] = taken.get(entry.gpu, 0) | entry.placement.mask


async def story(told: list[Move], seed: int) -> None:
    world = Troubled(random.Random(seed))
    for node in NODES:
        await world.add_node(node, gpus=4)
    for name in NAMES:
        await world.add_pod(name, namespace="tangram-system")
        world.start(name)
    async with world.obedient(*NODES):
        await soon(lambda: any(each.leads for each in world.running.values()))
        scheduler = asyncio.create_task(world.schedule_for_ever())
        for move in told:
            await world.make(move)
        for name in NAMES:
            await world.make(("start", name))
        await soon(lambda: any(each.leads for each in world.running.values()), within=120)
        await soon(world.settled, within=600)
        assert world.violations == []
        for node in NODES:
            assert list(overlapping(await world.gpu_node(node))) == []
        scheduler.cancel()
        for member in world.running.values():
            await member.kill()


@settings(max_examples=60)
@given(moves, st.integers(0, 2**32))
def test_whoever_writes_is_the_one_that_leads_and_no_slice_is_promised_twice(
    told: list[Move], seed: int
) -> None:
    in_virtual_time(story(told, seed))
