"""States of one GPU, counted and judged by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from extender.packing.arrays import IMPOSSIBLE, NEVER, ranks
from extender.packing.fragmentation import (
    blocked_windows,
    capability,
    longest_free_run,
    unusable,
)
from extender.packing.learned import coefficients, features, weights
from extender.packing.states import Counted, Key, Layout, added, empty, reachable, shapes
from extender.packing.tables import tables
from extender.policy import Policy, PolicyName, Weights
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Placement
from tests.builders import H100

# The six profiles of the literature: without the media extension, which shares 1g's placements.
SIX = msgspec.structs.replace(
    H100.geometry, profiles=tuple(p for p in H100.geometry.profiles if not p.limited)
)
UNWEIGHTED = Policy(PolicyName.LEARNED, weights=Weights((), (), 0.0, 0.0, 0.0, 0.0))

Held = frozenset[tuple[int, Placement]]


def instance_sets(geometry: Geometry) -> set[Held]:
    """Every set of (profile id, placement) without overlap, by trying all."""
    slots = [(p.id, placement) for p in geometry.profiles for placement in p.placements]

    def extended(held: tuple[tuple[int, Placement], ...], first: int, mask: int) -> Iterator[Held]:
        yield frozenset(held)
        for at in range(first, len(slots)):
            if not slots[at][1].mask & mask:
                yield from extended((*held, slots[at]), at + 1, mask | slots[at][1].mask)

    return set(extended((), 0, 0))


def test_an_eight_slice_gpu_has_the_known_numbers_of_states() -> None:
    sets = instance_sets(SIX)
    maximal = {s for s in sets if not any(s < other for other in sets)}
    multisets = {tuple(sorted(profile for profile, _ in held)) for held in maximal}

    assert len(sets) == 723
    assert len(maximal) == 78
    assert len(multisets) == 38
    assert len(list(reachable(SIX))) == 192


def test_interchangeable_pairs_leave_273_classes() -> None:
    # Slices 0, 1 and 2, 3 change places, and so do 0 and 1 (2 and 3) under a lone 1g.10gb.
    def canonical(held: Held) -> object:
        pairs: dict[int, list[object]] = {0: [], 1: []}
        rest = []
        for profile, placement in held:
            if placement.start < 4 and placement.size <= 2:
                pairs[placement.start // 2].append(profile)
            else:
                rest.append((profile, placement))
        left = tuple(sorted(tuple(sorted(map(str, pair))) for pair in pairs.values()))
        upper: dict[int, list[object]] = {}
        for profile, placement in rest:
            at = placement.start
            # Slice 7 is no start of 1g.10gb, so 6 is told from 7, but 4 from 5 only by symmetry.
            upper.setdefault(4 if placement.size == 1 and at in (4, 5) else at, []).append(profile)
        return left, tuple(sorted((at, tuple(sorted(map(str, p)))) for at, p in upper.items()))

    assert len({canonical(held) for held in instance_sets(SIX)}) == 273


@pytest.mark.parametrize("model", ["H100-80GB", "A30-24GB", "RTX-PRO-6000-Blackwell-96GB"])
def test_layouts_are_the_distinct_placements_of_all_instance_sets(model: str) -> None:
    geometry = msgspec.structs.replace(
        MODELS[model].geometry,
        profiles=tuple(p for p in MODELS[model].geometry.profiles if not p.limited),
    )
    if model == "RTX-PRO-6000-Blackwell-96GB":  # its profiles share shapes: one of each will do
        by_shape = {(p.size, p.starts): p for p in geometry.profiles}
        geometry = msgspec.structs.replace(geometry, profiles=tuple(by_shape.values()))
    expected = {tuple(sorted(p for _, p in held)) for held in instance_sets(geometry)}

    found = list(reachable(geometry, Key.LAYOUT))

    assert {state.placements for state in found if isinstance(state, Layout)} == expected
    assert len(found) == len(expected)


def test_equal_weights_rank_moves_as_weights_by_size_do() -> None:
    def by_size(mask: int) -> int:
        return sum(shape.size * lost for shape, lost in unusable(SIX, mask))

    def alike(mask: int) -> int:
        return sum(lost for _, lost in unusable(SIX, mask))

    states = [state.mask for state in reachable(SIX)]
    for profile in SIX.profiles:
        moves = [
            (mask, mask | placement.mask)
            for mask in states
            for placement in profile.placements
            if not mask & placement.mask
        ]
        losses = {(alike(b) - alike(a), by_size(b) - by_size(a)) for a, b in moves}
        for (one, sized), (other, other_sized) in itertools.product(losses, losses):
            assert (one < other) == (sized < other_sized)


def test_measures_are_what_their_definitions_say() -> None:
    mask = 0b0001_0011  # slices 0, 1 and 4 are taken
    lost = {shape.size * 10 + len(shape.starts): n for shape, n in unusable(SIX, mask)}
    left = {shape.size * 10 + len(shape.starts): n for shape, n in capability(SIX, mask)}

    # 7g, 4g and 3g fit nowhere; 2g has 2, 3; 1g.20gb 2, 3, 6, 7; 1g.10gb all but 7.
    assert lost == {81: 5, 41: 5, 42: 5, 23: 3, 24: 1, 17: 1}
    assert left == {81: 0, 41: 0, 42: 0, 23: 1, 24: 2, 17: 4}
    # Free for 4g and less: 4g@0; 3g@0, 4; 2g@0, 4; 1g.20gb@0, 4; 1g.10gb@0, 1, 4.
    assert blocked_windows(SIX, mask) == 4 + 8 + 4 + 4 + 3
    assert blocked_windows(SIX, mask, partly=True) == 4 + 8 + 2 + 2
    assert longest_free_run(SIX, mask) == 3


def test_full_and_empty_gpus_are_not_fragmented_for_mfi() -> None:
    assert blocked_windows(SIX, 0) == blocked_windows(SIX, SIX.full_mask) == 0


@pytest.mark.parametrize("model", MODELS)
def test_counted_instances_are_those_of_the_layouts(model: str) -> None:
    geometry = MODELS[model].geometry
    layouts = reachable(geometry, Key.LAYOUT)

    found = {
        (state.mask, state.counts, state.instances)
        for state in reachable(geometry, Key.INSTANCES)
        if isinstance(state, Counted)
    }

    assert found == {
        (state.mask, state.counts, len(state.placements))
        for state in layouts
        if isinstance(state, Layout)
    }


@pytest.mark.parametrize("policy", [Policy(PolicyName.DEFAULT), UNWEIGHTED])
@pytest.mark.parametrize("model", MODELS)
def test_arrays_say_what_the_options_say(model: str, policy: Policy) -> None:
    geometry = MODELS[model].geometry
    table = tables(geometry, policy)
    arrays = table.arrays
    assert arrays.states[0] == empty(geometry, table.rule.key)

    for (row, profile), (at, state) in itertools.product(
        enumerate(geometry.profiles), enumerate(arrays.states)
    ):
        options = table.options(state, profile)
        if not options:
            assert arrays.slot[row, at] == NEVER
            continue
        slot = arrays.slots[arrays.slot[row, at]]
        assert (slot.profile_id, slot.placement) == (profile.id, options[0].placement)
        assert arrays.cost[row, at] == options[0].cost
        then = arrays.after[arrays.slot[row, at], at]
        assert arrays.states[then] == added(geometry, state, profile.id, slot.placement)
        assert arrays.without[arrays.slot[row, at], then] == at


def test_ranks_order_by_cost_then_by_precedence_and_leave_out_the_impossible() -> None:
    cost = np.array([3, 1, 1, 3, 0])
    precedence = np.array([0, 2, 5, 0, 9])
    possible = np.array([True, True, True, True, False])

    assert ranks(cost, precedence, possible).tolist() == [2, 1, 0, 2, IMPOSSIBLE]


def test_features_of_a_gpu_are_those_described() -> None:
    geometry = SIX
    state = empty(geometry, Key.LAYOUT)
    for profile_id, placement in ((14, Placement(0, 2)), (19, Placement(6, 1))):
        state = added(geometry, state, profile_id, placement)
    assert isinstance(state, Layout)

    # Largest shapes first: 7g, 3g, 4g, 1g.20gb, 2g, 1g.10gb.
    assert shapes(geometry)[1].starts == (0, 4)
    fits, together = (0, 0, 0, 1, 1, 1), (0, 2, 2, 4)
    until_empty = (1.5, 1.0, 1.0)
    assert features(geometry, state) == (*fits, *together, *until_empty, 1.0)


def test_a_whole_gpu_instance_empties_both_halves_at_once() -> None:
    state = added(SIX, empty(SIX, Key.LAYOUT), 0, Placement(0, 8))
    assert isinstance(state, Layout)

    assert features(SIX, state)[-4:] == (1.0, 0.0, 0.0, 1.0)


def test_weights_by_name_and_in_order_are_the_same() -> None:
    values = tuple(float(number) for number in range(14))

    assert coefficients(SIX, weights(SIX, values)) == values
