"""The mix as it was observed: counts fade, nothing becomes impossible."""

from __future__ import annotations

import pytest

from extender.policy.observed import ObservedMix


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
