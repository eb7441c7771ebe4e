"""What owners of VMs do with the pods that they make again."""

from __future__ import annotations

import random

from tests.chaos import loop as loops
from tests.chaos.cluster import ROOMY, Cluster
from tests.chaos.loop import SeededLoop
from tests.chaos.orders import applying
from tests.chaos.owners import ASTRAY

PODS = 20


def test_a_pod_that_is_made_when_nothing_more_goes_wrong_may_go_to_any_node() -> None:
    chance = random.Random(1)

    async def told(loop: SeededLoop) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
        cluster = Cluster(loop, chance, gpus=ROOMY, policy=applying(0.0))
        await cluster.start()
        assert cluster.owners is not None
        before = {cluster.owners.nodes(ASTRAY) for _ in range(PODS)}
        await cluster.heal()
        return before, {cluster.owners.nodes(ASTRAY) for _ in range(PODS)}

    before, after = loops.run(told, chance)

    assert before == {(), ("node-1",), ("node-2",)}
    assert after == {()}
