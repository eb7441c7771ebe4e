"""What pods have lost with a plan decides for others: a log says so from any of its states on."""

from __future__ import annotations

import msgspec
import pytest

from extender.decision_log import Names
from nodeagent.apiserver.protocol import GPU_NODES
from tests.builders import gpu_node
from tests.fakes.world import QUICK, World
from tests.unit.decision_log.test_reproduction import scheduled
from tests.unit.decision_log.test_restating import EVERY, Looker
from tests.unit.extender.test_restoring import deleted, planned, seen, without_answers
from tests.waiting import until

pytestmark = pytest.mark.virtual_time


async def test_decisions_beside_what_was_lost_come_out_the_same() -> None:
    looker, world = Looker(QUICK, names=Names()), World()
    await world.add_node("node-1")
    entry = await planned(world, "a")
    whole, small = await world.add_pod("b", "7-80C"), await world.add_pod("c", "1-10C")
    async with world.extender(QUICK, witness=looker) as service:
        looker.knowledge = knowledge = service.knowledge
        await seen(service, entry)
        with without_answers(world):
            await deleted(world)
            body = {"metadata": {"name": "node-1"}, "spec": {}}
            await world.api.create(GPU_NODES, body)
            await world.report("node-1", gpu_node("node-1").status)
            await until(lambda: "node-1" in knowledge.views and knowledge.views["node-1"].usable)
            begun = len(looker.calls)
            for _ in range(EVERY + 1):
                await scheduled(service, whole)
            assert knowledge.ledger.lost
            beside = range(begun, len(looker.calls))
            knowledge.forget_lost("node-1", msgspec.to_builtins(entry)["pod"]["uid"])
            await scheduled(service, small)
    told = {n: looker.resumed(n) for n in looker.states}

    assert looker.replayed().exact
    assert [(n, each.different) for n, each in told.items() if not each.exact] == []
    assert told.keys() & {*beside}, "a state while it was lost"
