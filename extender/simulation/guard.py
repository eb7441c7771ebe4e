"""Learned weights are used only where a paired simulation says that they beat ``default``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from extender.policy import Policy, PolicyName
from extender.simulation.contenders import of_policy
from extender.simulation.demand import Mixed, poisson
from extender.simulation.experiment import WARMUP, Stage, play
from extender.simulation.fleet import Fleet, Kind
from extender.simulation.lifetimes import lifetime
from extender.simulation.measures import Measures
from extender.simulation.paired import Estimate, difference
from extender.simulation.question import TRIALS, Guarded, Trials


def guarded(
    candidate: Policy,
    fleet: Fleet,
    kinds: Sequence[Kind],
    shares: Sequence[float],
    load: float,
    trials: Trials = TRIALS,
) -> Guarded:
    """Try *candidate* on the observed mix, *shares* by kind, on demands of the guard's own."""
    stage = Stage(
        fleet,
        tuple(kinds),
        tuple(shares),
        lambda seed: poisson(
            kinds,
            [Mixed(tuple(shares))],
            lifetime("exponential"),
            arrivals=WARMUP + trials.arrivals,
            slices=fleet.memory_slices,
            load=load,
            seed=seed,
        ),
    )
    contenders = {
        "candidate": of_policy(candidate),
        "default": of_policy(Policy(PolicyName.DEFAULT)),
    }
    seeds = range(trials.first_seed, trials.first_seed + trials.seeds)
    played: dict[str, list[Measures]] = {name: [] for name in contenders}
    for _, name, measured in play(stage, contenders, seeds):
        played[name].append(measured)
    return verdict(candidate, played["candidate"], played["default"])


def verdict(candidate: Policy, ours: Sequence[Measures], theirs: Sequence[Measures]) -> Guarded:
    """Judge *candidate* by what it and ``default`` accepted, demand by demand.

    It must accept more on average of requests and slices, and may not pay for more of the one with
    fewer of the other: that would be big VMs refused for small ones, or small ones for big ones.
    """

    def beyond(accepted: Callable[[Measures], float]) -> Estimate:
        return difference([accepted(each) for each in ours], [accepted(each) for each in theirs])

    found = Guarded(
        candidate,
        beyond(lambda each: 50 * (each.requests + each.slices)),
        min(beyond(lambda each: each.requests).mean, beyond(lambda each: each.slices).mean) < 0,
    )
    if found.better:
        return found
    return msgspec.structs.replace(found, policy=Policy(PolicyName.DEFAULT))
