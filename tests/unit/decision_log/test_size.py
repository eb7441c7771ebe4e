"""What a decision about thousands of nodes costs in the log."""

from __future__ import annotations

import random
from collections.abc import Sequence

from extender.decision_log.encoding import Encoder
from extender.decision_log.files import compressed
from extender.request import Request
from extender.service.hooks import Judged
from extender.service.seam import Call
from nodeagent.api.gpunode import PodRef

NODES = [f"gpu-node-{index:05}" for index in range(5_000)]
CALLS = 20


def judged(number: int, names: Sequence[str]) -> Call:
    """Half of the nodes pass, half have no room."""
    request = Request(PodRef("tenants", f"vm-{number}", f"uid-{number}"), ("nvidia.com/x",))
    half = len(names) // 2
    refused = dict.fromkeys(names[half:], "vGPU: no free placement for x")
    found = Judged(tuple(names[:half]), refused)
    return Call("Hooks.judge", (request, tuple(names)), {}, (1.0,), found)


def bytes_a_call(calls: Sequence[Call]) -> float:
    encoder = Encoder("policy")
    return len(compressed(b"".join(b"".join(encoder.lines(each)) for each in calls))) / len(calls)


def test_names_in_another_order_each_time_cost_some_kilobytes() -> None:
    chance = random.Random(1)
    calls = [judged(number, chance.sample(NODES, len(NODES))) for number in range(CALLS)]

    assert bytes_a_call(calls) < 16_000


def test_names_that_were_sent_before_cost_nothing() -> None:
    calls = [judged(number, list(NODES)) for number in range(CALLS)]

    assert bytes_a_call(calls) < 1_500
