"""Why this VM moves and not another."""

from __future__ import annotations

from collections.abc import Iterator

from extender.moves import (
    Admit,
    Host,
    How,
    Instead,
    Movable,
    Occupant,
    Plan,
    Problem,
    Wanted,
    instead,
    plan,
)
from nodeagent.api.geometry import Placement
from tests.moves import H100, clock, served

WHOLE = (Admit((Wanted("wanted", "7g.80gb"),)),)


def host(uuid: str, **costs: int) -> Host:
    """A GPU with VMs of one slice each, side by side, each at its cost."""
    occupants = tuple(
        Occupant(name, "1g.10gb", 19, Placement(at, 1), Movable(How.EVICTION, cost))
        for at, (name, cost) in enumerate(costs.items())
    )
    return Host(uuid, uuid, H100, served(H100), occupants)


def reasons(*hosts: Host, most: int = 8, seconds: float = 60.0) -> list[Instead]:
    problem = Problem(hosts, WHOLE)
    found = plan(problem, seconds=60, clock=clock)
    assert isinstance(found, Plan)
    return list(instead(problem, found, most=most, seconds=seconds, clock=clock))


def test_who_could_move_instead_is_named_with_what_it_would_cost_more() -> None:
    assert reasons(host("a", cheap=1), host("b", dear=5)) == [
        Instead("cheap", attained=True, moves=0, cost=4, others=("dear",))
    ]


def test_where_another_gpu_takes_more_moves_that_is_said() -> None:
    assert reasons(host("a", alone=9), host("b", one=1, other=1)) == [
        Instead("alone", attained=True, moves=1, cost=-7, others=("one", "other"))
    ]


def test_where_nobody_else_could_move_that_is_said() -> None:
    kept = Occupant("kept", "1g.10gb", 19, Placement(0, 1))
    stays = Host("b", "b", H100, served(H100), (kept,))

    assert reasons(host("a", only=1), stays) == [Instead("only", attained=False)]


def test_of_many_that_move_as_many_are_looked_into_as_asked_for_and_time_allows() -> None:
    hosts = host("a", one=1, other=1), host("b", x=2, y=2, z=2)

    assert [each.occupant for each in reasons(*hosts, most=1)] == ["one"]
    assert reasons(*hosts, seconds=0.0) == []


def test_of_a_plan_that_may_not_be_the_best_nothing_is_said() -> None:
    problem = Problem((host("a", cheap=1), host("b", dear=5)), WHOLE)

    def late() -> Iterator[float]:
        yield 0.0
        while True:
            yield 100.0

    found = plan(problem, seconds=60, clock=clock)
    assert isinstance(found, Plan)
    unproven = Plan(found.moves, found.places, found.before, found.after, least_moves=0)
    assert list(instead(problem, unproven, most=8, seconds=60, clock=clock)) == []
    ticks = late()
    assert list(instead(problem, found, most=8, seconds=1, clock=lambda: next(ticks))) == []
