"""Plans of moves for goals that people have."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from extender.moves import (
    Admit,
    Consolidate,
    Drain,
    Goal,
    Headroom,
    Host,
    How,
    Infeasible,
    Movable,
    Occupant,
    Plan,
    Problem,
    Wanted,
    faults,
    plan,
)
from extender.moves.obstacles import NO_ROOM, NO_ROOM_WITHIN, NOT_SERVED
from nodeagent.api.geometry import Placement
from tests.moves import H100, clock, served

ID = {profile.name: profile.id for profile in H100.geometry.profiles}
ONE, TWO, THREE, FOUR, SEVEN = "1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"


def vm(name: str, profile: str, start: int, *, cost: int = 1, **how: object) -> Occupant:
    """A VM that may be moved by a restart, unless said otherwise."""
    size = H100.geometry.by_id[ID[profile]].size
    leave = how.get("leave", Movable(How.RESTART, cost))
    assert leave is None or isinstance(leave, Movable)
    return Occupant(
        name, profile, ID[profile], Placement(start, size), leave, str(how.get("why", ""))
    )


def host(uuid: str, *occupants: Occupant, node: str = "", **how: bool) -> Host:
    return Host(uuid, node or uuid, H100, served(H100), occupants, how.get("open", True))


def planned(
    hosts: list[Host], *goals: Goal, **limits: int | Mapping[str, int]
) -> Plan | Infeasible:
    problem = Problem(hosts, goals, **limits)  # type: ignore[arg-type]
    found = plan(problem, seconds=60, clock=clock)
    if isinstance(found, Plan):
        assert list(faults(problem, found)) == []
    return found


def moved(found: Plan | Infeasible) -> list[str]:
    assert isinstance(found, Plan)
    return [f"{each.occupant} to {each.target}" for each in found.moves]


def want(profile: str, many: int = 1) -> Admit:
    return Admit(tuple(Wanted(f"wanted-{at}", profile) for at in range(many)))


def test_what_fits_already_needs_no_move() -> None:
    found = planned([host("a")], want(SEVEN))

    assert moved(found) == []
    assert isinstance(found, Plan)
    assert [(each.wanted, each.gpu) for each in found.places] == [("wanted-0", "a")]


def test_of_two_ways_with_as_many_moves_the_cheaper_is_taken() -> None:
    hosts = [host("a", vm("dear", ONE, 0, cost=5)), host("b", vm("cheap", ONE, 0))]

    assert moved(planned(hosts, want(SEVEN))) == ["cheap to a"]


def test_fewer_moves_come_before_less_cost() -> None:
    hosts = [
        host("a", vm("dear", ONE, 0, cost=50)),
        host("b", vm("one", ONE, 0), vm("another", ONE, 1)),
    ]

    assert moved(planned(hosts, want(SEVEN))) == ["dear to b"]


def test_a_chain_begins_with_the_last_of_it() -> None:
    """The 4g may only go where the 1g is, which goes elsewhere before."""
    hosts = [
        host("a", vm("four", FOUR, 0)),
        host("b", vm("one", ONE, 0), vm("stays", THREE, 4, leave=None)),
        host("c", vm("keeps", SEVEN, 0, leave=None)),
        host("d", vm("holds", FOUR, 0, leave=None)),
    ]

    assert moved(planned(hosts, want(SEVEN))) == ["one to d", "four to b"]


def test_a_swap_goes_through_a_spare() -> None:
    """Small and large change places, and the spare, which is wanted too, serves meanwhile."""
    small = Occupant("small", "x", ID[TWO], Placement(0, 2), Movable(How.RESTART, 1))
    large = Occupant("large", "y", ID[THREE], Placement(0, 4), Movable(How.RESTART, 1))
    half = vm("half", THREE, 4, leave=None)
    hosts = [
        Host("a", "a", H100, {"x": ID[TWO], "y": ID[THREE]}, (small, half)),
        Host("b", "b", H100, {"x": ID[TWO], "y": ID[THREE], "on b": ID[TWO]}, (large, half)),
        Host(
            "spare",
            "c",
            H100,
            {"x": ID[TWO], "on spare": ID[TWO]},
            (vm("third", ONE, 2, leave=None), vm("fourth", ONE, 3, leave=None), half),
        ),
    ]
    found = planned(hosts, Admit((Wanted("one", "on b"), Wanted("other", "on spare"))))

    assert moved(found) == ["small to spare", "large to a", "small to b"]
    assert isinstance(found, Plan)
    assert found.optimal


def test_a_drain_says_where_everything_goes_and_takes_nothing_in() -> None:
    hosts = [
        host("a", vm("one", ONE, 0), vm("two", TWO, 4), node="n", open=False),
        host("b", vm("three", THREE, 0), node="n", open=False),
        host("c", vm("four", FOUR, 0), node="m"),
        host("d", node="m"),
    ]
    found = planned(hosts, Drain(frozenset({"a", "b"})))

    assert isinstance(found, Plan)
    assert {each.occupant for each in found.moves} == {"one", "two", "three"}
    assert {each.target for each in found.moves} <= {"c", "d"}
    assert found.optimal


def test_who_holds_a_node_that_is_drained_is_named_with_the_reason() -> None:
    hosts = [
        host(
            "a",
            vm("goes", ONE, 0),
            vm("said", ONE, 1, leave=None, why="tangram.dev/movable: false"),
            vm("guarded", ONE, 2, leave=Movable(How.RESTART, 1, "web")),
        ),
        host("b"),
    ]
    found = planned(hosts, Drain(frozenset({"a"})), budgets={"web": 0})

    assert isinstance(found, Infeasible)
    assert found.proven
    assert (found.attained, found.asked) == (1, 3)
    assert [(each.occupant, each.why) for each in found.obstacles] == [
        ("said", "tangram.dev/movable: false"),
        ("guarded", "the PodDisruptionBudget web allows no disruption"),
    ]
    assert moved(found.nearest or found) == ["goes to b"]


def test_a_budget_that_allows_one_lets_one_after_the_other_go() -> None:
    leave = Movable(How.RESTART, 1, "web")
    hosts = [host("a", *(vm(f"vm-{at}", ONE, at, leave=leave) for at in range(3))), host("b")]
    found = planned(hosts, Drain(frozenset({"a"})), budgets={"web": 1})

    assert len(moved(found)) == 3


def test_a_drain_for_which_there_is_no_room_says_for_whom() -> None:
    hosts = [host("a", vm("big", SEVEN, 0)), host("b", vm("small", ONE, 0))]
    found = planned(hosts, Drain(frozenset({"a"})))

    assert isinstance(found, Infeasible)
    assert [(each.occupant, each.why) for each in found.obstacles] == [("big", NO_ROOM)]


def test_more_than_there_is_room_for_is_admitted_in_part() -> None:
    hosts = [host("a", vm("one", ONE, 0)), host("b", vm("another", ONE, 0))]
    found = planned(hosts, want(SEVEN, 2))

    assert isinstance(found, Infeasible)
    assert (found.attained, found.proven) == (1, True)
    assert [(each.kind, each.missing, each.why) for each in found.obstacles] == [
        (SEVEN, 1, NO_ROOM)
    ]
    assert found.nearest is not None
    assert len(found.nearest.moves) == 1


def test_what_no_gpu_serves_is_said_to_be_served_by_none() -> None:
    found = planned([host("a")], want("9g.100gb"))

    assert isinstance(found, Infeasible)
    assert [each.why for each in found.obstacles] == [NOT_SERVED]


@pytest.mark.parametrize("limits", [{"most_moves": 1}, {"most_cost": 1}])
def test_limits_are_kept_to_and_blamed(limits: dict[str, int]) -> None:
    hosts = [
        host("a", vm("one", ONE, 0), vm("two", ONE, 1)),
        host("b", vm("three", TWO, 0, leave=None)),
    ]
    found = planned(hosts, want(SEVEN), **limits)

    assert isinstance(found, Infeasible)
    assert [each.why for each in found.obstacles] == [NO_ROOM_WITHIN]


def test_headroom_is_of_places_that_are_free_at_once() -> None:
    hosts = [host("a", vm("one", ONE, 0)), host("b", vm("two", ONE, 4)), host("c")]
    found = planned(hosts, Headroom(SEVEN, 2))

    assert len(moved(found)) == 1
    assert isinstance(found, Plan)
    assert len({each.gpu for each in found.places}) == 2


def test_consolidation_empties_the_gpus_that_are_emptied_most_cheaply() -> None:
    hosts = [
        host("a", vm("one", ONE, 0), vm("two", ONE, 1)),
        host("b", vm("three", ONE, 0)),
        host("c", vm("four", TWO, 0), vm("five", TWO, 2)),
    ]

    found = planned(hosts, Consolidate(gpus=1))

    assert isinstance(found, Plan)
    assert [each.occupant for each in found.moves] == ["three"]


def test_a_node_is_empty_when_all_its_gpus_are() -> None:
    hosts = [
        host("a", vm("one", ONE, 0), node="n"),
        host("b", vm("two", ONE, 0), node="n"),
        host("c", vm("three", ONE, 0), node="m"),
        host("d", vm("fixed", ONE, 0, leave=None), node="m"),
    ]
    found = planned(hosts, Consolidate(nodes=1))

    assert isinstance(found, Plan)
    assert {each.occupant for each in found.moves} == {"one", "two"}
    assert {each.target for each in found.moves} <= {"c", "d"}


def test_what_migrates_live_goes_to_another_node() -> None:
    live = Movable(How.LIVE, 1)
    hosts = [
        host("a", vm("one", ONE, 0, leave=live), node="n"),
        host("b", vm("full", FOUR, 0, leave=None), node="n"),
        host("c", vm("also", FOUR, 0, leave=None), node="m"),
    ]

    assert moved(planned(hosts, want(SEVEN))) == ["one to c"]


def test_goals_hold_together() -> None:
    hosts = [
        host("a", vm("one", ONE, 0)),
        host("b", vm("two", TWO, 0)),
        host("c", vm("three", THREE, 0)),
    ]
    found = planned(hosts, Drain(frozenset({"c"})), want(SEVEN))

    assert isinstance(found, Plan)
    assert {each.occupant for each in found.moves} >= {"three"}
    assert len(found.moves) == 2
