"""The messages that CP-SAT reads are those that OR-Tools' own model writes, to the letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import SearchStrategy, integers, lists, none, tuples
from ortools.sat.python import cp_model

from extender.packing.cpsat import CpSolverStatus, Model, SatParameters, Term

NUMBERS = 4
Row = tuple[list[Term], int | None, int | None]

terms = lists(tuples(integers(0, NUMBERS - 1), integers(-3, 3)), min_size=1, max_size=8)
low, high = none() | integers(-50, 0), none() | integers(0, 50)
rows: SearchStrategy[list[Row]] = lists(tuples(terms, low, high), max_size=4)
values = lists(integers(0, 5), min_size=NUMBERS, max_size=NUMBERS)


@given(values, rows, terms, none() | values)
def test_any_model_is_written_as_ortools_writes_it(
    most: list[int], rows: list[Row], gain: list[Term], hint: list[int] | None
) -> None:
    ours, theirs = Model(), cp_model.CpModel()
    numbers = [ours.number(each) for each in most]
    variables = [theirs.new_int_var(0, each, "") for each in most]

    def weighted(terms: list[Term]) -> cp_model.LinearExprT:
        return cp_model.LinearExpr.weighted_sum(
            [variables[number] for number, _ in terms], [weight for _, weight in terms]
        )

    for row, low, high in rows:
        ours.limit(row, low, high)
        theirs.add_linear_constraint(
            weighted(row),
            cp_model.INT_MIN if low is None else low,
            cp_model.INT_MAX if high is None else high,
        )
    ours.maximize(gain)
    theirs.maximize(weighted(gain))
    if hint is not None:
        ours.hint(hint)
        for variable, value in zip(variables, hint, strict=True):
            theirs.add_hint(variable, value)

    assert numbers == [variable.index for variable in variables]
    assert str(ours.message) == str(theirs.proto)


def test_the_largest_sum_is_found() -> None:
    model = Model()
    small, large = model.number(3), model.number(3)
    model.limit([(small, 1), (large, 2)], most=5)
    model.maximize([(small, 2), (large, 3)])

    found = model.solve(SatParameters())

    assert found.status == CpSolverStatus.OPTIMAL
    assert [*found.solution] == [3, 1]
    assert found.objective_value == found.best_objective_bound == 9


def test_an_invalid_model_is_an_error_that_says_why() -> None:
    model = Model()
    model.number(-1)

    with pytest.raises(ValueError, match="invalid for CP-SAT: var #0"):
        model.solve(SatParameters())
