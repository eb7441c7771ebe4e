"""``choose`` attains the optimum of the one-request problem, for every state and profile."""

from __future__ import annotations

import time

import pytest

from extender.packing.choose import Bin, Choice, choose
from extender.packing.problem import Fleet, Problem, Request
from extender.packing.solve import Status, solve
from extender.packing.tables import tables
from extender.policy import PolicyName
from nodeagent.api.catalog import MODELS
from tests.builders import reachable


@pytest.mark.parametrize("name", MODELS)
def test_choosing_for_one_request_attains_the_proven_optimum(name: str) -> None:
    """All states at once for a profile, each with a node and a request of its own.

    No choice beats its optimum, so where the sums are equal, every one is. A state without room
    admits nothing, so the admitted slices judge feasibility in the same way.
    """
    geometry = MODELS[name].geometry
    table = tables(geometry, PolicyName.DEFAULT)
    states = sorted(reachable(geometry))
    for profile in geometry.profiles:
        nodes = {
            f"node-{index:03}": [Bin("gpu", table, occupancy, {"vgpu": profile.id})]
            for index, occupancy in enumerate(states)
        }
        requests = [Request(name, ("vgpu",), nodes=frozenset({name})) for name in nodes]
        choices = [choose(bins, ["vgpu"]) for bins in nodes.values()]
        costs = [choice.cost for choice in choices if isinstance(choice, Choice)]

        outcome = solve(Problem(Fleet.of(nodes), requests), seconds=60.0, clock=time.monotonic)

        assert outcome.status is Status.OPTIMAL
        attained = [level.attained for level in outcome.levels][:2]
        assert attained == [profile.size * len(costs), -sum(costs)]


@pytest.mark.parametrize("name", ["H100-80GB", "A30-24GB"])
def test_choosing_among_gpus_in_every_state_attains_the_proven_optimum(name: str) -> None:
    geometry = MODELS[name].geometry
    table = tables(geometry, PolicyName.DEFAULT)
    serves = {profile.name + f"/{profile.id}": profile.id for profile in geometry.profiles}
    bins = [Bin(f"gpu-{i}", table, o, serves) for i, o in enumerate(sorted(reachable(geometry)))]
    for wanted in serves:
        choice = choose(bins, [wanted])
        assert isinstance(choice, Choice)

        problem = Problem(Fleet.of({"node": bins}), [Request("vm", (wanted,))])
        outcome = solve(problem, seconds=60.0, clock=time.monotonic)

        assert outcome.status is Status.OPTIMAL
        assert outcome.levels[1].attained == -choice.cost
