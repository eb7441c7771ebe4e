"""Whether learned weights may decide, given what they and the default policy accepted."""

from __future__ import annotations

from collections.abc import Sequence

from extender.policy import Policy, PolicyName, Weights
from extender.simulation.guard import verdict
from extender.simulation.measures import Measures, Tally

CANDIDATE = Policy(PolicyName.LEARNED, weights=Weights((), (), 0.0, 0.0, 0.0, 0.0))
OFTEN = range(12)


def accepted(*, whole: Sequence[int], small: Sequence[int]) -> list[Measures]:
    """What was accepted of 100 whole GPUs of 8 slices and 1,000 single slices, demand by demand."""
    return [
        Measures({"whole": Tally(100, many), "small": Tally(1000, few)}, (8, 1))
        for many, few in zip(whole, small, strict=True)
    ]


DEFAULT = accepted(whole=[90 + at % 2 for at in OFTEN], small=[900 + at % 3 for at in OFTEN])


def test_weights_that_accept_more_of_everything_decide() -> None:
    more = accepted(whole=[92 + at % 2 for at in OFTEN], small=[920 + at % 2 for at in OFTEN])

    judged = verdict(CANDIDATE, more, DEFAULT)

    assert judged.better
    assert judged.policy == CANDIDATE


def test_weights_that_refuse_whole_gpus_for_many_small_instances_do_not_decide() -> None:
    greedy = accepted(whole=[86 + at % 2 for at in OFTEN], small=[926 + at % 2 for at in OFTEN])

    judged = verdict(CANDIDATE, greedy, DEFAULT)

    assert judged.gain.above_zero, "on average of requests and slices it gains"
    assert judged.at_a_price
    assert not judged.better
    assert judged.policy.effective is PolicyName.DEFAULT


def test_weights_that_change_nothing_do_not_decide() -> None:
    judged = verdict(CANDIDATE, DEFAULT, DEFAULT)

    assert not judged.at_a_price
    assert not judged.better
    assert judged.policy.effective is PolicyName.DEFAULT
