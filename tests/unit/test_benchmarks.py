"""The smallest size of each benchmark runs here, so that none of them rots."""

from __future__ import annotations

from benchmarks import decisions


def test_decisions_are_measured_beside_their_floor() -> None:
    row = decisions.measure(4, rounds=2, seed=1)

    assert row["nodes"] == 4
    assert row.keys() >= {"floor_ms", "filter_ms", "filter_to_floor", "prioritize_ms"}
    assert all(value > 0 for value in row.values())
