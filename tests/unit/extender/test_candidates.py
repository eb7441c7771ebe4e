"""Candidates that many pods have in common are kept once."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

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

        found = candidates.of(came)

        assert found == names
        assert candidates.of(came[::-1]) is found


def test_sets_that_nobody_has_any_more_are_forgotten() -> None:
    candidates = Candidates()
    first = candidates.of(["of the first pod"])
    for at in range(KEPT):
        candidates.of([f"of another pod {at}"])

    assert candidates.of(["of the first pod"]) is not first


def test_a_set_that_is_known_to_be_all_nodes_is_kept_as_it_is() -> None:
    everything = frozenset(NAMES)

    assert Candidates().of(everything) is everything


def test_nothing_is_kept_once_nobody_waits() -> None:
    pending = Pending(Settings(), lambda: 0.0)
    pending.filtered(request("1-10C"), NAMES)
    asked = pending.waiting["pod-1"].nodes
    pending.gone("pod-1")
    pending.filtered(request("1-10C"), NAMES)

    assert pending.waiting["pod-1"].nodes == asked
    assert pending.waiting["pod-1"].nodes is not asked
