"""The judge of plans finds what is planted in one that is sound."""

from __future__ import annotations

import msgspec
import pytest

from extender.moves import (
    Admit,
    Consolidate,
    Drain,
    Fault,
    Host,
    How,
    Movable,
    Move,
    Occupant,
    Place,
    Plan,
    Problem,
    Wanted,
    faults,
)
from extender.moves.judge import Wrong
from extender.moves.result import Gpu
from nodeagent.api.geometry import Placement
from tests.moves import H100, served

RESTART = Movable(How.RESTART, 2, "web")
MOVED = Occupant("vm", "1g.10gb", 19, Placement(0, 1), RESTART)
BESIDE = Occupant("other", "3g.40gb", 9, Placement(4, 4), Movable(How.RESTART, 9))
FULL = Host("full", "b", H100, {}, (Occupant("stays", "7g.80gb", 0, Placement(0, 8)),))
HOSTS = [
    Host("from", "a", H100, served(H100), (MOVED,)),
    Host("to", "b", H100, served(H100), (BESIDE,)),
    Host("closed", "b", H100, served(H100), (), open=False),
    FULL,
]
PROBLEM = Problem(HOSTS, (Admit((Wanted("big", "7g.80gb"),)),), {"web": 1})
MOVE = Move("vm", "from", Placement(0, 1), "to", Placement(2, 1), How.RESTART, 2)
PLAN = Plan(
    (MOVE,),
    (Place("big", "from", 0, Placement(0, 8)),),
    (Gpu("from", (MOVED,)), Gpu("to", (BESIDE,))),
    (
        Gpu("from", ()),
        Gpu("to", (msgspec.structs.replace(MOVED, placement=Placement(2, 1)), BESIDE)),
    ),
    least_moves=1,
    least_cost=2,
)


def changed(**move: object) -> Plan:
    """The plan with another move; what it says of the state afterwards is left out."""
    return msgspec.structs.replace(PLAN, moves=(msgspec.structs.replace(MOVE, **move),), after=())


def with_goal(*goals: object, **limits: object) -> Problem:
    return msgspec.structs.replace(PROBLEM, goals=goals, **limits)


def test_a_sound_plan_has_no_fault() -> None:
    assert list(faults(PROBLEM, PLAN)) == []


@pytest.mark.parametrize(
    ("wrong", "planted"),
    [
        (Wrong.UNKNOWN, changed(target="nowhere")),
        (Wrong.ELSEWHERE, changed(source="to")),
        (Wrong.ELSEWHERE, changed(left=Placement(1, 1))),
        (Wrong.IMMOVABLE, changed(occupant="stays", source="full", left=Placement(0, 8))),
        (Wrong.MISCOUNTED, changed(cost=1)),
        (Wrong.NOT_SERVED, changed(target="closed")),
        (Wrong.NOT_SERVED, changed(target="full")),
        (Wrong.ILLEGAL, changed(placement=Placement(4, 1))),
        (Wrong.ILLEGAL, changed(placement=Placement(7, 1))),
        (Wrong.ILLEGAL, changed(target="from", placement=Placement(0, 1))),
        (Wrong.MISTOLD, msgspec.structs.replace(PLAN, after=PLAN.before)),
        (Wrong.ILLEGAL, msgspec.structs.replace(PLAN, moves=(), after=PLAN.before, least_moves=0)),
        (Wrong.PLACED_TWICE, msgspec.structs.replace(PLAN, places=PLAN.places * 2)),
        (Wrong.UNPLACED, msgspec.structs.replace(PLAN, places=())),
        (Wrong.BOUND, msgspec.structs.replace(PLAN, least_moves=2)),
    ],
)
def test_a_planted_fault_is_found(wrong: Wrong, planted: Plan) -> None:
    assert wrong in {each.wrong for each in faults(PROBLEM, planted)}


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (Wrong.IMMOVABLE, with_goal(*PROBLEM.goals, budgets={"web": 0})),
        (Wrong.TOO_MANY, with_goal(*PROBLEM.goals, most_moves=0)),
        (Wrong.TOO_DEAR, with_goal(*PROBLEM.goals, most_cost=1)),
        (Wrong.NOT_DRAINED, with_goal(*PROBLEM.goals, Drain(frozenset({"full"})))),
        (Wrong.NOT_DRAINED, with_goal(*PROBLEM.goals, Drain(frozenset({"to"})))),
        (Wrong.NOT_EMPTY, with_goal(*PROBLEM.goals, Consolidate(gpus=1))),
        (Wrong.NOT_EMPTY, with_goal(*PROBLEM.goals, Consolidate(nodes=1))),
    ],
)
def test_a_plan_is_judged_by_what_was_asked(wrong: Wrong, problem: Problem) -> None:
    assert wrong in {each.wrong for each in faults(problem, PLAN)}


def test_what_migrates_live_leaves_its_node() -> None:
    live = msgspec.structs.replace(MOVED, movable=Movable(How.LIVE, 2))
    hosts = [
        msgspec.structs.replace(HOSTS[0], occupants=(live,)),
        msgspec.structs.replace(HOSTS[1], node="a"),
    ]
    problem = Problem(hosts, PROBLEM.goals)
    planned = msgspec.structs.replace(changed(how=How.LIVE), before=())

    assert list(faults(problem, planned)) == [Fault(Wrong.SAME_NODE, "vm")]


def test_only_what_can_be_attained_is_asked_of_the_nearest_plan() -> None:
    nothing = msgspec.structs.replace(PLAN, moves=(), places=(), after=PLAN.before, least_moves=0)

    assert [each.wrong for each in faults(PROBLEM, nothing)] == [Wrong.UNPLACED]
    assert list(faults(PROBLEM, nothing, attained=False)) == []
