"""The mix as it was observed: counts fade, nothing becomes impossible."""

from __future__ import annotations

import pytest

from extender.policy import Shares
from extender.policy.observed import EXPECTED_REQUESTS, ObservedMix, distance


def test_a_request_counts_half_after_its_half_life() -> None:
    mix = ObservedMix(half_life=60.0).after("1g", now=0.0)

    assert mix.weight(now=0.0) == 1.0
    assert mix.weight(now=60.0) == pytest.approx(0.5)
    assert mix.after("1g", now=120.0).weight(now=120.0) == pytest.approx(1.25)


def test_shares_follow_recent_requests() -> None:
    mix = ObservedMix(half_life=10.0)
    for second in range(100):
        mix = mix.after("7g" if second < 50 else "1g", now=float(second))

    shares = dict(mix.shares(("7g", "1g")))

    assert shares["1g"] > 0.85
    assert sum(shares.values()) == pytest.approx(1.0)


def test_what_was_never_asked_for_is_not_impossible() -> None:
    mix = ObservedMix(half_life=10.0).after("1g", now=0.0)

    assert dict(mix.shares(("7g", "1g"))) == pytest.approx({"7g": 1 / 3, "1g": 2 / 3})


def test_a_request_that_is_reported_late_does_not_turn_time_back() -> None:
    mix = ObservedMix(half_life=10.0).after("1g", now=100.0).after("1g", now=50.0)

    assert (mix.at, mix.weight(now=100.0)) == (100.0, 2.0)


def test_what_is_expected_is_outweighed_by_what_is_observed() -> None:
    mix, expected = ObservedMix(half_life=1e9), {"7g": 3.0, "1g": 1.0, "unknown": 9.0}

    assert dict(mix.shares(("7g", "1g"), expected)) == {"7g": 0.75, "1g": 0.25}
    for _ in range(round(EXPECTED_REQUESTS)):
        mix = mix.after("1g", now=0.0)
    assert dict(mix.shares(("7g", "1g"), expected)) == pytest.approx({"7g": 0.375, "1g": 0.625})
    assert mix.shares(("7g", "1g"), {"unknown": 9.0}) == mix.shares(("7g", "1g"))


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ((("7g", 0.5), ("1g", 0.5)), (("1g", 0.5), ("7g", 0.5)), 0.0),
        ((("7g", 0.5), ("1g", 0.5)), (("7g", 0.4), ("1g", 0.6)), 0.1),
        ((("7g", 1.0),), (("1g", 1.0),), 1.0),
    ],
)
def test_mixes_are_apart_by_the_requests_that_would_have_to_be_others(
    one: Shares, other: Shares, apart: float
) -> None:
    assert distance(one, other) == distance(other, one) == pytest.approx(apart)
