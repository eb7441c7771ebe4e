"""The door to GLOP: a linear program that grows, handed over in bulk, solved from where it was.

OR-Tools' MathOpt takes models as messages, whole arrays at a time. What takes one term at a time,
as its Python model and ``pywraplp`` do, is busy for longer than GLOP is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from ortools.math_opt import callback_pb2 as callback
from ortools.math_opt import model_parameters_pb2 as model_parameters
from ortools.math_opt import model_pb2 as model
from ortools.math_opt import model_update_pb2 as model_update
from ortools.math_opt import parameters_pb2 as parameters
from ortools.math_opt import result_pb2 as result
from ortools.math_opt import solution_pb2 as solution
from ortools.math_opt import sparse_containers_pb2 as sparse
from ortools.math_opt.core.python import solver

from extender.packing.program import Terms


class Optimum(NamedTuple):
    """The value of each column, and what one more of each row's limit would be worth."""

    values: NDArray[np.float64]
    duals: NDArray[np.float64]


class Glop:
    """Columns from 0 up, in rows with limits; a sum of them is made as large as can be."""

    def __init__(self, *, grows: bool) -> None:
        """Begin with nothing; *grows*: it will be solved many times."""
        self._parameters = parameters.SolveParametersProto()
        if grows:  # GLOP goes on from where it was only without preprocessing
            self._parameters.presolve = parameters.EMPHASIS_OFF
        empty = model.ModelProto(objective=model.ObjectiveProto(maximize=True))
        self._solver = solver.new(
            parameters.SOLVER_TYPE_GLOP, empty, parameters.SolverInitializerProto()
        )
        self._gains: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._rows = 0
        self._basis: solution.BasisProto | None = None

    def follow(
        self,
        upper: Sequence[float],
        least: Sequence[float],
        most: Sequence[float],
        terms: Terms,
        gains: NDArray[np.int64],
    ) -> None:
        """Add columns, rows, and terms of which each has one of them; set all columns' gains."""
        columns = model.VariablesProto(
            ids=range(len(self._gains), len(self._gains) + len(upper)),
            lower_bounds=[0.0] * len(upper),
            upper_bounds=upper,
            integers=[False] * len(upper),
        )
        rows = model.LinearConstraintsProto(
            ids=range(self._rows, self._rows + len(least)), lower_bounds=least, upper_bounds=most
        )
        order = np.lexsort((terms.columns, terms.rows))
        matrix = sparse.SparseDoubleMatrixProto(
            row_ids=terms.rows[order].tolist(),
            column_ids=terms.columns[order].tolist(),
            coefficients=terms.weights[order].tolist(),
        )
        before = np.zeros_like(gains)
        before[: len(self._gains)] = self._gains
        changed = np.flatnonzero(gains != before)
        objective = sparse.SparseDoubleVectorProto(
            ids=changed.tolist(), values=gains[changed].tolist()
        )
        update = model_update.ModelUpdateProto(
            new_variables=columns,
            new_linear_constraints=rows,
            linear_constraint_matrix_updates=matrix,
            objective_updates=model_update.ObjectiveUpdatesProto(linear_coefficients=objective),
        )
        if not self._solver.update(update):
            raise RuntimeError("GLOP does not take columns and rows")
        self._gains = gains
        self._rows += len(least)

    def solve(self, *, seconds: float) -> Optimum | None:
        """Return the optimum, or None if it was not found in time."""
        self._parameters.time_limit.FromMilliseconds(max(1, round(seconds * 1000)))
        found: result.SolveResultProto = self._solver.solve(
            self._parameters,
            self._begin(),
            None,
            callback.CallbackRegistrationProto(),
            None,
            None,
        )
        if found.termination.reason != result.TERMINATION_REASON_OPTIMAL:
            return None
        best = found.solutions[0]
        self._basis = best.basis
        return Optimum(
            np.array(best.primal_solution.variable_values.values),
            np.array(best.dual_solution.dual_values.values),
        )

    def _begin(self) -> model_parameters.ModelSolveParametersProto:
        """Return where to begin: where it was, with new columns at 0 and new rows slack."""
        if self._basis is None:
            return model_parameters.ModelSolveParametersProto()
        for statuses, count, status in (
            (self._basis.variable_status, len(self._gains), solution.BASIS_STATUS_AT_LOWER_BOUND),
            (self._basis.constraint_status, self._rows, solution.BASIS_STATUS_BASIC),
        ):
            new = range(len(statuses.ids), count)
            statuses.ids.extend(new)
            statuses.values.extend([status] * len(new))
        return model_parameters.ModelSolveParametersProto(initial_basis=self._basis)
