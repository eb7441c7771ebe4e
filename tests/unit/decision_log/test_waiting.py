"""What waits is bounded by what it keeps in memory, and what finds no room is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from extender.decision_log.waiting import (
    CALL_BYTES,
    MOST_BYTES,
    NAME_BYTES,
    VALUE_BYTES,
    Waiting,
    weighed,
)
from extender.ledger import Ledger, Promise
from extender.service.hooks import Judged
from extender.service.seam import Call
from extender.verbs.prioritize import Ranked
from extender.wire import MetaPod, MetaVictims
from nodeagent.api.gpunode import Gpu, GpuNode, Inventory, Metadata, VgpuType

NAMES = tuple(f"node-{n}" for n in range(1_000))


def call(*args: object, outcome: object = None, **named: object) -> Call:
    return Call("Knowledge.lease", args, named, (), outcome)


def gpu_node(gpus: int) -> GpuNode:
    kinds = {"a": tuple(VgpuType(f"type-{n}", n) for n in range(20))}
    found = tuple(Gpu(f"GPU-{n}", f"0000:{n:02}", "H100", "a", "a") for n in range(gpus))
    return GpuNode(Metadata("node-1"), status=Inventory(vgpu_types=kinds, gpus=found))


def taken(waiting: Waiting) -> list[Any]:
    return [waiting.take() for _ in range(len(waiting))]


def test_a_gap_lies_between_what_came_before_and_after() -> None:
    calls = [call(str(n)) for n in range(5)]
    waiting = Waiting(2 * weighed(calls[0]))
    for each in calls[:4]:
        waiting.put(each)
    assert waiting.take() == calls[0]
    waiting.put(calls[4])

    assert taken(waiting) == [calls[1], 2, calls[4]]
    assert (waiting.heard, waiting.refused, waiting.untold, waiting.bytes) == (5, 2, 0, 0)


def test_what_found_no_room_last_is_known() -> None:
    waiting = Waiting(0)
    waiting.put(call("a"))

    assert (len(waiting), waiting.untold) == (0, 1)


@pytest.mark.parametrize(
    "large",
    [
        call(NAMES),
        call(frozenset(NAMES)),
        call(names=list(NAMES)),
        call(outcome=Judged(passed=NAMES)),
        call(outcome=Judged(refused=dict.fromkeys(NAMES, "full"))),
        call(outcome=Ranked(dict.fromkeys(NAMES, 1))),
        call(labels=dict.fromkeys(NAMES, "value")),
        call({"node": MetaVictims(tuple(map(MetaPod, NAMES)))}),
        call(outcome=dict.fromkeys(NAMES, MetaVictims())),
    ],
)
def test_a_thousand_names_weigh_what_they_are_wherever_they_are(large: Call) -> None:
    assert weighed(large) >= len(NAMES) * NAME_BYTES


def test_ledgers_weigh_by_their_promises() -> None:
    promise = Promise("node-1", ())
    full = Ledger(assumed=dict.fromkeys(NAMES, promise))

    assert weighed(call(Ledger(), full)) - weighed(call(Ledger(), Ledger())) >= 40 * len(NAMES)


def test_gpu_nodes_weigh_by_what_is_on_them() -> None:
    assert weighed(call(gpu_node(8))) > weighed(call(gpu_node(1))) > 20 * 400


def test_what_is_of_one_size_weighs_something() -> None:
    assert weighed(call(object())) >= CALL_BYTES + VALUE_BYTES


def of_memory(calls: Sequence[Call]) -> int:
    return sum(map(weighed, calls))


def test_a_busy_second_of_a_large_cluster_finds_room() -> None:
    names = tuple(f"node-{n}" for n in range(5_000))
    second = [call(names, outcome=Judged(passed=names))] * 30 + [call(gpu_node(8))] * 500

    assert of_memory(second) < MOST_BYTES
