"""The smallest size of each benchmark runs here, so that none of them rots."""

from __future__ import annotations

import pytest

from benchmarks import decisions, joint
from benchmarks.demands import DEMANDS
from extender.packing.problem import Spread


def test_decisions_are_measured_beside_their_floor() -> None:
    row = decisions.measure(4, rounds=2, seed=1)

    assert row["nodes"] == 4
    assert row.keys() >= {"floor_ms", "filter_ms", "filter_to_floor", "prioritize_ms"}
    assert all(value > 0 for value in row.values())


@pytest.mark.parametrize("demand", DEMANDS)
def test_a_joint_plan_admits_no_less_than_one_by_one_and_no_more_than_its_bound(
    demand: str,
) -> None:
    row = joint.burst(demand, fill=0.7, count=10, seed=3)

    assert row["joint"]["admitted"] >= row["arrival"]["admitted"]
    assert row["joint"]["admitted"] >= row["largest"]["admitted"]
    assert row["joint"]["admitted"][0] <= row["bounds"][0]


def test_a_plan_of_a_small_fleet_is_timed_and_proven() -> None:
    row = joint.size(400, 50, repetitions=1, seed=1)

    assert row["status"] == "optimal"
    assert row["classes"] <= row["states"]
    assert row["least_s"] > 0


def test_restricted_requests_with_several_vgpus_on_a_gpu_are_planned_to_proven_optimality() -> None:
    row = joint.restricted(400, 40, spreads=(Spread.SAME,), repetitions=1, seed=1)

    assert row["status"] == "optimal"
    assert row["gangs"] > 0
    assert row["with_several_vgpus"] > 0


def test_the_report_has_a_table_for_each_kind_of_burst() -> None:
    bursts = [joint.burst(demand, fill=0.5, count=5, seed=1) for demand in DEMANDS]

    text = joint.report(bursts, [joint.size(400, 5, repetitions=1, seed=1)], [])

    assert all(f"## Bursts: {demand}" in text for demand in DEMANDS)
