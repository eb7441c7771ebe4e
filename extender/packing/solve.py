"""The joint plan: solved level by level, bounded in time, carried out on nodes and GPUs.

OPTIMAL is said only of assignments that attain, on every level, a bound proven for the problem
itself; how they were found does not matter. Where placements do not cost what a GPU loses in value,
their order matters, and the model adds up what no order may attain: then only what is admitted is
proven.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence

import msgspec

from extender.packing.check import level_names, score
from extender.packing.classes import Condensed, condense
from extender.packing.expand import Expansion, expand
from extender.packing.greedy import largest_first, one_by_one
from extender.packing.hosted import solve_hosted
from extender.packing.levels import Solved, solve_levels
from extender.packing.problem import Problem, Solution
from extender.packing.seats import Seat, named, occupied, tally

MOST_NODES_APART = 500
MOST_VARIABLES_APART = 20_000
"""Beyond either, a model that tells the nodes apart is not tried: it takes longer than a second."""

NODES_LOOKED_AT = 2
"""Of the most promising, for a VM on several GPUs, by the greedy answer and by repairs."""

SHARE_OF_HOSTED = 0.6
"""Of the time, what the model with nodes for VMs on several GPUs may take."""

MOST_HINTED = 500
"""Requests; for more, the greedy answer takes as long as the proof, and is made if that fails."""


class Status(enum.Enum):
    """What is known of an outcome."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"

    def beside(self, other: Status) -> Status:
        """Return what is known of two plans carried out side by side.

        One that places nobody leaves the other as it is: together they may be carried out.
        """
        return self if self is other else Status.FEASIBLE


class LevelResult(msgspec.Struct, frozen=True):
    """One level of the objective; more is better.

    ``bound`` is what no solution exceeds that is as good on all levels before; None where those
    were not solved to their bound.
    """

    name: str
    attained: int
    bound: int | None

    @property
    def gap(self) -> int | None:
        """How far from the bound; 0 is proven optimal."""
        return None if self.bound is None else self.bound - self.attained


class Outcome(msgspec.Struct, frozen=True):
    """A plan and what is known of it.

    OPTIMAL: none is better. FEASIBLE: it may be carried out, a better one may exist. INFEASIBLE:
    what is required cannot be placed. UNKNOWN: no plan was found that places it. The last two have
    neither assignments nor levels. ``classes`` and ``variables`` are the size of the largest model.
    """

    status: Status
    solution: Solution = Solution()
    levels: tuple[LevelResult, ...] = ()
    classes: int = 0
    variables: int = 0


def solve(
    problem: Problem, *, seconds: float, clock: Callable[[], float], seed: int = 1
) -> Outcome:
    """Plan all requests jointly.

    ``seconds`` bound the solver, by ``clock`` (monotonic, in seconds); the greedy answer comes on
    top. The same problem and seed give the same outcome unless time runs out.
    """
    started = clock()
    search = _Search(problem, lambda: seconds - (clock() - started), seed)
    if search.host(seconds * SHARE_OF_HOSTED):
        return search.outcome()
    hosts_missing = search.plan(search.pooled)
    if hosts_missing and len(problem.fleet.nodes) <= MOST_NODES_APART:
        apart = condense(problem, by_node=True)
        if sum(len(each.offers) for each in apart.classes) <= MOST_VARIABLES_APART:
            search.plan(apart)
    return search.outcome()


