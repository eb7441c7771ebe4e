"""Explanations are right: what they say helps, helps; where they say nothing does, nothing does."""

from __future__ import annotations

import random
from collections import Counter

import msgspec

from benchmarks.defrag.exact import layouts
from extender.explain import explain
from extender.explain.explanation import Lack, Moves, NoMoves, State
from extender.explain.room import MOST_MOVES
from extender.ledger import Ledger
from extender.packing.spread import Spread
from extender.request import Request
from extender.verbs.filter import filter
from extender.verbs.fleet import Fleet
from nodeagent.api import resources
from nodeagent.api.gpunode import Mode
from tests.builders import H100, request
from tests.explained import PROFILE_OF, RESOURCE_OF, Small, Vm
from tests.reachable import Gpu, Occupant, reachable, starts

LAYOUTS = [each for each in layouts(H100.geometry) if all(id in RESOURCE_OF for id, _ in each)]
SHAPES = (
    {"a": 2},
    {"a": 2},
    {"a": 1, "b": 1},
    {"a": 1, "b": 1},
    {"a": 3},
    {"a": 2, "b": 1},
    {"a": 1, "b": 1, "c": 1},
)
WANTED = sorted(PROFILE_OF)
SERVED = resources.served(Mode.VGPU_VFIO, H100.geometry, H100.vgpu_types)


def drawn(chance: random.Random) -> tuple[Small, Request]:
    """A cluster of two or three GPUs, and a request that is refused there."""
    while True:
        shape = chance.choice(SHAPES)
        vms = list[Vm]()
        for node, gpus in shape.items():
            for gpu in range(gpus):
                for profile_id, start in chance.choice(LAYOUTS):
                    name = f"vm-{len(vms)}"
                    movable = chance.random() < 0.8
                    vms.append(Vm(name, profile_id, node, gpu, start, movable))
        small, asked = Small.of(vms, **shape), request(chance.choice(WANTED), pod="me")
        if not passed(small, asked):
            return small, asked


def passed(small: Small, asked: Request) -> tuple[str, ...]:
    return filter(Fleet(small.views), Ledger(), asked, list(small.gpus)).passed


def test_of_500_refused_requests_each_is_helped_as_it_is_told_or_not_at_all() -> None:
    chance, found = random.Random(20_261), Counter[str]()
    for _ in range(500):
        small, asked = drawn(chance)
        said = explain(small.situation(asked))

        assert said.state is State.REFUSED
        assert said.missing is not None
        assert said.missing.lack in (Lack.CAPACITY, Lack.FRAGMENTATION)
        match said.room:
            case Moves() as plan:
                found[f"{len(plan.moves)} moves"] += 1
                assert plan.fewest
                assert not helped_by(small, asked, moves=len(plan.moves) - 1)
                then = small
                for move in plan.moves:
                    then = then.moved(move)
                (spot,) = plan.on
                assert then.free(spot)
                assert spot.node in passed(then, asked)
            case NoMoves() as none:
                found["none"] += 1
                assert none.proven
                assert not helped_by(small, asked, moves=MOST_MOVES)
            case None:
                raise AssertionError("it lacks room, and nothing is said of making any")
    assert all(found[each] >= 20 for each in ("1 moves", "2 moves", "none")), found
    assert found["3 moves"], found


def helped_by(small: Small, asked: Request, *, moves: int) -> bool:
    """Look at every state that so many moves lead to; GPUs are alike, whatever their node."""
    gpus = tuple(
        Gpu(
            tuple(
                sorted(
                    Occupant(vm.profile_id, vm.start, vm.movable)
                    for vm in small.vms.values()
                    if (vm.node, vm.gpu) == (node, gpu)
                )
            )
        )
        for node, count in small.gpus.items()
        for gpu in range(count)
    )
    return any(
        starts(gpu.occupants, PROFILE_OF[asked.wanted[0]])
        for state in reachable(gpus, moves=moves)
        for gpu in state
    )


def test_other_profiles_fit_on_as_many_nodes_as_filter_lets_pass() -> None:
    chance, told = random.Random(7), 0
    for _ in range(60):
        small, asked = drawn(chance)
        said = explain(small.situation(asked))

        told += len(said.alternatives)
        for each in said.alternatives:
            instead = request(each.resource, pod="me")
            assert len(passed(small, instead)) == each.nodes
            profile = H100.geometry.by_id[SERVED[each.resource]]
            assert (each.profile, each.slices) == (profile.name, profile.size)
    assert told > 60


def test_several_of_another_profile_fit_on_as_many_nodes_as_filter_lets_pass() -> None:
    chance, told = random.Random(13), Counter[Spread]()
    for _ in range(150):
        small, _ = drawn(chance)
        spread, count = chance.choice(list(Spread)), chance.choice((2, 2, 3))
        asked = several(chance.choice(WANTED), count, spread)
        said = explain(small.situation(asked))
        assert (said.state is State.FITS) == bool(passed(small, asked))

        told[spread] += len(said.alternatives)
        for each in said.alternatives:
            assert len(passed(small, several(each.resource, count, spread))) == each.nodes
    assert min(told[each] for each in Spread) > 10, told


def several(resource: str, count: int, spread: Spread) -> Request:
    return msgspec.structs.replace(request(*[resource] * count, pod="me"), spread=spread)


def test_a_vm_with_several_vgpus_fits_where_it_is_said_to_once_others_have_moved() -> None:
    chance, helped = random.Random(11), 0
    for _ in range(120):
        small, _ = drawn(chance)
        asked = request(*chance.choices(WANTED, k=2), pod="me")
        said = explain(small.situation(asked))
        if not isinstance(said.room, Moves):
            continue
        helped += 1
        then = small
        for move in said.room.moves:
            then = then.moved(move)
        assert said.room.fewest == (len(said.room.moves) == 1), "as it is, it fits nowhere"
        assert {spot.node for spot in said.room.on} <= set(passed(then, asked))
    assert helped > 10
