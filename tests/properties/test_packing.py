"""Packing several instances, judged by brute force."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from extender.packing.choose import Bin, Choice, choose
from extender.packing.rules import ByValue
from extender.packing.spread import Spread
from extender.packing.tables import tables
from extender.policy import PolicyName
from nodeagent.api.geometry import Geometry, Occupancy, Placement
from tests.properties.geometries import geometries


@st.composite
def held(draw: st.DrawFn, geometry: Geometry) -> list[tuple[int, Placement]]:
    occupancy, taken = geometry.empty, []
    for profile in draw(st.lists(st.sampled_from(geometry.profiles), max_size=5)):
        options = list(geometry.legal(occupancy, profile))
        if options:
            taken.append((profile.id, draw(st.sampled_from(options))))
            occupancy = geometry.occupied(occupancy, *taken[-1])
    return taken


@st.composite
def problems(draw: st.DrawFn, *, max_wanted: int = 5) -> tuple[list[Bin], list[str]]:
    geometry = draw(geometries())
    serves = {profile.name: profile.id for profile in geometry.profiles}
    of = tables(geometry, draw(st.sampled_from(list(PolicyName))))
    bins = [
        Bin(str(index), of, of.holding(draw(held(geometry))), serves)
        for index in range(draw(st.integers(1, 3)))
    ]
    return bins, draw(st.lists(st.sampled_from(sorted(serves)), min_size=1, max_size=max_wanted))


spreads = st.sampled_from(Spread)


def open_to(spread: Spread, used: tuple[int, ...], gpu: int) -> bool:
    """Tell whether the next vGPU may go to a GPU when others of the VM are on those *used*."""
    if spread is Spread.SAME:
        return all(gpu == each for each in used)
    return spread is Spread.ANY or gpu not in used


def fits(
    bins: Sequence[Bin],
    state: tuple[Occupancy, ...],
    wanted: Sequence[str],
    spread: Spread,
    used: tuple[int, ...] = (),
) -> bool:
    if not wanted:
        return True
    geometry = bins[0].tables.geometry
    profile = geometry.by_id[bins[0].serves[wanted[0]]]
    return any(
        fits(
            bins,
            (*state[:i], geometry.occupied(state[i], profile.id, placement), *state[i + 1 :]),
            wanted[1:],
            spread,
            (*used, i),
        )
        for i in range(len(bins))
        if open_to(spread, used, i)
        for placement in geometry.legal(state[i], profile)
    )


@given(problems(), spreads)
def test_a_request_is_placed_exactly_when_some_arrangement_exists(
    problem: tuple[list[Bin], list[str]], spread: Spread
) -> None:
    bins, wanted = problem

    choice = choose(bins, wanted, spread)

    state = tuple(bin.occupancy for bin in bins)
    assert isinstance(choice, Choice) == fits(bins, state, wanted, spread)


def costs(
    bins: Sequence[Bin],
    state: tuple[Occupancy, ...],
    wanted: Sequence[str],
    spread: Spread,
    used: tuple[int, ...] = (),
) -> list[int]:
    """Return what every arrangement costs, in this order of arrival."""
    if not wanted:
        return [0]
    profile = bins[0].tables.geometry.by_id[bins[0].serves[wanted[0]]]
    return [
        option.cost + rest
        for i, bin in enumerate(bins)
        if open_to(spread, used, i)
        for option in bin.tables.options(state[i], profile)
        for rest in costs(
            bins, (*state[:i], option.after, *state[i + 1 :]), wanted[1:], spread, (*used, i)
        )
    ]


@given(problems(max_wanted=4), spreads)
def test_several_are_placed_at_the_least_cost(
    problem: tuple[list[Bin], list[str]], spread: Spread
) -> None:
    bins, wanted = problem
    if not isinstance(bins[0].tables.rule, ByValue):
        return  # what is lost then depends on the order of arrival

    choice = choose(bins, wanted, spread)

    all_costs = costs(bins, tuple(b.occupancy for b in bins), wanted, spread)
    assert (choice.cost if isinstance(choice, Choice) else None) == min(all_costs, default=None)


@given(problems(), st.randoms(use_true_random=False))
def test_nodes_with_the_same_gpus_in_another_order_cost_the_same(
    problem: tuple[list[Bin], list[str]], chance: random.Random
) -> None:
    bins, wanted = problem
    shuffled = chance.sample(bins, len(bins))

    one, other = choose(bins, wanted), choose(shuffled, wanted)

    assert isinstance(one, Choice) == isinstance(other, Choice)
    if isinstance(one, Choice) and isinstance(other, Choice):
        assert (one.cost, one.tie) == (other.cost, other.tie)


@given(problems(), spreads)
def test_a_placed_request_is_legal_and_complete(
    problem: tuple[list[Bin], list[str]], spread: Spread
) -> None:
    bins, wanted = problem
    choice = choose(bins, wanted, spread)
    if not isinstance(choice, Choice):
        return
    state = [b.occupancy for b in bins]
    for placed in choice.placed:
        geometry = bins[placed.bin].tables.geometry
        profile = geometry.by_id[placed.profile_id]
        assert placed.placement in list(geometry.legal(state[placed.bin], profile))
        assert placed.uuid == bins[placed.bin].uuid
        state[placed.bin] = geometry.occupied(state[placed.bin], profile.id, placed.placement)
    assert sorted(p.wanted for p in choice.placed) == sorted(wanted)
    assert spread.allows([placed.uuid for placed in choice.placed])