class _Search:
    """The plans found so far, the best last, and what is proven of all plans."""

    def __init__(self, problem: Problem, left: Callable[[], float], seed: int) -> None:
        self.pooled = condense(problem)
        self._problem, self._left, self._seed = problem, left, seed
        self._required = {at for at, each in enumerate(problem.requests) if each.required}
        self._order = largest_first(self.pooled)
        self._best: Sequence[Seat] | None = None
        if len(problem.requests) <= MOST_HINTED:
            self._best = self._beside(())
        self._bounds: Sequence[int | None] = [None] * len(level_names(problem))
        self._infeasible = self._attained = False
        self._classes = self._variables = 0

    def host(self, seconds: float) -> bool:
        """Solve the model with nodes for VMs on several GPUs; return whether that settled all."""
        if seconds <= 0:
            return False
        deadline = self._left() - seconds
        solved = solve_hosted(self.pooled, left=lambda: self._left() - deadline, seed=self._seed)
        if solved is None:
            return False
        self._note(self.pooled, solved)
        if solved.counted is None:
            return False
        expansion = expand(self.pooled, solved.counted)
        if expansion.unplaced:
            raise AssertionError("a VM has a suite and no seats")
        self._attained = solved.proven
        seats = expansion.seats if solved.proven else self._beside(expansion.seats)
        if not solved.proven and self._best is not None:
            seats = max(self._best, seats, key=self._worth)
        self._best = seats
        return solved.proven

    def _note(self, condensed: Condensed, solved: Solved) -> None:
        """Remember the size of a model, and what it proves of all plans."""
        self._classes = max(self._classes, len(condensed.classes))
        self._variables = max(self._variables, solved.columns)
        # All models' bounds hold; the lower one at the first difference says more.
        self._bounds = min(self._bounds, solved.bounds, key=_tightness)

    def plan(self, condensed: Condensed) -> bool:
        """Solve the model of a condensed problem; return whether a counted VM found no node."""
        if self._infeasible or self._left() <= 0:
            return False
        best = self._best
        hint = tally(condensed, best) if best is not None and self._complete(best) else None
        solved = solve_levels(condensed, hint, left=self._left, seed=self._seed, known=self._bounds)
        self._note(condensed, solved)
        self._infeasible = solved.infeasible
        if solved.counted is None:
            return False
        expansion = expand(condensed, solved.counted)
        if solved.proven and not expansion.unplaced:
            self._attained = True
            self._best = expansion.seats
            return False
        seats = self._around_hosts(expansion) if expansion.unplaced else expansion.seats
        if not solved.proven:
            seats = self._beside(seats)
        self._best = seats if self._best is None else max(self._best, seats, key=self._worth)
        return bool(expansion.unplaced)

    def _around_hosts(self, expansion: Expansion) -> Sequence[Seat]:
        """Find nodes for the VMs that found none, and plan everything else anew around them."""
        problem, requests = self._problem, self._problem.requests
        bound = {at for at, each in enumerate(requests) if not each.on_one_gpu}
        gangs = {requests[at].gang for at in bound} - {None}
        first = bound | {at for at, each in enumerate(requests) if each.gang in gangs}
        hosted = one_by_one(
            self.pooled,
            [at for at in self._order if at in expansion.unplaced],
            seats=[seat for seat in expansion.seats if seat.request in first],
            nodes_looked_at=NODES_LOOKED_AT,
        )
        others = [at for at in range(len(requests)) if at not in first]
        caps = dict(problem.caps)
        for at in {seat.request for seat in hosted}:
            tenant = requests[at].tenant
            if tenant in caps:
                caps[tenant] -= problem.slices(requests[at])
        rest = condense(
            Problem(occupied(problem.fleet, hosted), [requests[at] for at in others], caps)
        )
        solved = solve_levels(rest, None, left=self._left, seed=self._seed)
        planned = () if solved.counted is None else expand(rest, solved.counted).seats
        seats = [*hosted, *(seat._replace(request=others[seat.request]) for seat in planned)]
        missing = expansion.unplaced - {seat.request for seat in hosted}
        return self._beside(seats) if missing or not solved.proven else seats

    def outcome(self) -> Outcome:
        """Return the best plan, and how good it is known to be."""
        if self._infeasible:
            return Outcome(Status.INFEASIBLE, classes=self._classes, variables=self._variables)
        if self._best is None:
            self._best = self._beside(())
        if not self._complete(self._best):
            return Outcome(Status.UNKNOWN, classes=self._classes, variables=self._variables)
        solution, bounds = named(self._problem, self._best), list(self._bounds)
        by_value = all(s.model.tables.values_states for s in self._problem.fleet.states)
        if not by_value:
            admission = len(self._problem.priorities)
            bounds[admission:] = [None] * (len(bounds) - admission)
        if self._attained and by_value:
            attained = tuple(bound for bound in bounds if bound is not None)
        else:
            attained = score(self._problem, solution).levels
        results = []
        attains = True  # the bound of each level so far
        for name, value, bound in zip(level_names(self._problem), attained, bounds, strict=True):
            results.append(LevelResult(name, value, bound if attains else None))
            attains &= value == bound
        return Outcome(
            Status.OPTIMAL if attains else Status.FEASIBLE,
            solution,
            tuple(results),
            self._classes,
            self._variables,
        )

    def _beside(self, seats: Sequence[Seat]) -> Sequence[Seat]:
        """Return seats with what the greedy rule adds to them."""
        return one_by_one(self.pooled, self._order, seats=seats, nodes_looked_at=NODES_LOOKED_AT)

    def _complete(self, seats: Sequence[Seat]) -> bool:
        return self._required <= {seat.request for seat in seats}

    def _worth(self, seats: Sequence[Seat]) -> tuple[bool, tuple[int, ...]]:
        return self._complete(seats), score(self._problem, named(self._problem, seats)).levels


def _tightness(bounds: Sequence[int | None]) -> list[float]:
    return [math.inf if bound is None else bound for bound in bounds]
