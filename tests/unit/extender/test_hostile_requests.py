"""A thousand hostile requests; ``make fuzz`` sends twenty thousand."""

from __future__ import annotations

import random

from tests.fuzz.campaign import campaign
from tests.fuzz.requests import VERBS, hostile
from tests.fuzz.verdict import Verdict


async def test_a_thousand_hostile_requests_do_no_harm() -> None:
    verdict = await campaign(requests=1_000, seed=1, described_share=0.04)

    assert not verdict.wrong, str(verdict)
    assert verdict.sent >= 1_000
    assert verdict.described >= 40
    assert verdict.statuses[200] > 100, "some must get as far as a decision"
    assert verdict.statuses[400] > 100


def test_a_seed_gives_the_same_requests_again() -> None:
    def drawn(seed: int) -> list[bytes]:
        chance = random.Random(seed)
        return [hostile(chance).sent for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_verdict_sees_what_should_not_be() -> None:
    verdict = Verdict(seed=1)
    verdict.answered("filter", 500, b"", b"")
    verdict.answered("prioritize", 200, b'[{"Host":"a","Score":1.5}]', b"")
    verdict.answered("bind", 200, b"{", b"")
    for verb in VERBS:
        verdict.answered(verb, 400, b"", b"")
    verdict.answered("prioritize", 200, b'[{"Host":"a","Score":1}]', b"")

    assert [each.split(",")[0] for each in verdict.wrong] == [
        "filter was answered 500",
        "prioritize answered something else: Expected `int`",
        "bind answered something else: Input data was truncated",
    ]
