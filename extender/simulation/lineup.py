"""Who takes part, by name; ``learned`` only with the weights that its guard lets decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from extender.policy import Policy, PolicyName
from extender.simulation.contenders import REPACK, Contender, contender, of_policy
from extender.simulation.experiment import Stage
from extender.simulation.guard import guarded
from extender.simulation.paired import Estimate
from extender.simulation.question import TRIALS, Trials
from extender.simulation.trained import nearest


class Lineup(msgspec.Struct, frozen=True):
    """Contenders by name, None for the repacking reference; and what the guard found.

    ``deciding`` is the policy that really decides for those of ours; ``gains`` what learned weights
    gained beyond ``default`` on the guard's demands.
    """

    contenders: Mapping[str, Contender | None]
    deciding: Mapping[str, PolicyName]
    gains: Mapping[str, Estimate]


def lineup(
    names: Iterable[str],
    policies: Mapping[str, Policy],
    stage: Stage,
    load: float,
    trials: Trials = TRIALS,
) -> Lineup:
    """Return the contenders for a stage; *policies* are those that have a name of their own.

    Raises:
        UnknownContender: saying which names there are.
    """
    contenders: dict[str, Contender | None] = {}
    deciding: dict[str, PolicyName] = {}
    gains: dict[str, Estimate] = {}
    for name in names:
        policy = policies.get(name)
        if policy is None and name == PolicyName.LEARNED and len(stage.fleet.groups) == 1:
            policy = nearest(stage.fleet.groups[0].geometry, stage.observed)
            if policy is not None:
                judged = guarded(policy, stage.fleet, stage.kinds, stage.shares, load, trials)
                policy, gains[name] = judged.policy, judged.gain
        if policy is not None:
            observed = msgspec.structs.replace(policy, demand=policy.demand or stage.observed)
            contenders[name] = of_policy(observed)
            deciding[name] = policy.effective
        elif name == REPACK:
            contenders[name] = None
        else:
            contenders[name] = contender(name, stage.observed)
            if name in set(PolicyName):
                deciding[name] = Policy(PolicyName(name)).effective
    return Lineup(contenders, deciding, gains)
