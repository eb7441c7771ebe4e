"""Whatever is on a GPU and whatever is planned: the promises of ``nodeagent.reconcile``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry
from nodeagent.ownership import Observed
from nodeagent.reconcile import (
    Blocked,
    Create,
    Destroy,
    Impossible,
    Step,
    Waiting,
    Wanted,
    steps,
)
from tests.unit.nodeagent.builders import DEVICE

Desired = Mapping[str, Wanted]

GEOMETRIES = st.sampled_from([model.geometry for model in MODELS.values()])
IDS = "abcdefgh"


def wanted(geometry: Geometry) -> st.SearchStrategy[Wanted]:
    every = [Wanted(p.id, place) for p in geometry.profiles for place in p.placements]
    return st.sampled_from(every)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Sequence[Observed], Desired]:
    """Draw a layout, partly ours and partly held, and any plan, even a contradictory one."""
    geometry = draw(GEOMETRIES)
    observed: list[Observed] = []
    owners = draw(st.permutations([*IDS, *[""] * 8]))
    for place, owner in zip(draw(st.lists(wanted(geometry), max_size=8)), owners, strict=False):
        if not any(o.placement.mask & place.placement.mask for o in observed):
            held = draw(st.sampled_from(["", "", "in use"]))
            gi_id = len(observed)
            device = draw(st.sampled_from([DEVICE, DEVICE, None]))
            observed.append(
                Observed(
                    gi_id,
                    place.profile_id,
                    place.placement,
                    owner,
                    held,
                    device,
                    vacant=device is None and draw(st.booleans()),
                )
            )
    desired = draw(st.dictionaries(st.sampled_from(IDS), wanted(geometry)))
    for each in observed:
        if each.assignment and draw(st.booleans()):
            desired[each.assignment] = Wanted(each.profile_id, each.placement)
    return observed, desired


def after(observed: Sequence[Observed], step: Step) -> Sequence[Observed]:
    match step:
        case Destroy(gi_id=gi_id):
            return [each for each in observed if each.gi_id != gi_id]
        case Create(assignment=assignment, profile_id=profile_id, placement=placement):
            gi_id = 1 + max((each.gi_id for each in observed), default=0)
            return [*observed, Observed(gi_id, profile_id, placement, assignment, device=DEVICE)]
        case Blocked() | Waiting() | Impossible():
            return observed
        case _:
            assert_never(step)


def finish(observed: Sequence[Observed], desired: Desired) -> Sequence[Observed]:
    for step in list(steps(observed, desired)):
        observed = after(observed, step)
    return observed


def content(observed: Sequence[Observed]) -> set[tuple[str, Wanted]]:
    return {(each.assignment, Wanted(each.profile_id, each.placement)) for each in observed}


@given(situations())
def test_only_our_idle_and_unwanted_instances_are_destroyed(
    situation: tuple[Sequence[Observed], Desired],
) -> None:
    observed, desired = situation
    by_id = {each.gi_id: each for each in observed}
    for step in steps(observed, desired):
        if isinstance(step, Destroy):
            victim = by_id[step.gi_id]
            assert victim.assignment
            assert not victim.held
            is_as = Wanted(victim.profile_id, victim.placement)
            assert desired.get(victim.assignment) != is_as or victim.device is None


@given(situations())
def test_nothing_is_created_upon_anything(
    situation: tuple[Sequence[Observed], Desired],
) -> None:
    observed, desired = situation
    for step in list(steps(observed, desired)):
        if isinstance(step, Create):
            assert not any(step.placement.mask & each.placement.mask for each in observed)
        observed = after(observed, step)


@given(situations())
def test_at_every_creation_no_other_instance_of_the_profile_is_free_to_take_its_vgpu(
    situation: tuple[Sequence[Observed], Desired],
) -> None:
    observed, desired = situation
    for step in list(steps(observed, desired)):
        if isinstance(step, Create):
            assert not any(it.vacant and it.profile_id == step.profile_id for it in observed)
        observed = after(observed, step)


@given(situations(), st.sampled_from(IDS))
def test_what_is_barred_is_never_created_and_what_exists_stays(
    situation: tuple[Sequence[Observed], Desired], barred: str
) -> None:
    observed, desired = situation
    other = {
        id: msgspec.structs.replace(want, barred="a rival") if id == barred else want
        for id, want in desired.items()
    }
    for step in steps(observed, other):
        assert not isinstance(step, Create) or step.assignment != barred
    destroyed = {s.gi_id for s in steps(observed, desired) if isinstance(s, Destroy)}
    assert destroyed == {s.gi_id for s in steps(observed, other) if isinstance(s, Destroy)}


@given(situations())
def test_stopping_after_any_step_and_starting_again_ends_at_the_same_place(
    situation: tuple[Sequence[Observed], Desired],
) -> None:
    observed, desired = situation
    end = content(finish(observed, desired))
    for step in [None, *steps(observed, desired)]:
        observed = observed if step is None else after(observed, step)
        assert content(finish(observed, desired)) == end


@given(situations())
def test_it_ends_at_the_plan_where_nothing_foreign_or_held_is_in_the_way(
    situation: tuple[Sequence[Observed], Desired],
) -> None:
    observed, desired = situation
    end = finish(observed, desired)
    ours = {(owner, place) for owner, place in content(end) if owner in desired}
    excused = {
        step.assignment for step in steps(end, desired) if isinstance(step, Waiting | Impossible)
    }

    assert {owner for owner, _ in ours} >= desired.keys() - excused
    assert all(isinstance(s, Blocked | Waiting | Impossible) for s in steps(end, desired))


@given(situations())
def test_once_everything_is_released_nothing_of_ours_is_left_that_is_not_planned(
    situation: tuple[Sequence[Observed], Desired],
) -> None:
    observed, desired = situation
    released = [
        Observed(each.gi_id, each.profile_id, each.placement, each.assignment, "", each.device)
        for each in finish(observed, desired)
    ]
    for owner, place in content(finish(released, desired)):
        assert not owner or desired.get(owner) == place
