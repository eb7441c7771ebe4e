"""Packing problems for tests: each shows only what it is about."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from extender.packing.choose import Bin
from extender.packing.problem import Assignment, Fleet, Problem, Request, Solution
from extender.packing.solve import Outcome, solve
from extender.packing.tables import tables
from extender.policy import PolicyName
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.occupancy import occupied_by

H100 = MODELS["H100-80GB"].geometry
SERVES = {"7g": 0, "4g": 5, "3g": 9, "2g": 14, "1g.20": 15, "1g": 19, "1g+me": 20}

Held = Sequence[tuple[str, int]]
"""(Resource, start) of what is on a GPU."""


def fleet(nodes: Mapping[str, Sequence[Held]], policy: PolicyName = PolicyName.DEFAULT) -> Fleet:
    """H100s by node; the GPUs of node ``a`` are ``a0``, ``a1``, ..."""
    return Fleet.of(
        {
            name: [
                Bin(
                    f"{name}{index}",
                    tables(H100, policy),
                    occupied_by(H100, [placed(*each) for each in held]),
                    SERVES,
                )
                for index, held in enumerate(gpus)
            ]
            for name, gpus in nodes.items()
        }
    )


def placed(name: str, start: int) -> tuple[int, Placement]:
    return SERVES[name], Placement(start, H100.by_id[SERVES[name]].size)


def request(id: str, *wanted: str, **fields: Any) -> Request:
    return Request(id, wanted, **fields)


def problem(
    nodes: Mapping[str, Sequence[Held]], *requests: Request, caps: Mapping[str, int] | None = None
) -> Problem:
    return Problem(fleet(nodes), requests, caps or {})


def assigned(request: str, wanted: str, gpu: str, start: int) -> Assignment:
    """An assignment on a GPU named as ``fleet`` names it."""
    profile_id, placement = placed(wanted, start)
    return Assignment(request, wanted, gpu.rstrip("0123456789"), gpu, profile_id, placement)


def solution(*assignments: Assignment) -> Solution:
    return Solution(assignments)


def solved(problem: Problem, *, seconds: float = 20.0) -> Outcome:
    return solve(problem, seconds=seconds, clock=time.monotonic)
