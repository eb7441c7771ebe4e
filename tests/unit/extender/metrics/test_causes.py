"""Capacity or fragmentation: against a search of all ways to lay everything out anew."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.metrics import Cause, cause
from extender.metrics.causes import MOST_SEARCHED
from extender.packing.choose import Infeasible, choose
from extender.snapshot import NodeView
from nodeagent.api import resources
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Occupancy
from nodeagent.api.gpunode import Instance, Mode
from tests.builders import VGPU, gpu, gpu_node, instance, view

MODEL_NAMES = ("A30-24GB", "H100-80GB")


def node(model: str, layouts: Sequence[Sequence[tuple[int, int]]]) -> NodeView:
    """A node whose GPUs hold instances, each given by its profile and start."""
    gpus = [
        gpu(
            index,
            model=model,
            instances=tuple(
                instance(profile, start, model=model, gi_id=at)
                for at, (profile, start) in enumerate(layout)
            ),
        )
        for index, layout in enumerate(layouts)
    ]
    return view(gpu_node(model=model, gpus=gpus, mode=Mode.CONTAINER))


@functools.cache
def can_hold(geometry: Geometry, states: tuple[Occupancy, ...], profiles: tuple[int, ...]) -> bool:
    """Tell by search whether GPUs hold instances of all these profiles, one after the other."""
    if not profiles:
        return True
    first, *rest = profiles
    return any(
        can_hold(geometry, tuple(sorted((*states[:at], after, *states[at + 1 :]))), tuple(rest))
        for at, state in enumerate(states)
        for placement in geometry.legal(state, geometry.by_id[first])
        for after in [geometry.occupied(state, first, placement)]
    )


@st.composite
def layouts(draw: st.DrawFn, geometry: Geometry) -> list[list[tuple[int, int]]]:
    found = []
    for _ in range(draw(st.integers(1, 2))):
        state, layout = geometry.empty, []
        for _ in range(draw(st.integers(0, 4))):
            ways = [
                (profile.id, placement)
                for profile in geometry.profiles
                for placement in geometry.legal(state, profile)
            ]
            if ways:
                profile_id, placement = draw(st.sampled_from(ways))
                layout.append((profile_id, placement.start))
                state = geometry.occupied(state, profile_id, placement)
        found.append(layout)
    return found


@given(st.sampled_from(MODEL_NAMES), st.data())
def test_it_is_fragmentation_exactly_if_everything_could_be_laid_out_anew(
    model: str, data: st.DataObject
) -> None:
    geometry = MODELS[model].geometry
    laid_out = data.draw(layouts(geometry))
    there = node(model, laid_out)
    served = resources.served(Mode.CONTAINER, geometry, ())
    resource, profile_id = data.draw(st.sampled_from(sorted(served.items())))
    if not isinstance(choose(there.bins(), (resource,)), Infeasible):
        return
    held = [profile for layout in laid_out for profile, _ in layout]
    sizes = sorted((*held, profile_id), key=lambda id: -geometry.by_id[id].size)

    holds = can_hold(geometry, (geometry.empty,) * len(laid_out), tuple(sizes))

    expected = Cause.FRAGMENTATION if holds else Cause.CAPACITY
    assert cause([there], (resource,)) is expected


def test_gpus_that_lack_more_than_room_do_not_count() -> None:
    badly = [(19, 0), (19, 4)]
    there = view(gpu_node(gpus=[gpu(instances=tuple(instance(*each) for each in badly))]))
    wanted = (VGPU + "4-40C",)
    assert cause([there], wanted) is Cause.FRAGMENTATION

    cordoned = view(there.node, cordoned=True)

    assert cause([cordoned], wanted) is Cause.CAPACITY


def test_what_would_take_long_is_said_to_be_unknown() -> None:
    small = node("A30-24GB", [[(5, 0)]] * 2)  # half of each; an A30's profiles have no closed form
    few = [small]
    many = [small] * (MOST_SEARCHED // 2 + 1)

    assert cause(few, ("nvidia.com/mig-4g.24gb",)) is Cause.FRAGMENTATION
    assert cause(many, ("nvidia.com/mig-4g.24gb",)) is Cause.UNKNOWN
    full = [node("A30-24GB", [[(5, 0), (5, 2)]])] * MOST_SEARCHED
    assert cause(full, ("nvidia.com/mig-4g.24gb",)) is Cause.CAPACITY, "slices alone tell"


@pytest.mark.parametrize("reported", [True, False])
def test_an_instance_of_a_profile_that_is_no_more_is_not_guessed_about(reported: bool) -> None:
    strange = Instance(1, 14 if reported else 77, 2, 2)
    there = view(gpu_node(gpus=[gpu(instances=(strange,)), gpu(1, instances=(strange,))]))

    found = cause([there], (VGPU + "7-80C",))

    assert found is (Cause.FRAGMENTATION if reported else Cause.UNKNOWN)
