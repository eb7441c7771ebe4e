"""A replay decides as the cluster does: through the same tables, by the same ties."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.packing.choose import Bin, Choice, choose
from extender.packing.tables import Tables
from extender.policy import Policy, PolicyName
from extender.simulation.board import Board
from extender.simulation.contenders import IMITATIONS, contender, of_policy
from extender.simulation.demand import Demand
from extender.simulation.experiment import Stage
from extender.simulation.replay import NOWHERE, History, replay
from extender.simulation.scenario import Scenario, stage
from extender.simulation.trained import nearest
from nodeagent.api.geometry import Placement
from nodeagent.api.occupancy import occupied_by

POLICIES = [name for name in PolicyName if name is not PolicyName.LEARNED]


def learned(on: Stage) -> Policy:
    policy = nearest(on.fleet.groups[0].geometry, on.observed)
    assert policy is not None
    return policy


def scanned(on: Stage, tables: list[Tables], demand: Demand) -> list[tuple[int, int]]:
    """Place each request with ``choose`` over all GPUs; return (GPU, start), NOWHERE twice if none.

    Slow and plain: the judge of the arrays.
    """
    held: list[set[tuple[int, Placement]]] = []
    bins: list[Bin] = []
    for at, group in enumerate(on.fleet.groups):
        serves = {k.name: p.id for k in on.kinds if (p := k.profiles[at]) is not None}
        for _ in range(group.gpus):
            bins.append(Bin(str(len(bins)), tables[at], tables[at].holding(()), serves))
            held.append(set())
    leaving: list[tuple[float, int, tuple[int, Placement]]] = []
    found = []
    for time, kind, lifetime in zip(demand.times, demand.kinds, demand.lifetimes, strict=True):
        while leaving and leaving[0][0] <= time:
            _, gpu, instance = heapq.heappop(leaving)
            held[gpu].remove(instance)
            bins[gpu] = _again(bins[gpu], held[gpu])
        choice = choose(bins, [on.kinds[kind].name])
        if not isinstance(choice, Choice):
            found.append((NOWHERE, NOWHERE))
            continue
        (placed,) = choice.placed
        instance = (placed.profile_id, placed.placement)
        held[placed.bin].add(instance)
        bins[placed.bin] = _again(bins[placed.bin], held[placed.bin])
        heapq.heappush(leaving, (time + lifetime, placed.bin, instance))
        found.append((placed.bin, placed.placement.start))
    return found


def _again(bin: Bin, held: set[tuple[int, Placement]]) -> Bin:
    return Bin(bin.uuid, bin.tables, bin.tables.holding(held), bin.serves)


def decided(board: Board, history: History) -> list[tuple[int, int]]:
    return [
        (int(gpu), NOWHERE if gpu == NOWHERE else board.slots[slot][2].start)
        for gpu, slot in zip(history.gpu, history.slot, strict=True)
    ]


@pytest.mark.parametrize("model", ["H100-80GB", "A30-24GB=3,H100-80GB=4"])
@pytest.mark.parametrize("name", POLICIES)
def test_look_ups_decide_as_a_plain_scan_over_all_gpus_does(name: PolicyName, model: str) -> None:
    on = stage(Scenario(model=model, gpus=6, load=1.2, arrivals=250, warmup=0))
    entered = contender(name, on.observed)
    board = entered.board(on.fleet, on.kinds)
    demand = on.demand(7)

    history = replay(board, entered.picker(board, 7), demand)

    tables = [entered.tables(group.geometry) for group in on.fleet.groups]
    assert decided(board, history) == scanned(on, tables, demand)
    assert NOWHERE in history.gpu  # or the test would be about an idle cluster


@pytest.mark.parametrize("name", [n for n in IMITATIONS if n.startswith("hami") and "big" not in n])
def test_imitations_that_only_rank_decide_as_a_plain_scan_does(name: str) -> None:
    on = stage(Scenario(gpus=6, load=1.2, arrivals=250, warmup=0))
    entered = contender(name, on.observed)
    board = entered.board(on.fleet, on.kinds)
    demand = on.demand(7)

    history = replay(board, entered.picker(board, 7), demand)

    tables = [entered.tables(group.geometry) for group in on.fleet.groups]
    assert decided(board, history) == scanned(on, tables, demand)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), load=st.floats(0.5, 2.0), gpus=st.integers(1, 5))
def test_layouts_are_followed_through_arrivals_and_departures(
    seed: int, load: float, gpus: int
) -> None:
    on = stage(Scenario(gpus=gpus, load=load, arrivals=120, warmup=0))
    entered = of_policy(learned(on))
    board = entered.board(on.fleet, on.kinds)
    demand = on.demand(seed)

    history = replay(board, entered.picker(board, seed), demand)

    tables = [entered.tables(group.geometry) for group in on.fleet.groups]
    assert decided(board, history) == scanned(on, tables, demand)


@pytest.mark.parametrize("name", [*POLICIES, *IMITATIONS])
@pytest.mark.parametrize("queueing", [False, True])
def test_nobody_is_placed_on_taken_slices_and_everybody_who_fits_is_placed(
    name: str, queueing: bool
) -> None:
    on = stage(Scenario(gpus=5, load=1.3, arrivals=300, warmup=0))
    entered = contender(name, on.observed)
    board = entered.board(on.fleet, on.kinds)
    demand = on.demand(3)

    history = replay(board, entered.picker(board, 3), demand, queueing=queueing)

    geometry = on.fleet.groups[0].geometry
    stays = [
        (history.placed_at[at], history.placed_at[at] + demand.lifetimes[at], gpu, at)
        for at, gpu in enumerate(history.gpu)
        if gpu != NOWHERE
    ]
    for at, time in enumerate(demand.times):
        if queueing and history.placed_at[at] > time:
            continue
        held: list[set[tuple[int, Placement]]] = [set() for _ in range(on.fleet.gpus)]
        for came, leaves, gpu, number in stays:
            if came <= time < leaves and number != at and (number < at or came < time):
                _, profile_id, placement = board.slots[history.slot[number]]
                assert (profile_id, placement) not in held[gpu]
                held[gpu].add((profile_id, placement))
        states = [occupied_by(geometry, each) for each in held]
        for state, each in zip(states, held, strict=True):
            assert state.mask.bit_count() == sum(p.size for _, p in each)
        profile = on.kinds[demand.kinds[at]].profiles[0]
        assert profile is not None
        fits = any(list(geometry.legal(state, profile)) for state in states)
        placed_now = history.gpu[at] != NOWHERE and history.placed_at[at] == time
        if placed_now:
            assert board.slots[history.slot[at]][2] in list(
                geometry.legal(
                    states[history.gpu[at]], geometry.by_id[board.slots[history.slot[at]][1]]
                )
            )
        elif "bigger" not in name:
            assert not fits


def test_who_waits_is_placed_when_somebody_leaves_in_the_order_of_arrival() -> None:
    on = stage(Scenario(gpus=1, mix="7g.80gb=1", arrivals=3, warmup=0))
    entered = contender("default", on.observed)
    board = entered.board(on.fleet, on.kinds)
    demand = Demand([0.0, 1.0, 2.0, 20.0], [0, 0, 0, 0], [5.0, 5.0, 5.0, 1.0])

    history = replay(board, entered.picker(board, 0), demand, queueing=True)

    assert history.placed_at.tolist() == [0.0, 5.0, 10.0, 20.0]
    assert (history.gpu == 0).all()


def test_who_leaves_at_the_moment_of_an_arrival_leaves_first() -> None:
    on = stage(Scenario(gpus=1, mix="7g.80gb=1", arrivals=2, warmup=0))
    entered = contender("default", on.observed)
    board = entered.board(on.fleet, on.kinds)

    history = replay(board, entered.picker(board, 0), Demand([0.0, 1.0], [0, 0], [1.0, 1.0]))

    assert history.gpu.tolist() == [0, 0]


def test_decisions_are_timed_now_and_then_without_changing_them() -> None:
    on = stage(Scenario(gpus=4, load=1.2, arrivals=160, warmup=0))
    entered = contender("random", on.observed)
    board = entered.board(on.fleet, on.kinds)
    ticks = iter(range(0, 10**6, 250))

    timed = replay(board, entered.picker(board, 1), on.demand(1), clock_ns=lambda: next(ticks))
    untimed = replay(board, entered.picker(board, 1), on.demand(1))

    assert timed.decision_ns.tolist() == [250] * 10
    assert np.array_equal(timed.gpu, untimed.gpu)
