"""What moves cost by a policy: each VM by its own, and no plan with as few moves costs less."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from extender.advice import Asked, Guard, Manner, Setting
from extender.advice.yard import Yard, yard
from extender.ledger import Ledger
from extender.moves import How, Infeasible, Plan, instead, plan
from extender.policy.costs import Age, Costs
from nodeagent.api import rfc3339
from tests.builders import H100, view
from tests.explained import Pod, Small, Vm
from tests.moves import Exhaustive, clock

MOST_MOVES = 3
NOW = datetime(2026, 12, 2, 12, 0, tzinfo=UTC)
PROFILES = (5, 9, 14, 15, 19)
SEEDS = st.integers(0, 2**32 - 1)
KINDS = (How.LIVE, How.EVICTION, How.RESTART)


class Moving(msgspec.Struct, frozen=True):
    """How a VM would move, and for how many hours it has run."""

    how: How
    hours: int


def random_costs(chance: random.Random) -> Costs:
    """Costs of all kinds, such that kinds, profiles and ages each may decide."""
    live = chance.randint(0, 3)
    eviction = live + chance.randint(0, 10)
    hours = chance.sample((1, 24, 168), chance.randint(0, 3))
    return Costs(
        live_migration=live,
        eviction=eviction,
        restart=eviction + chance.randint(0, 10),
        profiles={"1g.10gb": chance.randint(0, 9)} if chance.random() < 0.5 else {},
        ages=tuple(Age(hours=each, adds=chance.randint(0, 30)) for each in hours),
    )


def random_small(chance: random.Random) -> Small:
    """A few VMs on three GPUs of two nodes."""
    gpus = {"a": 2, "b": 1}
    small = Small.of([], **gpus)
    for number in range(chance.randint(2, 6)):
        profile = H100.geometry.by_id[chance.choice(PROFILES)]
        node = chance.choice(list(gpus))
        placement = chance.choice(profile.placements)
        vm = Vm(f"vm{number}", profile.id, node, chance.randrange(gpus[node]), placement.start)
        there = [e for e in small.vms.values() if (e.node, e.gpu) == (vm.node, vm.gpu)]
        if not any(each.placement.mask & placement.mask for each in there):
            small = Small.of([*small.vms.values(), vm], **gpus)
    return small


def setting(small: Small, moving: Mapping[str, Moving], costs: Costs) -> Setting:
    """The cluster as it is known when all has been looked up."""
    views = {}
    for name, there in small.views.items():
        spec = there.node.spec
        plan = tuple(
            msgspec.structs.replace(
                each, since=rfc3339.microseconds(NOW - timedelta(hours=moving[each.pod.uid].hours))
            )
            for each in spec.assignments
            if each.pod is not None
        )
        spec = msgspec.structs.replace(spec, assignments=plan)
        views[name] = view(msgspec.structs.replace(there.node, spec=spec))
    restarting = [name for name, each in moving.items() if each.how is How.RESTART]
    return Setting(
        views,
        Ledger(),
        {vm.name: Pod(vm.node, restartable=vm.name in restarting) for vm in small.vms.values()},
        guards={name: (Guard(f"default/{name}", 0),) for name in restarting},
        guarded=True,
        manners={
            name: Manner(live=each.how is How.LIVE, guarded=each.how is How.EVICTION)
            for name, each in moving.items()
        },
        costs=costs,
        now=NOW,
    )


def told(costs: Costs, vm: Vm, moving: Moving) -> int:
    """What a VM's move costs, as the policy's documentation has it."""
    profile = H100.geometry.by_id[vm.profile_id]
    weight = costs.profiles.get(profile.name, profile.size)
    match moving.how:
        case How.LIVE:
            return costs.live_migration * weight
        case How.EVICTION:
            cost = costs.eviction * weight
        case How.RESTART:
            cost = costs.restart * weight
    reached = {each.hours: each.adds for each in costs.ages if each.hours <= moving.hours}
    return cost + (reached[max(reached)] if reached else 0)


def asked(seed: int) -> tuple[Yard, Small, Mapping[str, Moving], Costs]:
    """A small cluster, how its VMs move, what that costs, and a goal."""
    chance = random.Random(seed)
    small, costs = random_small(chance), random_costs(chance)
    moving = {
        name: Moving(chance.choice(KINDS), chance.choice((0, 1, 23, 24, 100, 168, 999)))
        for name in small.vms
    }
    goal = chance.choice(
        (
            Asked(headroom=((chance.choice(("7g.80gb", "4g.40gb", "3g.40gb")), 1),)),
            Asked(headroom=(("3g.40gb", 2),)),
            Asked(empty_gpus=chance.randint(1, 2)),
            Asked(drain=("b",)),
        )
    )
    return yard(setting(small, moving, costs), goal), small, moving, costs


@given(SEEDS)
def test_every_vm_has_the_price_of_its_profile_its_kind_of_move_and_its_age(seed: int) -> None:
    there, small, moving, costs = asked(seed)

    for host in there.problem.hosts:
        for occupant in host.occupants:
            entry, leave = there.whose[occupant.id].entry, occupant.movable
            assert entry is not None
            assert entry.pod is not None
            assert leave is not None
            name = entry.pod.uid
            assert (leave.how, leave.cost) == (
                moving[name].how,
                told(costs, small.vms[name], moving[name]),
            )


def judged(seed: int) -> tuple[str, ...]:
    """Compare a plan with the exhaustive search; return how its VMs move."""
    there, *_ = asked(seed)
    found, best = plan(there.problem, seconds=60, clock=clock), Exhaustive(there.problem)
    least = best.best(MOST_MOVES)
    if isinstance(found, Infeasible):
        assert least is None
        return ()
    if least is None:
        assert len(found.moves) > MOST_MOVES
    else:
        assert (len(found.moves), found.cost) == least
    return tuple(move.how for move in found.moves)


@given(SEEDS)
def test_no_plan_with_as_few_moves_costs_less_by_the_policy(seed: int) -> None:
    judged(seed)


def test_vms_move_in_all_three_ways() -> None:
    assert {how for seed in range(80) for how in judged(seed)} == {*KINDS}


@given(SEEDS)
def test_what_another_choice_would_cost_is_what_an_exhaustive_search_says(seed: int) -> None:
    there, *_ = asked(seed)
    problem = there.problem
    found = plan(problem, seconds=60, clock=clock)
    if not isinstance(found, Plan):
        return

    for each in instead(problem, found, most=2, seconds=60, clock=clock):
        hosts = [
            msgspec.structs.replace(
                host,
                occupants=tuple(
                    msgspec.structs.replace(o, movable=None) if o.id == each.occupant else o
                    for o in host.occupants
                ),
            )
            for host in problem.hosts
        ]
        without = msgspec.structs.replace(problem, hosts=hosts)
        least = Exhaustive(without).best(MOST_MOVES)
        if least is None:
            assert not each.attained or len(found.moves) + each.moves > MOST_MOVES
        else:
            assert each.attained
            assert (len(found.moves) + each.moves, found.cost + each.cost) == least
        assert each.occupant not in each.others
