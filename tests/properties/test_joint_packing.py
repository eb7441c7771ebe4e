"""Joint plans of small clusters, judged by the checker and by brute force."""

from __future__ import annotations

import time

from hypothesis import given, settings

from extender.packing.check import score, violations
from extender.packing.problem import Problem, Spread
from extender.packing.solve import Outcome, Status, solve
from tests.properties.joint_packing import best, problems

ON_ONE_GPU_OR_ANY = (Spread.ANY, Spread.SAME)


def solved(problem: Problem, seconds: float = 20.0) -> Outcome:
    return solve(problem, seconds=seconds, clock=time.monotonic)


@settings(deadline=None)
@given(problems(spreads=ON_ONE_GPU_OR_ANY))
def test_a_joint_plan_equals_brute_force(problem: Problem) -> None:
    outcome = solved(problem)

    expected = best(problem)
    assert outcome.status is (Status.INFEASIBLE if expected is None else Status.OPTIMAL)
    if expected is not None:
        assert tuple(level.attained for level in outcome.levels) == expected
        assert list(violations(problem, outcome.solution)) == []
        assert score(problem, outcome.solution).levels == expected


@settings(deadline=None)
@given(problems(spreads=(Spread.DISTINCT,)))
def test_bounds_hold_and_optimal_is_true_where_vgpus_must_be_on_distinct_gpus(
    problem: Problem,
) -> None:
    outcome = solved(problem)

    expected = best(problem)
    match outcome.status:
        case Status.OPTIMAL:
            assert tuple(level.attained for level in outcome.levels) == expected
        case Status.FEASIBLE:
            assert expected is not None
            attained = tuple(level.attained for level in outcome.levels)
            assert attained <= expected
            for level, optimum in zip(outcome.levels, expected, strict=True):
                assert level.bound is not None
                assert level.bound >= optimum
                if level.attained < level.bound:
                    break
        case Status.INFEASIBLE:
            assert expected is None
    assert list(violations(problem, outcome.solution)) == [] or outcome.status in (
        Status.INFEASIBLE,
        Status.UNKNOWN,
    )
