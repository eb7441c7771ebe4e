"""Packing several instances, judged by brute force."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from extender.packing.choose import Bin, Choice, choose
from extender.packing.tables import tables
from extender.policy import PolicyName
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Occupancy

MODEL_NAMES = ("H100-80GB", "A30-24GB", "RTX-PRO-6000-Blackwell-96GB")


@st.composite
def occupancies(draw: st.DrawFn, geometry: Geometry) -> Occupancy:
    occupancy = geometry.empty
    for profile in draw(st.lists(st.sampled_from(geometry.profiles), max_size=5)):
        options = list(geometry.legal(occupancy, profile))
        if options:
            occupancy = geometry.occupied(occupancy, profile.id, draw(st.sampled_from(options)))
    return occupancy


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Bin], list[str]]:
    geometry = MODELS[draw(st.sampled_from(MODEL_NAMES))].geometry
    serves = {profile.name: profile.id for profile in geometry.profiles}
    policy = draw(st.sampled_from(list(PolicyName)))
    bins = [
        Bin(str(index), tables(geometry, policy), draw(occupancies(geometry)), serves)
        for index in range(draw(st.integers(1, 3)))
    ]
    return bins, draw(st.lists(st.sampled_from(sorted(serves)), min_size=1, max_size=5))


def fits(bins: Sequence[Bin], state: tuple[Occupancy, ...], wanted: Sequence[str]) -> bool:
    if not wanted:
        return True
    geometry = bins[0].tables.geometry
    profile = geometry.by_id[bins[0].serves[wanted[0]]]
    return any(
        fits(
            bins,
            (*state[:i], geometry.occupied(state[i], profile.id, placement), *state[i + 1 :]),
            wanted[1:],
        )
        for i in range(len(bins))
        for placement in geometry.legal(state[i], profile)
    )


@given(problems())
def test_a_request_is_placed_exactly_when_some_arrangement_exists(
    problem: tuple[list[Bin], list[str]],
) -> None:
    bins, wanted = problem

    choice = choose(bins, wanted)

    assert isinstance(choice, Choice) == fits(bins, tuple(b.occupancy for b in bins), wanted)


@given(problems())
def test_a_placed_request_is_legal_and_complete(problem: tuple[list[Bin], list[str]]) -> None:
    bins, wanted = problem
    choice = choose(bins, wanted)
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
