"""Training: the trial boards are those of the policy, and the search goes uphill."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from extender.packing.learned import coefficients, features
from extender.packing.states import Layout
from extender.policy import Policy, PolicyName
from extender.simulation.contenders import of_policy
from extender.simulation.guard import guarded
from extender.simulation.question import Trials
from extender.simulation.scenario import Scenario, stage
from extender.simulation.trained import nearest
from extender.simulation.training import Effort, by_values, train, valued
from tests.builders import H100

SMALL = Effort(generations=3, vectors=8, elite=3, seeds=2, arrivals=300, warmup=100)
FEW = Trials(seeds=4, arrivals=2_000)


def learned(mix: str) -> Policy:
    policy = nearest(H100.geometry, stage(Scenario(mix=mix)).observed)
    assert policy is not None
    assert policy.weights is not None
    return policy


@pytest.mark.parametrize("mix", ["uniform", "no-4g"])
def test_a_trial_board_is_the_board_of_the_policy_with_these_weights(mix: str) -> None:
    on = stage(Scenario(mix=mix))
    policy = learned(mix)
    assert policy.weights is not None
    expected = of_policy(policy).board(on.fleet, on.kinds)
    other = of_policy(learned("skew-big")).board(on.fleet, on.kinds)
    table = np.array([features(H100.geometry, s) for _, s in other.states if isinstance(s, Layout)])

    made = by_values(other, valued(table, np.array(coefficients(H100.geometry, policy.weights))))

    assert made.states == expected.states
    assert made.slot == expected.slot != other.slot
    for ours, theirs in zip(made.rank, expected.rank, strict=True):
        assert ours.tolist() == theirs.tolist()


def test_training_is_repeatable_and_finds_better_weights_than_its_first_guess() -> None:
    on = stage(Scenario(gpus=8))
    heard: list[tuple[int, float]] = []

    tuned = train(on.fleet, on.kinds, on.shares, SMALL, lambda *each: heard.append(each))
    again = train(on.fleet, on.kinds, on.shares, SMALL, lambda *_: None)

    assert tuned == again
    assert [generation for generation, _ in heard] == [1, 2, 3]
    guess = msgspec.structs.replace(SMALL, generations=0)
    first = train(on.fleet, on.kinds, on.shares, guess, lambda *_: None)
    judged = {
        weights: guarded(
            Policy(PolicyName.LEARNED, weights=weights), on.fleet, on.kinds, on.shares, 0.85, FEW
        )
        for weights in (tuned, first)
    }
    assert judged[tuned].gain.mean > judged[first].gain.mean


def test_training_can_begin_where_other_weights_are() -> None:
    on = stage(Scenario(gpus=8))
    start = learned("uniform").weights
    none = msgspec.structs.replace(SMALL, generations=0)

    assert train(on.fleet, on.kinds, on.shares, none, lambda *_: None, start=start) == start


def test_what_is_not_certainly_better_than_default_is_not_used() -> None:
    on = stage(Scenario(gpus=8))

    judged = guarded(Policy(PolicyName.DEFAULT), on.fleet, on.kinds, on.shares, 0.85, FEW)

    assert judged.gain.mean == 0
    assert not judged.better
