"""Learned weights are used only where a paired simulation says that they beat ``default``."""

from __future__ import annotations

from collections.abc import Sequence

from extender.policy import Policy, PolicyName
from extender.simulation.contenders import of_policy
from extender.simulation.demand import Mixed, poisson
from extender.simulation.experiment import WARMUP, Stage, play
from extender.simulation.fleet import Fleet, Kind
from extender.simulation.lifetimes import lifetime
from extender.simulation.paired import difference
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
    accepted: dict[str, list[float]] = {name: [] for name in contenders}
    for _, name, measured in play(stage, contenders, seeds):
        accepted[name].append(50 * (measured.requests + measured.slices))
    gain = difference(accepted["candidate"], accepted["default"])
    return Guarded(candidate if gain.above_zero else Policy(PolicyName.DEFAULT), gain)
