"""What fits if everything may be moved: whichever way it is found out, and in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.simulation.at_best import AtBest, most
from extender.simulation.repack import covering_test, repack_test
from extender.simulation.scenario import Scenario, stage
from tests.simulated import H100, can_hold

MIXED = stage(Scenario(model="A30-24GB=1,H100-80GB=1"))
WIDE = stage(Scenario(gpus=2, mix="7g.80gb=1,3g.40gb=1,2g.20gb=1,1g.10gb+me=1,1g.10gb=1"))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=4))
def test_gpus_of_two_models_hold_what_the_search_finds_a_place_for(asked: list[list[int]]) -> None:
    fits, search = AtBest(MIXED.fleet.groups, MIXED.kinds), repack_test(MIXED.fleet, MIXED.kinds)

    assert [fits(counts) for counts in asked] == [search(counts) for counts in asked]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=5, max_size=5))
def test_profiles_with_a_limit_of_their_own_are_kept_to_it(counts: list[int]) -> None:
    fits = covering_test(WIDE.fleet, WIDE.kinds, WIDE.kinds)
    wanted = dict(zip((kind.name for kind in WIDE.kinds), counts, strict=True))

    assert fits(counts) == can_hold([H100.geometry] * 2, wanted)


@given(st.integers(-1, 50), st.integers(0, 40))
def test_the_most_that_fits_is_found(truth: int, limit: int) -> None:
    assert most(lambda number: number <= truth, limit) == min(truth, limit)


@pytest.mark.parametrize("counts", [[0] * 6, [0, 0, 0, 0, 0, 1]])
def test_without_gpus_nothing_is_held(counts: list[int]) -> None:
    assert AtBest((), MIXED.kinds)(counts) is not any(counts)
