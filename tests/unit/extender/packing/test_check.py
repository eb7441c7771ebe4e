"""The judge finds every planted violation, and nothing wrong with what is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest

from extender.packing.check import Refuted, certify, score, violations
from extender.packing.problem import Assignment, Request
from extender.packing.spread import Spread
from extender.packing.violations import (
    BrokenGang,
    IllegalPlacement,
    NodeNotAllowed,
    NotPlaced,
    NotServed,
    OverCap,
    Overlap,
    SplitOverNodes,
    TooManyInstances,
    UnknownGpu,
    UnknownRequest,
    Violation,
    WrongCount,
    WrongSpread,
)
from nodeagent.api.geometry import Placement
from tests.unit.extender.packing.problems import Held, assigned, problem, request, solution

NODES: Mapping[str, Sequence[Held]] = {"a": [[("4g", 0)], []], "b": [[]]}
"""Half of a0 is taken; a1 and b0 are empty."""


def test_a_legal_solution_has_nothing_wrong() -> None:
    given = problem(
        NODES,
        request("vm", "3g"),
        request("pair", "1g", "1g", spread=Spread.DISTINCT, nodes=frozenset({"a"})),
        request("left-out", "7g", gang="g"),
        request("left-out-too", "7g", gang="g"),
        caps={"team": 0},
    )

    answer = solution(
        assigned("vm", "3g", "b0", 4),
        assigned("pair", "1g", "a0", 6),
        assigned("pair", "1g", "a1", 6),
    )

    assert list(violations(given, answer)) == []


@pytest.mark.parametrize(
    ("planted", "requests", "assignments"),
    [
        (UnknownRequest("ghost"), [], [assigned("ghost", "1g", "b0", 6)]),
        (
            UnknownGpu("vm", "b", "b7"),
            [request("vm", "1g")],
            [assigned("vm", "1g", "b7", 6)],
        ),
        (
            NotServed("vm", "1g", "b0", 14),
            [request("vm", "1g")],
            [Assignment("vm", "1g", "b", "b0", 14, Placement(4, 2))],
        ),
        (
            IllegalPlacement("vm", "b0", 14, Placement(6, 2)),
            [request("vm", "2g")],
            [assigned("vm", "2g", "b0", 6)],
        ),
        (
            Overlap("vm", "a0", Placement(0, 4)),
            [request("vm", "3g")],
            [assigned("vm", "3g", "a0", 0)],
        ),
        (
            Overlap("second", "b0", Placement(2, 2)),
            [request("first", "3g"), request("second", "2g")],
            [assigned("first", "3g", "b0", 0), assigned("second", "2g", "b0", 2)],
        ),
        (
            TooManyInstances("vm", "b0", 20),
            [request("vm", "1g+me", "1g+me")],
            [assigned("vm", "1g+me", "b0", 0), assigned("vm", "1g+me", "b0", 1)],
        ),
        (
            WrongCount("vm"),
            [request("vm", "1g", "2g")],
            [assigned("vm", "2g", "b0", 4)],
        ),
        (
            NodeNotAllowed("vm", "b"),
            [request("vm", "1g", nodes=frozenset({"a"}))],
            [assigned("vm", "1g", "b0", 6)],
        ),
        (
            SplitOverNodes("vm"),
            [request("vm", "1g", "1g")],
            [assigned("vm", "1g", "a1", 6), assigned("vm", "1g", "b0", 6)],
        ),
        (
            WrongSpread("vm"),
            [request("vm", "1g", "1g", spread=Spread.SAME)],
            [assigned("vm", "1g", "a1", 6), assigned("vm", "1g", "a0", 6)],
        ),
        (
            WrongSpread("vm"),
            [request("vm", "1g", "1g", spread=Spread.DISTINCT)],
            [assigned("vm", "1g", "b0", 6), assigned("vm", "1g", "b0", 5)],
        ),
        (
            BrokenGang("gang"),
            [request("one", "1g", gang="gang"), request("two", "1g", gang="gang")],
            [assigned("one", "1g", "b0", 6)],
        ),
        (
            OverCap("team", 4, 3),
            [request("vm", "3g", tenant="team")],
            [assigned("vm", "3g", "b0", 4)],
        ),
        (NotPlaced("vm"), [request("vm", "1g", required=True)], []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, msgspec.Struct) else "",
)
def test_a_planted_violation_is_found_and_nothing_else(
    planted: Violation, requests: list[Request], assignments: list[Assignment]
) -> None:
    given = problem(NODES, *requests, caps={"team": 3})

    assert list(violations(given, solution(*assignments))) == [planted]


def test_a_score_counts_slices_by_priority_then_value_then_gpus_newly_used() -> None:
    given = problem(
        NODES, request("low", "3g"), request("high", "2g", priority=7), request("out", "7g")
    )

    worth = score(given, solution(assigned("low", "3g", "a0", 4), assigned("high", "2g", "b0", 4)))

    assert worth.admitted == ((7, 2), (0, 4))
    # a0, half full, had 4 slices of no use to 7g and 4g each, 2 to 2g, 1 to 1g: full, it has none.
    # b0 empty had 4 of no use to 4g, 2 to 2g, 1 to 1g. With 4 and 5 taken, 7g loses 6; 4g, 3g and
    # 2g lose 6 and 7; 1g loses 7, as before.
    assert worth.value == (4 + 4 + 2 + 1) + (4 + 2 + 1) - (6 + 2 + 2 + 2 + 1)
    assert worth.newly_used == 1
    assert worth.levels == (2, 4, worth.value, -1)


def test_what_is_legal_and_worth_its_claim_is_certified() -> None:
    given = problem(NODES, request("vm", "3g"))
    legal = solution(assigned("vm", "3g", "b0", 4))

    certify(given, legal, score(given, legal).levels)
    certify(given, legal, ())


def test_a_claim_that_is_not_what_a_solution_is_worth_is_refuted() -> None:
    given = problem(NODES, request("vm", "3g"))
    legal = solution(assigned("vm", "3g", "b0", 4))
    admitted, value, gpus = score(given, legal).levels

    for claimed in ((admitted + 1, value, gpus), (admitted, value + 1, gpus), (admitted, value)):
        with pytest.raises(Refuted, match="slices admitted"):
            certify(given, legal, claimed)


def test_a_solution_that_breaks_a_rule_is_refuted_whatever_it_claims() -> None:
    given = problem(NODES, request("vm", "3g"))

    with pytest.raises(Refuted, match=r"1 violations, the first: Overlap"):
        certify(given, solution(assigned("vm", "3g", "a0", 0)), ())
