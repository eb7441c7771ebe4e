"""What a node's slices are worth: against a search of all that would fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extender.metrics.capacity import capacity
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Occupancy, Profile
from nodeagent.api.gpunode import Instance, Layout, OwnerRef
from tests.builders import assignment, gpu, gpu_node, instance, reachable, view

NAMES = tuple(name for name, model in MODELS.items() if model.geometry.memory_slices <= 8)


def most_that_fit(geometry: Geometry, state: Occupancy, profile: Profile) -> int:
    """The most instances of *profile* that can be created one after the other, by search."""
    return max(
        (
            1 + most_that_fit(geometry, geometry.occupied(state, profile.id, placement), profile)
            for placement in geometry.legal(state, profile)
        ),
        default=0,
    )


def coverable(geometry: Geometry, state: Occupancy, profile: Profile) -> int:
    """How many free slices some placement of *profile* would take, whatever its counter says."""
    free = [p for p in profile.placements if not p.mask & state.mask]
    return sum(any(p.mask >> slot & 1 for p in free) for slot in range(geometry.memory_slices))


@given(st.sampled_from(NAMES), st.data())
def test_what_is_left_and_what_is_unusable_are_what_a_search_finds(
    name: str, data: st.DataObject
) -> None:
    geometry = MODELS[name].geometry
    state = data.draw(st.sampled_from(sorted(reachable(geometry))))
    made = data.draw(st.permutations(_instances(geometry, state)))
    found = capacity(view(gpu_node(model=name, gpus=[gpu(model=name, instances=tuple(made))])))

    held = geometry.empty
    for each in made:
        held = geometry.occupied(held, each.profile_id, each.placement)
    free = geometry.memory_slices - held.mask.bit_count()
    assert found.slices == {(name, "used"): held.mask.bit_count(), (name, "free"): free}
    for profile in geometry.profiles:
        assert found.left[name, profile.name] == most_that_fit(geometry, held, profile)
        unusable = free - coverable(geometry, held, profile)
        assert found.unusable[name, profile.name] == unusable


def _instances(geometry: Geometry, state: Occupancy) -> list[Instance]:
    """Instances that bring a GPU to near *state*: the smallest that lie in it."""
    smallest = min(geometry.profiles, key=lambda profile: profile.size)
    return [
        instance(smallest.id, p.start, model=_model(geometry), gi_id=p.start)
        for p in smallest.placements
        if p.mask & state.mask == p.mask
    ]


def _model(geometry: Geometry) -> str:
    return next(name for name, each in MODELS.items() if each.geometry == geometry)


def test_a_gpu_counts_under_the_first_thing_that_keeps_instances_off_it() -> None:
    gpus = [
        gpu(0),
        gpu(1, unhealthy="XID 79"),
        gpu(2, mig_enabled=False),
        gpu(3, layout=Layout.STATIC),
        gpu(4, layout=Layout.UNMANAGED),
        gpu(5, geometry="not reported"),
    ]

    found = capacity(view(gpu_node(gpus=gpus)))

    states = ("usable", "unhealthy", "mig-disabled", "static", "unmanaged", "unreadable")
    assert found.gpus == {("H100-80GB", state): 1 for state in states}
    assert found.slices["H100-80GB", "free"] == 8


def test_promises_use_slices_and_belong_to_a_namespace_before_their_instances_exist() -> None:
    owner = OwnerRef("VirtualMachineInstance", "team-b", "vm")
    plan = [
        assignment("a", 9, 4),
        assignment("held", 19, 0, pod=None, owner=owner),
    ]

    found = capacity(view(gpu_node(plan=plan)))

    assert found.slices["H100-80GB", "used"] == 5
    assert found.slices_held == {("default", "3g.40gb"): 4, ("team-b", "1g.10gb"): 1}
    assert found.held == {("default", "3g.40gb"): 1, ("team-b", "1g.10gb"): 1}


def test_nothing_is_left_where_nothing_new_is_placed_but_slices_are_there() -> None:
    found = capacity(view(gpu_node(), stale=True))

    assert found.slices["H100-80GB", "free"] == 8
    assert set(found.left.values()) == {0}
    assert not found.sizes
