"""The guard as a process: learned weights win on their own mix, and lose on another."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import extender.policy
from extender.policy import Policy
from extender.policy.file import read
from extender.service.guarding import NotJudged, in_process
from extender.simulation.judging import judged
from extender.simulation.mixes import KINDS, NAMED, by_kind
from extender.simulation.question import Question, Trials
from nodeagent.api.catalog import MODELS

GEOMETRY = MODELS["H100-80GB"].geometry
STORED = Path(extender.policy.__file__).parent / "weights"


def question(weights: str, mix: str, **fields: object) -> Question:
    """Ask about stored *weights*, on so few requests that only large differences are seen."""
    shares = dict(zip(KINDS, NAMED[mix], strict=True))
    asked = {
        "candidate": read(STORED / f"eight-slices-{weights}.yaml").policy,
        "geometry": GEOMETRY,
        "gpus": 100,
        "mix": tuple((p.name, shares[kind]) for p, kind in by_kind(GEOMETRY) if shares[kind]),
        "load": 1.0,
        "trials": Trials(seeds=8, arrivals=4_000),
        **fields,
    }
    return Question(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weights", "mix", "better"), [("no-4g", "no-4g", True), ("uniform", "very-small", False)]
)
def test_weights_are_better_where_a_paired_simulation_says_so(
    weights: str, mix: str, better: bool
) -> None:
    asked = question(weights, mix)

    found = judged(asked)

    assert found.better is better
    assert abs(found.gain.mean) > (found.gain.ci95 or 0.0), "it is not for want of looking"
    assert found.policy == (asked.candidate if better else Policy(found.policy.name))


async def test_another_process_finds_the_same() -> None:
    asked = question("uniform", "mid", trials=Trials(seeds=2, arrivals=300))

    assert await in_process(asked) == judged(asked)


async def test_a_process_that_fails_is_no_answer() -> None:
    broken = msgspec.structs.replace(question("uniform", "mid"), gpus=0)

    with pytest.raises(NotJudged, match=r"exit status 1: \w+"):
        await in_process(broken)
