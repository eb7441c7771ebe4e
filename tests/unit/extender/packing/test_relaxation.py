"""Bounds from the linear relaxation, of programs that grow and of VMs that need several GPUs."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.demands import pooled
from benchmarks.fleets import grown
from extender.packing.check import score, violations
from extender.packing.classes import condense
from extender.packing.expand import expand
from extender.packing.hosted import solve_hosted
from extender.packing.levels import solve_levels
from extender.packing.problem import Problem
from extender.packing.program import Level, Program
from extender.packing.relaxation import Bound, Relaxation
from extender.packing.search import search
from extender.packing.seats import named
from extender.packing.spread import Spread
from tests.unit.extender.packing.problems import problem, request


def bound(relaxation: Relaxation, level: Level) -> Bound:
    found = relaxation.bound(level, seconds=10.0)
    assert found is not None
    return found


def test_a_bound_follows_what_the_program_gains() -> None:
    program = Program()
    first = program.column(5)
    row = program.at_most([first], [2], 7)
    relaxation = Relaxation(program, grows=True)
    assert bound(relaxation, Level([first], [2])).most == 7

    second = program.column(1)
    program.join(second, row, 1)
    program.at_least([first, second], [1, -3], 0)
    level = Level([first, second], [2, 3])

    assert bound(relaxation, level).most == 9
    assert bound(relaxation, level).most == bound(Relaxation(program), level).most
    assert relaxation.values().tolist() == [3, 1]


def test_a_row_that_is_released_binds_no_longer() -> None:
    program = Program()
    column = program.column(5)
    program.release(program.at_most([column], [1], 2))

    assert bound(Relaxation(program), Level([column], [1])).most == 5


def test_a_bound_is_no_higher_than_what_is_known_of_the_level() -> None:
    program = Program()
    level = Level([program.column(5)], [1])

    found = bound(Relaxation(program), level.within(3))

    assert found.most == 3
    assert found.useful.all()
    assert search(program, level.within(3), None, found.useful, seconds=10.0, seed=1).values == [3]


def test_a_row_that_needs_a_column_left_out_has_no_solution() -> None:
    program = Program()
    column, other = program.columns([1, 1])
    program.equal([column], [1], 1)

    level, without = Level([other], [1]), np.array([False, True])

    assert search(program, level, None, without, seconds=10.0, seed=1).infeasible


def test_a_search_gives_nothing_worse_than_what_is_known() -> None:
    program = Program()
    level, useful = Level(program.columns([1, 1]), [5, 1]), np.array([False, True])

    assert search(program, level, [1, 0], useful, seconds=10.0, seed=1).values == [1, 0]
    assert search(program, level, [0, 0], useful, seconds=10.0, seed=1).values == [0, 1]


def test_pieces_of_different_nodes_are_no_place_for_a_vm() -> None:
    # Both nodes together have room for four 7g, and neither has.
    given = problem({"a": [[], []], "b": [[], []]}, request("four", *["7g"] * 4))

    hosted = solve_hosted(condense(given), left=lambda: 10.0, seed=1)
    apart_unknown = solve_levels(condense(given), None, left=lambda: 10.0, seed=1)

    assert apart_unknown.bounds[0] == 32
    assert hosted is not None
    assert hosted.bounds[0] == 0
    assert hosted.proven


def test_what_is_known_of_a_level_holds_only_beside_what_is_known_before_it() -> None:
    # Whoever knows that 4 slices may be admitted, and no value then, knows nothing of 2 slices.
    given = problem({"a": [[("4g", 0), ("1g", 4), ("1g", 5)]]}, request("one", "1g.20"))
    fresh = solve_levels(condense(given), None, left=lambda: 10.0, seed=1)

    told = solve_levels(condense(given), None, left=lambda: 10.0, seed=1, known=(4, -1_000, -1_000))

    assert fresh.bounds[0] == 2
    assert told.bounds == fresh.bounds
    assert told.proven


def test_what_exceeds_the_best_known_is_among_the_columns_useful_for_that() -> None:
    # By the relaxation 2.5 of the good pieces fit, so 7 could be attained; whole, 6 are.
    program = Program()
    good, bad, useless = program.columns([5, 5, 5])
    program.at_most([good, bad, useless], [2, 3, 5], 5)
    level = Level([good, bad, useless], [3, 3, 1])

    found = bound(Relaxation(program), level)

    assert found.most == 7
    assert found.useful.tolist() == [True, False, False]
    assert found.useful_for(6).tolist() == [True, True, False]
    assert found.useful_for(1).tolist() == [True, True, True]


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_where_no_whole_numbers_attain_all_bounds_the_plan_comes_near_them(seed: int) -> None:
    fleet = grown(80, fill=0.7, gpus_per_node=8, seed=seed)
    given = Problem(fleet, pooled(fleet.nodes, 30, list(Spread), random.Random(seed)))
    condensed = condense(given)

    hosted = solve_hosted(condensed, left=lambda: 10.0, seed=1)

    assert hosted is not None
    assert hosted.counted is not None
    assert not hosted.proven
    expansion = expand(condensed, hosted.counted)
    assert not expansion.unplaced
    solution = named(given, expansion.seats)
    assert not list(violations(given, solution))
    *admitted, value, _ = score(given, solution).levels
    bound = hosted.bounds[-2]
    assert admitted == hosted.bounds[:-2]
    assert bound is not None
    assert 0.9 * bound <= value <= bound
