"""Why this VM and not another: what a plan would come to if one of those that move stayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from extender.moves.planner import plan
from extender.moves.problem import Host, Problem
from extender.moves.result import Infeasible, Plan

STAYS = "it stays, to see what would move instead"


class Instead(msgspec.Struct, frozen=True):
    """The best plan without a move of ``occupant``: so much more, and who moves only then.

    Not ``attained``: there is none. Of what is not proven nothing is said.
    """

    occupant: str
    attained: bool
    moves: int = 0
    cost: int = 0
    others: tuple[str, ...] = ()


def instead(
    problem: Problem, found: Plan, *, most: int, seconds: float, clock: Callable[[], float]
) -> Iterator[Instead]:
    """Yield, for each of the first *most* that move, the best plan in which it stays.

    As far as ``seconds`` allow, by ``clock``; of a plan that may not be the best itself, nothing.
    """
    started = clock()
    if not found.optimal:
        return
    movers = dict.fromkeys(move.occupant for move in found.moves)
    for occupant in list(movers)[:most]:
        left = seconds - (clock() - started)
        if left <= 0:
            return
        match plan(_without(problem, occupant), seconds=left, clock=clock):
            case Plan(optimal=True) as other:
                only_then = (m.occupant for m in other.moves if m.occupant not in movers)
                yield Instead(
                    occupant,
                    attained=True,
                    moves=len(other.moves) - len(found.moves),
                    cost=other.cost - found.cost,
                    others=tuple(dict.fromkeys(only_then)),
                )
            case Infeasible(proven=True):
                yield Instead(occupant, attained=False)
            case _:
                continue  # time was up before it was known


def _without(problem: Problem, occupant: str) -> Problem:
    """Return a problem in which an occupant stays where it is."""

    def kept(host: Host) -> Host:
        if all(each.id != occupant for each in host.occupants):
            return host
        return msgspec.structs.replace(
            host,
            occupants=tuple(
                msgspec.structs.replace(each, movable=None, stays=STAYS)
                if each.id == occupant
                else each
                for each in host.occupants
            ),
        )

    return Problem(
        [kept(host) for host in problem.hosts],
        problem.goals,
        problem.budgets,
        problem.most_moves,
        problem.most_cost,
    )
