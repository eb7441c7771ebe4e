"""Whether everything could be held if it might be moved: judged by trying everything."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.simulation.demand import Demand
from extender.simulation.experiment import repacked
from extender.simulation.repack import (
    EIGHT_SLICES,
    contents_when_full,
    eight_slices_hold,
    repack_test,
)
from extender.simulation.scenario import Scenario, stage
from tests.builders import H100

IDS = (0, 5, 9, 14, 15, 19)  # 7g, 4g, 3g, 2g, 1g with double memory, 1g


def one_gpu_holds() -> set[tuple[int, ...]]:
    """Every content of one GPU, by placing each instance at each start."""
    found: set[tuple[int, ...]] = {(0,) * 6}

    def fill(content: tuple[int, ...], mask: int, least: int) -> None:
        found.add(content)
        for kind in range(least, 6):
            for start in EIGHT_SLICES[kind].starts:
                window = ((1 << EIGHT_SLICES[kind].size) - 1) << start
                if not window & mask:
                    more = (*content[:kind], content[kind] + 1, *content[kind + 1 :])
                    fill(more, mask | window, kind)

    fill((0,) * 6, 0, 0)
    return found


ONE = one_gpu_holds()


def gpus_hold(gpus: int) -> set[tuple[int, ...]]:
    found: set[tuple[int, ...]] = {(0,) * 6}
    for _ in range(gpus):
        found = {tuple(map(sum, zip(a, b, strict=True))) for a in found for b in ONE}
    return found


@pytest.mark.parametrize("gpus", [1, 2, 3])
def test_the_closed_form_is_right_about_every_multiset(gpus: int) -> None:
    held = gpus_hold(gpus)
    most = [max(content[kind] for content in held) for kind in range(6)]

    for counts in itertools.product(*(range(limit + 2) for limit in most)):
        if sum(n * s.size for n, s in zip(counts, EIGHT_SLICES, strict=True)) > 8 * gpus + 1:
            continue  # beyond all slices; the rest is in question
        assert eight_slices_hold(gpus, *counts) == (counts in held), counts


def test_what_one_gpu_can_hold_leaves_out_what_is_less_than_another_content() -> None:
    contents = contents_when_full(H100.geometry, IDS)

    assert len(contents) == len(set(contents))
    assert set(contents) == {
        c for c in ONE if not any(c != d and all(map(int.__le__, c, d)) for d in ONE)
    }


@settings(max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=6, max_size=6), st.integers(1, 2))
def test_the_search_agrees_with_the_closed_form(counts: list[int], gpus: int) -> None:
    on = stage(Scenario(gpus=gpus))
    # Asking for the media extension too, of which there are none, takes the closed form away.
    names = [H100.geometry.by_id[profile_id].name for profile_id in (*IDS, 20)]
    wide = stage(Scenario(gpus=gpus, mix=",".join(f"{name}=1" for name in names)))
    closed, search = repack_test(on.fleet, on.kinds), repack_test(wide.fleet, wide.kinds)

    assert type(closed) is not type(search)
    by_name = dict(zip((k.name for k in on.kinds), counts, strict=True))
    assert closed(counts) == search([by_name.get(kind.name, 0) for kind in wide.kinds])


def test_several_models_hold_what_either_can() -> None:
    on = stage(Scenario(model="A30-24GB=1,H100-80GB=1"))
    fits = repack_test(on.fleet, on.kinds)
    number = {kind.name: at for at, kind in enumerate(on.kinds)}

    def held(**wanted: int) -> bool:
        counts = Counter({number[name.replace("_", "-")]: n for name, n in wanted.items()})
        return fits([counts[at] for at in range(len(on.kinds))])

    assert held(whole=2)
    assert not held(whole=3)
    assert held(whole=1, **{"3g": 2})  # the A30 whole, two 3g on the H100
    assert not held(whole=2, **{"1g": 1})


def test_repacking_admits_what_any_arrangement_holds() -> None:
    on = stage(Scenario(gpus=1))
    fits = repack_test(on.fleet, on.kinds)
    names = [kind.name for kind in on.kinds]
    small, half, whole = names.index("1g.10gb"), names.index("4g.40gb"), names.index("7g.80gb")

    # Wherever the 1g.10gb went, it can be moved out of the way of the 4g.40gb.
    demand = Demand([0.0, 1.0, 2.0, 12.0], [small, half, whole, whole], [10.0, 10.0, 1.0, 1.0])

    assert repacked(demand, fits, len(names)).tolist() == [True, True, False, True]
