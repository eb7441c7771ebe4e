"""The catalog is consistent with itself and with what is known of MIG's geometry."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from nodeagent.api.catalog import MODELS, Model
from nodeagent.api.catalog_sources import SOURCES, Certainty
from nodeagent.api.geometry import Geometry, Occupancy, Profile
from tests.builders import reachable

EIGHT_SLICES = [model for model in MODELS.values() if model.memory_slices == 8]

each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def without(geometry: Geometry, *names: str) -> Geometry:
    profiles = tuple(p for p in geometry.profiles if p.name not in names)
    return Geometry(geometry.memory_slices, geometry.compute_slices, profiles)


def instance_sets(
    geometry: Geometry, occupancy: Occupancy | None = None, from_slice: int = 0
) -> Iterator[tuple[Profile, ...]]:
    """Yield every legal set of placed instances once, each as its profiles from left to right."""
    now = geometry.empty if occupancy is None else occupancy
    yield ()
    for profile in geometry.profiles:
        for placement in geometry.legal(now, profile):
            if placement.start >= from_slice:
                then = geometry.occupied(now, profile.id, placement)
                for rest in instance_sets(geometry, then, placement.end):
                    yield (profile, *rest)


def test_these_models_are_known() -> None:
    assert list(MODELS) == [
        "A100-40GB",
        "A100-80GB",
        "A30-24GB",
        "H100-80GB",
        "H100-94GB",
        "H100-96GB",
        "H200-141GB",
        "B200-180GB",
        "RTX-PRO-6000-Blackwell-96GB",
    ]
    assert all(name == model.name for name, model in MODELS.items())


@each_model
def test_every_geometry_can_be_computed_with(model: Model) -> None:
    assert list(model.geometry.malformations()) == []
    assert len({profile.name for profile in model.geometry.profiles}) == len(model.rows)


@each_model
def test_every_row_says_where_it_comes_from(model: Model) -> None:
    for row in model.rows:
        for source in (row.source, row.placement_source):
            assert source.keys
            assert set(source.keys) <= set(SOURCES)
    for board in model.boards.values():
        assert set(board.source.keys) <= set(SOURCES)


def test_no_source_is_left_over() -> None:
    used = {"names"}
    for model in MODELS.values():
        used |= {key for row in model.rows for key in row.source.keys}
        used |= {key for row in model.rows for key in row.placement_source.keys}
        used |= {key for board in model.boards.values() for key in board.source.keys}
    assert used == set(SOURCES)


def test_what_was_never_seen_on_hardware_says_so() -> None:
    large = [row for row in MODELS["B200-180GB"].rows if row.profile.memory_mib is None]
    assert {row.profile.name for row in large} == {"3g.90gb", "4g.90gb", "7g.180gb"}
    assert {row.source.certainty for row in large} == {Certainty.DOCUMENTED}
    assert {r.placement_source.certainty for r in MODELS["H200-141GB"].rows} == {Certainty.INFERRED}


@each_model
def test_no_profile_may_have_more_instances_than_fit(model: Model) -> None:
    for profile in model.geometry.profiles:
        assert 1 <= profile.max_instances <= profile.fits_at_once


@each_model
def test_only_profiles_with_all_media_engines_are_limited_by_count(model: Model) -> None:
    for profile in model.geometry.profiles:
        media = profile.name.endswith(("+me", "+me.all"))
        assert profile.limited == media
        assert (profile.max_instances == 1) == (media or profile.fits_at_once == 1)


@each_model
def test_a_profile_s_name_tells_its_compute_slices(model: Model) -> None:
    for profile in model.geometry.profiles:
        assert profile.name.startswith(f"{profile.compute_slices}g.")


@each_model
def test_memory_grows_with_the_slices(model: Model) -> None:
    known = [p for p in model.geometry.profiles if p.memory_mib is not None]
    for one in known:
        for other in known:
            assert (one.size < other.size) == ((one.memory_mib or 0) < (other.memory_mib or 0))


def test_the_eight_slice_models_differ_in_names_and_memory_alone() -> None:
    def shape(model: Model) -> list[tuple[object, ...]]:
        return [
            (p.id, p.compute_slices, p.size, p.starts, p.max_instances)
            for p in model.geometry.profiles
        ]

    assert len(EIGHT_SLICES) == 7
    assert all(shape(model) == shape(EIGHT_SLICES[0]) for model in EIGHT_SLICES)


# Enumerated independently of this code; 298 sets contain NVIDIA's well-known 19 maximal ones.
@pytest.mark.parametrize(
    ("left_out", "sets", "masks"),
    [
        (("1g.10gb+me",), 723, 192),
        (("1g.10gb+me", "1g.20gb"), 298, 144),
    ],
)
def test_the_instance_sets_of_an_a100_are_as_many_as_is_known(
    left_out: tuple[str, ...], sets: int, masks: int
) -> None:
    geometry = without(MODELS["A100-80GB"].geometry, *left_out)
    assert sum(1 for _ in instance_sets(geometry)) == sets
    assert len({occupancy.mask for occupancy in reachable(geometry)}) == masks


def test_a_limited_profile_doubles_states_at_most() -> None:
    states = reachable(MODELS["A100-80GB"].geometry)
    assert len({occupancy.mask for occupancy in states}) == 192
    assert 192 < len(states) <= 2 * 192


@each_model
def test_legal_placements_never_exceed_the_compute_slices(model: Model) -> None:
    used = {sum(p.compute_slices for p in found) for found in instance_sets(model.geometry)}
    assert max(used) == model.compute_slices


@each_model
def test_every_vgpu_type_has_its_profile(model: Model) -> None:
    for board in model.boards.values():
        for vgpu in board.types:
            profile = model.geometry.by_id[vgpu.profile_id]
            parts = re.fullmatch(r"NVIDIA .*[A-Z0-9]+-(\d)-(\d+)([ABCQ])(ME)?", vgpu.name)
            assert parts is not None, vgpu
            assert int(parts[1]) == profile.compute_slices, vgpu
            assert bool(parts[4]) == profile.name.endswith("+me"), vgpu
            assert f".{int(parts[2]) * vgpu.max_per_instance}gb" in profile.name, vgpu


def test_several_vgpus_share_an_instance_on_the_rtx_pro_alone() -> None:
    sharing = {
        model.name
        for model in MODELS.values()
        for board in model.boards.values()
        for vgpu in board.types
        if vgpu.max_per_instance > 1
    }
    assert sharing == {"RTX-PRO-6000-Blackwell-96GB"}


def test_vgpu_types_are_unique_and_as_many_as_published() -> None:
    names = [v.name for m in MODELS.values() for b in m.boards.values() for v in b.types]
    assert len(names) == len(set(names)) == 174


def test_a_simulated_gpu_is_the_usual_board() -> None:
    assert [vgpu.name for vgpu in MODELS["H100-80GB"].vgpu_types] == [
        "NVIDIA H100XM-7-80C",
        "NVIDIA H100XM-4-40C",
        "NVIDIA H100XM-3-40C",
        "NVIDIA H100XM-2-20C",
        "NVIDIA H100XM-1-20C",
        "NVIDIA H100XM-1-10C",
        "NVIDIA H100XM-1-10CME",
    ]
    assert MODELS["B200-180GB"].vgpu_types == ()


def test_a_gpu_s_name_belongs_to_one_model() -> None:
    names = [name for model in MODELS.values() for name in model.nvml_names]
    assert len(names) == len(set(names))
    assert all(name.startswith("NVIDIA ") for name in names)
