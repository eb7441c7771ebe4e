"""What a joint plan decides that placing one by one cannot, and what it says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.packing.check import score, violations
from extender.packing.problem import Problem
from extender.packing.solve import Status
from extender.packing.spread import Spread
from extender.policy import PolicyName
from tests.unit.extender.packing.problems import fleet, problem, request, solved


def admitted(outcome: object) -> set[str]:
    return {each.request for each in outcome.solution.assignments}  # type: ignore[attr-defined]


def test_two_requests_share_a_gpu_that_the_first_alone_would_have_spoilt() -> None:
    # A lone 3g takes the half that a 4g cannot use; the plan must do so too, or the 4g is lost.
    given = problem({"a": [[]]}, request("three", "3g"), request("four", "4g"))

    outcome = solved(given)

    assert outcome.status is Status.OPTIMAL
    assert admitted(outcome) == {"three", "four"}


def test_a_higher_priority_goes_before_more_slices() -> None:
    given = problem(
        {"a": [[("4g", 0)]]},
        request("large", "3g"),
        request("small", "1g", priority=5),
    )

    assert admitted(solved(given)) == {"small"}


def test_a_gang_is_placed_whole_or_not_at_all() -> None:
    members = [request(f"member-{index}", "4g", gang="gang") for index in range(3)]
    alone = request("alone", "3g")

    assert admitted(solved(problem({"a": [[], []]}, *members, alone))) == {"alone"}
    assert len(admitted(solved(problem({"a": [[], [], []]}, *members, alone)))) == 4


def test_a_request_goes_to_none_but_its_nodes() -> None:
    given = problem(
        {"a": [[]], "b": [[("7g", 0)]]},
        request("here", "1g", nodes=frozenset({"a"})),
        request("there", "1g", nodes=frozenset({"b"})),
        request("nowhere", "1g", nodes=frozenset({"gone"})),
    )

    assert admitted(solved(given)) == {"here"}


def test_a_tenant_is_kept_within_its_cap() -> None:
    given = problem(
        {"a": [[]]},
        *(request(f"vm-{index}", "2g", tenant="team") for index in range(3)),
        caps={"team": 5},
    )

    assert len(admitted(solved(given))) == 2


def test_the_vgpus_of_a_vm_come_together_on_one_node() -> None:
    half = [("4g", 0), ("2g", 4)]
    given = problem(
        {"a": [half], "b": [half], "c": [half, half]},
        request("pair", "1g.20", "1g.20"),
        request("third", "1g.20", "1g.20"),
    )

    outcome = solved(given)

    assert outcome.status is Status.OPTIMAL
    assert {each.node for each in outcome.solution.assignments} == {"c"}
    assert len(admitted(outcome)) == 1


@pytest.mark.parametrize(("spread", "gpus"), [(Spread.SAME, 1), (Spread.DISTINCT, 2)])
def test_the_vgpus_of_a_vm_share_a_gpu_or_do_not_as_it_wants(spread: Spread, gpus: int) -> None:
    given = problem({"a": [[], [("1g", 0)]]}, request("vm", "2g", "2g", spread=spread))

    outcome = solved(given)

    assert outcome.status is Status.OPTIMAL
    assert len({each.gpu for each in outcome.solution.assignments}) == gpus
    assert list(violations(given, outcome.solution)) == []


def test_what_is_required_and_has_no_place_makes_a_problem_infeasible() -> None:
    given = problem({"a": [[("4g", 0)]]}, request("vm", "7g", required=True), request("b", "1g"))

    outcome = solved(given)

    assert outcome.status is Status.INFEASIBLE
    assert outcome.solution.assignments == ()
    assert outcome.levels == ()


def test_without_time_the_greedy_answer_is_feasible_and_nothing_is_claimed_of_it() -> None:
    given = problem({"a": [[], []]}, request("one", "3g"), request("two", "4g"))

    outcome = solved(given, seconds=0.0)

    assert outcome.status is Status.FEASIBLE
    assert admitted(outcome) == {"one", "two"}
    assert [level.bound for level in outcome.levels] == [None, None, None]
    assert score(given, outcome.solution).levels == tuple(e.attained for e in outcome.levels)


def test_without_time_a_required_request_with_no_place_is_unknown_not_infeasible() -> None:
    given = problem({"a": [[("4g", 0)]]}, request("vm", "7g", required=True))

    assert solved(given, seconds=0.0).status is Status.UNKNOWN


def test_the_same_problem_has_the_same_answer() -> None:
    wanted = ("1g", "2g", "3g", "4g", "1g.20", "7g", "1g", "2g")

    def answer() -> object:
        requests = [request(f"vm-{index}", each) for index, each in enumerate(wanted)]
        return solved(problem({"a": [[], [("3g", 4)]], "b": [[("1g", 6)]]}, *requests)).solution

    assert answer() == answer()


def test_the_fuller_node_is_used_first_and_then_the_lower_name() -> None:
    given = problem(
        {"a": [[], []], "b": [[], [("7g", 0)]], "c": [[], [("7g", 0)]]}, request("vm", "7g")
    )

    assert [each.node for each in solved(given).solution.assignments] == ["b"]


def test_names_that_mean_the_same_profile_are_planned_as_one_and_kept_apart_in_the_answer() -> None:
    given = problem({"a": [[("4g", 0)]]}, request("x", "1g"), request("y", "1g+me"))

    outcome = solved(given)

    assert {(each.request, each.wanted) for each in outcome.solution.assignments} == {
        ("x", "1g"),
        ("y", "1g+me"),
    }


@pytest.mark.parametrize("policy", [PolicyName.BEST_FIT, PolicyName.WORST_FIT])
def test_where_placements_cost_no_value_only_what_is_admitted_is_proven(policy: PolicyName) -> None:
    requests = [request("half", "3g"), request("small", "1g"), request("large", "7g")]
    given = Problem(fleet({"a": [[("2g", 0)], []]}, policy), requests)

    outcome = solved(given)

    assert outcome.status is Status.FEASIBLE
    admission, *others = outcome.levels
    assert admission.gap == 0
    assert [level.bound for level in others] == [None, None]
    assert [level.attained for level in outcome.levels] == [*score(given, outcome.solution).levels]


@given(st.sampled_from(Status), st.sampled_from(Status))
def test_two_plans_side_by_side_are_the_best_only_if_each_is(one: Status, other: Status) -> None:
    both = one.beside(other)

    assert both is other.beside(one)
    assert (both is Status.OPTIMAL) == (one is other is Status.OPTIMAL)
    if {one, other} & {Status.OPTIMAL, Status.FEASIBLE}:
        assert both in (Status.OPTIMAL, Status.FEASIBLE)
