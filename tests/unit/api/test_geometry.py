"""Legality and occupancy, whatever the GPU."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Occupancy, Placement, Profile

A100 = MODELS["A100-80GB"].geometry
A100_40 = MODELS["A100-40GB"].geometry
ONE_GPU_INSTANCE_WITH_MEDIA, ONE, THREE, SEVEN = 20, 19, 9, 0


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Draw a known geometry, or one that no GPU has."""
    if draw(st.booleans()):
        return MODELS[draw(st.sampled_from(sorted(MODELS)))].geometry
    slices = draw(st.integers(1, 16))
    profiles = []
    for id_ in range(draw(st.integers(1, 5))):
        size = draw(st.integers(1, slices))
        starts = draw(st.lists(st.integers(0, slices - size), min_size=1, unique=True))
        most = draw(st.integers(1, 4))
        profiles.append(Profile(id_, f"{size}g.{id_}gb", 1, size, tuple(starts), most))
    return Geometry(slices, slices, tuple(profiles))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Geometry, list[tuple[Profile, Placement]]]:
    """Draw a geometry and instances created on an empty GPU in turn, each where it was legal."""
    geometry = draw(geometries())
    now, made = geometry.empty, []
    for profile in draw(st.lists(st.sampled_from(geometry.profiles), max_size=20)):
        legal = list(geometry.legal(now, profile))
        if legal:
            placement = draw(st.sampled_from(legal))
            now = geometry.occupied(now, profile.id, placement)
            made.append((profile, placement))
    return geometry, made


def after(geometry: Geometry, made: list[tuple[Profile, Placement]]) -> Occupancy:
    now = geometry.empty
    for profile, placement in made:
        now = geometry.occupied(now, profile.id, placement)
    return now


@given(histories())
def test_legal_instances_never_overlap(
    history: tuple[Geometry, list[tuple[Profile, Placement]]],
) -> None:
    geometry, made = history
    covered = [s for _, placement in made for s in range(placement.start, placement.end)]
    assert len(covered) == len(set(covered))
    assert sum(1 << s for s in covered) == after(geometry, made).mask
    assert all(0 <= s < geometry.memory_slices for s in covered)


@given(histories())
def test_no_profile_ever_exceeds_its_number(
    history: tuple[Geometry, list[tuple[Profile, Placement]]],
) -> None:
    geometry, made = history
    counts = Counter(profile.id for profile, _ in made)
    assert all(counts[profile.id] <= profile.max_instances for profile in geometry.profiles)
    assert after(geometry, made).counts == tuple(counts[id_] for id_ in geometry.limited)


@given(histories())
def test_legal_is_what_is_free_and_within_the_number(
    history: tuple[Geometry, list[tuple[Profile, Placement]]],
) -> None:
    geometry, made = history
    now, counts = after(geometry, made), Counter(profile.id for profile, _ in made)
    for profile in geometry.profiles:
        free = [
            placement
            for placement in profile.placements
            if all(
                placement.end <= other.start or other.end <= placement.start for _, other in made
            )
        ]
        expected = free if counts[profile.id] < profile.max_instances else []
        assert list(geometry.legal(now, profile)) == expected


@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_creation_leaves_no_trace(
    history: tuple[Geometry, list[tuple[Profile, Placement]]], random: Random
) -> None:
    geometry, made = history
    shuffled = random.sample(made, len(made))
    assert after(geometry, shuffled) == after(geometry, made)


def test_legal_placements_come_in_the_driver_s_order() -> None:
    profile = Profile(1, "1g.5gb", 1, 2, (4, 0, 2), 3)
    geometry = Geometry(8, 7, (profile,))
    assert [p.start for p in geometry.legal(geometry.empty, profile)] == [4, 0, 2]


def test_a_limited_profile_is_illegal_anywhere_once_its_number_is_reached() -> None:
    profile = A100.by_id[ONE_GPU_INSTANCE_WITH_MEDIA]
    one = A100.occupied(A100.empty, profile.id, Placement(3, 1))
    assert one == Occupancy(0b1000, (1,))
    assert list(A100.legal(one, profile)) == []
    assert len(list(A100.legal(one, A100.by_id[ONE]))) == 6


def test_what_exists_is_taken_even_where_it_is_illegal() -> None:
    twice = A100.empty
    for start in (0, 0, 7):
        twice = A100.occupied(twice, ONE_GPU_INSTANCE_WITH_MEDIA, Placement(start, 1))
    assert twice == Occupancy(0b1000_0001, (3,))


def test_an_unknown_profile_takes_its_slices() -> None:
    taken = A100.occupied(A100.empty, 99, Placement(0, 4))
    assert taken == Occupancy(0b1111, (0,))
    assert [p.start for p in A100.legal(taken, A100.by_id[THREE])] == [4]
    assert list(A100.legal(taken, A100.by_id[SEVEN])) == []


def test_slice_0_is_the_lowest_bit() -> None:
    assert Placement(0, 1).mask == 1
    assert Placement(4, 4).mask == 0b1111_0000
    assert A100.full_mask == 0xFF


@pytest.mark.parametrize(
    ("starts", "size", "count"),
    [((0, 1, 2), 1, 3), ((0, 2, 4, 6), 2, 4), ((0, 1, 2), 2, 2), ((3, 0), 4, 1), ((0,), 8, 1)],
)
def test_fits_at_once_counts_what_an_empty_gpu_holds(
    starts: tuple[int, ...], size: int, count: int
) -> None:
    assert Profile(1, "x", 1, size, starts, 9).fits_at_once == count


def test_only_equal_geometries_share_a_hash() -> None:
    again = msgspec.json.decode(msgspec.json.encode(A100), type=Geometry)
    assert again.hash == A100.hash
    assert len({model.geometry.hash for model in MODELS.values()}) == len(MODELS)


@pytest.mark.parametrize(
    ("geometry", "complaint"),
    [
        (Geometry(0, 7, ()), "memorySlices 0 is not in 1..16"),
        (Geometry(17, 7, ()), "memorySlices 17 is not in 1..16"),
        (Geometry(8, 7, (Profile(1, "a", 1, 1, (0,), 1),) * 2), "two profiles share an id"),
        (Geometry(8, 7, (Profile(1, "a", 1, 1, (), 1),)), "profile 1 has no placement"),
        (Geometry(8, 7, (Profile(1, "a", 1, 0, (0,), 1),)), "profile 1 has no placement"),
        (Geometry(8, 7, (Profile(1, "a", 1, 4, (6,), 1),)), "profile 1 reaches beyond slice 7"),
        (Geometry(8, 7, (Profile(1, "a", 1, 1, (-1,), 1),)), "profile 1 reaches beyond slice 7"),
    ],
)
def test_a_geometry_that_cannot_be_computed_with_says_why(
    geometry: Geometry, complaint: str
) -> None:
    assert list(geometry.malformations()) == [complaint]


def test_the_same_name_is_another_profile_on_another_gpu() -> None:
    small = next(p for p in A100_40.profiles if p.name == "1g.10gb")
    large = next(p for p in A100.profiles if p.name == "1g.10gb")
    assert (small.id, small.size) == (15, 2)
    assert (large.id, large.size) == (19, 1)
