"""Candidates that many pods have in common are kept once."""

from __future__ import annotations

import random
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from extender.service import candidates as module
from extender.service.candidates import KEPT, Candidates
from extender.service.pending import Pending
from extender.settings import Settings
from tests.builders import request

NAMES = [f"node-{at}" for at in range(9)]


@given(st.lists(st.sets(st.sampled_from(NAMES)), max_size=3 * KEPT), st.randoms())
def test_pods_get_the_nodes_they_came_with_and_the_same_set_for_the_same_nodes(
    asked: list[set[str]], chance: random.Random
) -> None:
    candidates = Candidates()
    for names in asked:
        came = [*names]
        chance.shuffle(came)

        found = candidates.set_of(came)

        assert found == names
        assert candidates.set_of(came[::-1]) is found


def test_sets_that_nobody_has_any_more_are_forgotten() -> None:
    candidates = Candidates()
    first = candidates.set_of(["of the first pod"])
    for at in range(KEPT):
        candidates.set_of([f"of another pod {at}"])

    assert candidates.set_of(["of the first pod"]) is not first


def test_a_set_that_is_known_to_be_all_nodes_is_kept_as_it_is() -> None:
    everything = frozenset(NAMES)

    assert Candidates().of(everything) is everything


@given(st.sets(st.sampled_from(NAMES), min_size=2), st.integers(0, len(NAMES)))
def test_a_sample_is_made_a_set_when_somebody_plans(names: set[str], sample: int) -> None:
    pending, came = Pending(Settings(), lambda: 0.0), sorted(names, reverse=True)
    with patch.object(module, "SAMPLE", sample):
        pending.filtered(request("1-10C"), came)
        waiting = pending.waiting["pod-1"]
        pending.filtered(request("1-10C"), came[::-1])
        again = pending.waiting["pod-1"]

    assert waiting.nodes == again.nodes == names
    assert (waiting.candidates == tuple(came)) is (len(names) <= sample)
    assert (waiting.candidates is again.candidates) is (len(names) > sample)


@given(st.lists(st.sets(st.sampled_from(NAMES)), min_size=1))
def test_nodes_of_several_filters_add_up_until_none_is_new(asked: list[set[str]]) -> None:
    pending, known = Pending(Settings(), lambda: 0.0), set[str]()
    for names in asked:
        new = pending.filtered_among_more(request("1-10C"), sorted(names))

        assert new is not (names <= known)
        known |= names
        assert pending.waiting["pod-1"].nodes == known


def test_nothing_is_kept_once_nobody_waits() -> None:
    pending = Pending(Settings(), lambda: 0.0)
    pending.filtered_among_more(request("1-10C"), NAMES)
    asked = pending.waiting["pod-1"].nodes
    pending.gone("pod-1")
    pending.filtered_among_more(request("1-10C"), NAMES)

    assert pending.waiting["pod-1"].nodes == asked
    assert pending.waiting["pod-1"].nodes is not asked
