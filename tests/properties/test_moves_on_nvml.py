"""Plans of moves carried out on NVML, as node agents do: what is planned is what comes to be.

Behind the driver is the fake library, which refuses what a GPU would. Each VM has its GPU instance
open for as long as it is there, so that nobody else's can be destroyed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.moves import Admit, Consolidate, Drain, Headroom, Infeasible, Plan, Problem, plan
from nodeagent.api.geometry import Placement
from tests.moves import A30, H100, clock, crowded, random_problem
from tests.unit.nvml.node import Node

SEEDS = st.integers(0, 2**32 - 1)
TABLES = {"A30-24GB": A30, "H100-80GB": H100}
GPUS = {"A30-24GB": 4, "H100-80GB": 3}


class Fleet:
    """VMs on the GPUs of a node, by their UUIDs in plans.

    What is to be there is known by VM, GPU and placement: the profile id, and what the driver said.
    """

    def __init__(self, node: Node, uuids: list[str]) -> None:
        self._node = node
        self._index = {uuid: at for at, uuid in enumerate(uuids)}
        self._there: dict[tuple[str, str, Placement], tuple[int, int]] = {}

    async def make(self, vm: str, gpu: str, profile_id: int, placement: Placement) -> None:
        """Make a GPU instance for a VM."""
        uuid = self._node.machine.uuids[self._index[gpu]]
        gi_id = await self._node.driver.create(uuid, profile_id, placement)
        self._there[vm, gpu, placement] = profile_id, gi_id

    def begin(self, vm: str, gpu: str, placement: Placement) -> None:
        """Have a VM run in a GPU instance of its own."""
        _, gi_id = self._there[vm, gpu, placement]
        self._node.machine.open_client(self._index[gpu], gi_id, vm)

    async def leave(self, vm: str, gpu: str, placement: Placement) -> None:
        """End a VM where it is, and destroy its GPU instance."""
        self._node.machine.close_client(vm)
        _, gi_id = self._there.pop((vm, gpu, placement))
        await self._node.driver.destroy(self._node.machine.uuids[self._index[gpu]], gi_id)

    async def clear(self) -> None:
        """End all there is; the driver destroys only what it has seen."""
        await self._node.driver.discover()
        for each in tuple(self._there):
            await self.leave(*each)

    async def look(self) -> None:
        """Compare what the machine holds, and what the driver lists, with what is to be there."""
        expected: dict[int, dict[int, tuple[int, Placement]]] = {
            at: {} for at in range(len(self._node.machine.uuids))
        }
        for (_, gpu, placement), (profile_id, gi_id) in self._there.items():
            expected[self._index[gpu]][gi_id] = profile_id, placement
        listed = (await self._node.driver.discover()).gpus
        for at, instances in expected.items():
            held = self._node.machine.gpu_instances(at)
            assert {e.gi_id: (e.profile_id, e.placement) for e in held} == instances
            seen = {e.gi_id: (e.profile_id, e.placement) for e in listed[at].instances}
            assert seen == instances
            taken = 0
            for each in held:
                assert not taken & each.placement.mask
                taken |= each.placement.mask


async def carried_out(node: Node, problem: Problem, found: Plan) -> None:
    """Have all VMs run where they are, make the moves of a plan, and place what is wanted.

    A move's target is made before its VM leaves, as plans are carried out.
    """
    fleet = Fleet(node, [host.uuid for host in problem.hosts])
    serves = {host.uuid: host.serves for host in problem.hosts}
    kinds = {vm.id: vm.kind for host in problem.hosts for vm in host.occupants}
    await fleet.look()
    try:
        for host in problem.hosts:
            for vm in host.occupants:
                await fleet.make(vm.id, host.uuid, vm.profile_id, vm.placement)
                fleet.begin(vm.id, host.uuid, vm.placement)
        await fleet.look()
        for move in found.moves:
            vm_id, profile_id = move.occupant, serves[move.target][kinds[move.occupant]]
            await fleet.make(vm_id, move.target, profile_id, move.placement)
            await fleet.look()
            await fleet.leave(vm_id, move.source, move.left)
            await fleet.look()
            fleet.begin(vm_id, move.target, move.placement)
        for place in found.places:
            await fleet.make(place.wanted, place.gpu, place.profile_id, place.placement)
        await fleet.look()
    finally:
        await fleet.clear()


@pytest.fixture(scope="module", params=TABLES)
def node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """Return a node with empty GPUs of a model; each plan leaves them empty again."""
    made = Node(tmp_path_factory.mktemp("node"), request.param, gpus=GPUS[request.param])
    yield made
    asyncio.run(made.close())


def replayed(node: Node, seed: int) -> tuple[Problem, Plan | None]:
    """Plan for a fleet and a goal, or two, and carry the plan out, or the nearest there is."""
    chance = random.Random(seed)
    (model,) = set(node.machine.models)
    make = crowded if chance.random() < 0.8 else random_problem
    problem = make(chance, TABLES[model], GPUS[model])
    found = plan(problem, seconds=60, clock=clock)
    best = found.nearest if isinstance(found, Infeasible) else found
    if best is not None:
        asyncio.run(carried_out(node, problem, best))
    return problem, best


@given(seed=SEEDS)
def test_every_plan_is_carried_out_on_nvml_as_it_is_planned(node: Node, seed: int) -> None:
    replayed(node, seed)


def test_the_plans_carried_out_are_for_goals_of_all_kinds_and_have_moves(node: Node) -> None:
    moves: dict[type, int] = {}
    for seed in range(40):
        problem, found = replayed(node, seed)
        for goal in problem.goals:
            moves[type(goal)] = moves.get(type(goal), 0) + (len(found.moves) if found else 0)

    assert all(moves[kind] > 0 for kind in (Admit, Headroom, Consolidate, Drain)), moves
