"""How a demand grows, and when it is more than there is: an interval that means what it says."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from extender.simulation.growth import HORIZON, growth, increments, run_out
from extender.simulation.history import History


def history(*wanted: int, first: int = 100) -> History:
    found = History()
    for at, count in enumerate(wanted):
        found = found.noted(first + at, {"1g": count})
    return found


def test_the_day_that_is_not_over_is_left_out() -> None:
    assert increments(history(1, 3, 4, 99), ["1g"]).tolist() == [[2.0], [1.0]]


def test_days_without_a_count_have_their_equal_part() -> None:
    gap = history(1, 3).noted(104, {"1g": 9}).noted(105, {})

    assert increments(gap, ["1g"]).tolist() == [[2.0], [2.0], [2.0], [2.0]]


@pytest.mark.parametrize("counts", [(), (5,), (5, 6)])
def test_of_less_than_two_whole_days_nothing_is_known(counts: tuple[int, ...]) -> None:
    assert increments(history(*counts), ["1g", "7g"]).shape == (0, 2)


def test_growth_is_told_in_slices_with_an_interval_about_its_mean() -> None:
    steps = np.array([[1.0, 0.0], [3.0, 1.0], [-1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])

    found = growth(steps, [1, 8])

    assert found.median == pytest.approx(1.0 + 8 / 3)
    assert found.low is not None
    assert found.median is not None
    assert found.high is not None
    assert found.low < found.median < found.high


def test_what_does_not_fit_now_has_run_out() -> None:
    found = run_out([5], np.ones((7, 1)), lambda counts: counts[0] < 5)

    assert (found.periods.median, found.within_horizon) == (0.0, 1.0)


def test_a_demand_that_shrinks_does_not_run_out() -> None:
    found = run_out([5], -np.ones((7, 1)), lambda counts: counts[0] <= 5)

    assert found.within_horizon == 0.0
    assert found.periods.median is found.periods.low is found.periods.high is None


def test_the_first_day_is_found_whatever_fits_together() -> None:
    """Of one kind it is up, of the other down: the peaks of both would not fit long before."""
    steps = np.array([[1.0, -1.0]] * 7)

    found = run_out([0, 20], steps, lambda counts: counts[0] + counts[1] <= 20 and counts[0] <= 30)

    assert found.periods.median == 21.0  # the second has gone, and the first goes on


def test_the_same_history_has_the_same_answer() -> None:
    steps = np.array([[3.0], [0.0], [1.0], [-2.0], [4.0], [1.0], [0.0]])

    assert run_out([3], steps, lambda c: c[0] <= 60) == run_out([3], steps, lambda c: c[0] <= 60)


def test_of_many_demands_the_interval_holds_the_day_for_nearly_all() -> None:
    """Three weeks seen of a demand that goes on as it was: it runs out within the interval."""
    chance, held, room = random.Random(7), 0, 120
    trials = 20
    for _ in range(trials):
        level, seen = 20, [20]
        for _ in range(22):
            level += _step(chance)
            seen.append(max(0, level))
        steps = increments(history(*seen), ["1g"])
        now = seen[-1]
        found = run_out([now], steps, lambda counts: counts[0] <= room)
        level, day = now, 0
        while level <= room and day < HORIZON:
            level, day = level + _step(chance), day + 1
        low, high = found.periods.low, found.periods.high
        held += (low or math.inf) <= day <= (high or math.inf)

    assert held >= 0.8 * trials  # three weeks are few: it is a little below 95 %


def _step(chance: random.Random) -> int:
    """What a day brings: one more on average, give or take three."""
    return chance.randint(-2, 4)
