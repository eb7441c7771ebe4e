"""The door to CP-SAT: whole numbers, written as the message that it reads.

OR-Tools' own class for that, ``cp_model.CpModel``, writes the same (the tests compare them), but
takes three times as long, and loads pandas, which takes longer than OR-Tools itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from ortools.sat.python.cp_model_helper import (
    CpModelProto,
    CpSatHelper,
    CpSolverResponse,
    CpSolverStatus,
    SatParameters,
    SolveWrapper,
)

__all__ = ["CpSolverResponse", "CpSolverStatus", "Model", "SatParameters", "Term"]

Term = tuple[int, int]
"""A number's index, and its weight in a sum."""

LEAST: Final = -(2**63)
MOST: Final = 2**63 - 1
"""What CP-SAT takes for no limit."""


class Model:
    """Whole numbers, sums of them within limits, and one sum to be made as large as can be."""

    def __init__(self) -> None:
        self.message = CpModelProto()

    def number(self, most: int) -> int:
        """Add a number from 0 to *most*; return its index."""
        variables = self.message.variables
        variables.add().domain.extend((0, most))
        return len(variables) - 1

    def limit(
        self, terms: Iterable[Term], least: int | None = None, most: int | None = None
    ) -> None:
        """Have a sum from *least* to *most*, not below it; None is no limit."""
        numbers, weights = _written(terms)
        linear = self.message.constraints.add().linear
        linear.vars.extend(numbers)
        linear.coeffs.extend(weights)
        linear.domain.extend((LEAST if least is None else least, MOST if most is None else most))

    def maximize(self, terms: Iterable[Term]) -> None:
        """Make a sum as large as can be."""
        numbers, weights = _written(terms)
        objective = self.message.objective
        objective.vars.extend(numbers)
        objective.coeffs.extend([-weight for weight in weights])
        objective.scaling_factor = -1.0  # for CP-SAT all objectives are to be small

    def hint(self, values: Sequence[int]) -> None:
        """Say what the numbers, all of them in order, might well be."""
        self.message.solution_hint.vars.extend(range(len(values)))
        self.message.solution_hint.values.extend(values)

    def solve(self, parameters: SatParameters) -> CpSolverResponse:
        """Return what CP-SAT finds.

        Raises:
            ValueError: the model is invalid.
        """
        solver = SolveWrapper()
        solver.set_parameters(parameters)
        response: CpSolverResponse = solver.solve(self.message)  # type: ignore[no-untyped-call]
        if response.status == CpSolverStatus.MODEL_INVALID:
            raise ValueError(f"invalid for CP-SAT: {CpSatHelper.validate_model(self.message)}")
        return response


def _written(terms: Iterable[Term]) -> tuple[list[int], list[int]]:
    """Return each number that has a weight, once, and the weights, as OR-Tools would write them."""
    total: dict[int, int] = defaultdict(int)
    for number, weight in terms:
        total[number] += weight
    pairs = sorted(each for each in total.items() if each[1])
    return [number for number, _ in pairs], [weight for _, weight in pairs]
