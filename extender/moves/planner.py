"""The plan: counted, put in order, and where that took more moves than counted, searched anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from extender.moves.counting import Counted, count
from extender.moves.judge import faults
from extender.moves.kinds import Kinds, kinds
from extender.moves.obstacles import obstacles, things_asked
from extender.moves.order import ordered
from extender.moves.problem import Occupant, Problem
from extender.moves.result import Gpu, Infeasible, Move, Obstacle, Place, Plan
from extender.moves.slots import slots
from extender.moves.timed import MOST_COLUMNS, size, timed

MOST_PARKED = 3
"""Moves beyond those counted that are tried, where the order makes them necessary."""


class Refuted(Exception):
    """A plan was found that may not be carried out; the message says why not."""


def plan(
    problem: Problem, *, seconds: float, clock: Callable[[], float], seed: int = 1
) -> Plan | Infeasible:
    """Return the plan with the fewest moves, and of these the least cost, that attains all goals.

    ``seconds`` bound the solver, by ``clock`` (monotonic, in seconds). The same problem and seed
    give the same plan unless time runs out. Every plan is carried out by the judge before it is
    returned.

    Raises:
        Refuted: the judge found fault with it.
    """
    started = clock()
    return _Planning(problem, lambda: seconds - (clock() - started), seed).planned()


class _Planning:
    def __init__(self, problem: Problem, left: Callable[[], float], seed: int) -> None:
        self._problem, self._left, self._seed = problem, left, seed
        self._kinds: Kinds = kinds(problem)
        self._counted: Counted = count(problem, self._kinds, left=left, seed=seed)

    def planned(self) -> Plan | Infeasible:
        problem, counted = self._problem, self._counted
        found = ordered(problem, self._kinds, slots(problem, self._kinds, counted))
        greedy = None if found is None else self._plan(*found)
        if greedy is not None and not self._within(greedy):
            greedy = None
        asked = things_asked(problem)
        if counted.best < asked:
            proven = counted.attained == counted.best
            why_not = tuple(obstacles(problem, self._kinds, counted))
            if greedy is not None:
                _certify(problem, greedy, attained=False)
            return Infeasible(asked, counted.best, why_not, greedy, proven)
        best = greedy if greedy is not None and greedy.optimal else self._searched(greedy)
        if best is None:
            lost = Obstacle("no order was found in which each move has a free place to go to")
            return Infeasible(asked, asked, (lost,), None, proven=False)
        _certify(problem, best, attained=True)
        return best

    def _within(self, found: Plan) -> bool:
        """Tell whether a plan keeps to the limits, with those that were parked."""
        most_moves, most_cost = self._problem.most_moves, self._problem.most_cost
        return (most_moves is None or len(found.moves) <= most_moves) and (
            most_cost is None or found.cost <= most_cost
        )

    def _searched(self, known: Plan | None) -> Plan | None:
        """Return the best of the plans found by searching step by step, or what is known."""
        least = self._counted.moves
        if least is None:
            return known
        most = least + MOST_PARKED if known is None else len(known.moves)
        limit = self._problem.most_moves
        most = most if limit is None else min(most, limit)
        for moves in range(least, most + 1):
            if size(self._problem, moves) > MOST_COLUMNS or self._left() <= 0:
                break
            found = timed(self._problem, self._kinds, moves, left=self._left, seed=self._seed)
            if found.found:
                made = self._plan(found.moves, found.places)
                if known is not None and _rank(known) <= _rank(made):
                    made = known  # the search was cut short
                if self._within(made):
                    least_cost = made.cost if found.proven else None
                    return msgspec.structs.replace(made, least_moves=least, least_cost=least_cost)
            if not found.proven:
                break
            least = moves + 1
        if known is None:
            return None
        return msgspec.structs.replace(known, least_moves=max(known.least_moves, least))

    def _plan(self, moves: tuple[Move, ...], places: tuple[Place, ...]) -> Plan:
        """Return moves with what they come to, and the bounds that counting has proven."""
        touched = {uuid for move in moves for uuid in (move.source, move.target)}
        touched |= {place.gpu for place in places}
        before = {host.uuid: host.occupants for host in self._problem.hosts if host.uuid in touched}
        serves = {host.uuid: host.serves for host in self._problem.hosts if host.uuid in touched}
        now = {uuid: {each.id: each for each in there} for uuid, there in before.items()}
        for move in moves:
            occupant = now[move.source].pop(move.occupant)
            now[move.target][move.occupant] = msgspec.structs.replace(
                occupant,
                profile_id=serves[move.target][occupant.kind],
                placement=move.placement,
            )
        counted = self._counted
        return Plan(
            moves,
            places,
            tuple(Gpu(uuid, there) for uuid, there in before.items()),
            tuple(Gpu(uuid, _sorted(there.values())) for uuid, there in now.items()),
            least_moves=counted.moves or 0,
            least_cost=counted.cost if len(moves) == counted.moves else None,
        )


def _rank(found: Plan) -> tuple[int, int]:
    return len(found.moves), found.cost


def _sorted(occupants: Iterable[Occupant]) -> tuple[Occupant, ...]:
    return tuple(sorted(occupants, key=lambda each: each.placement))


def _certify(problem: Problem, found: Plan, *, attained: bool) -> None:
    wrong = list(faults(problem, found, attained=attained))
    if wrong:
        raise Refuted(f"{len(wrong)} faults, the first: {wrong[0].wrong} ({wrong[0].about})")
