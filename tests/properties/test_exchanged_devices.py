"""VMs of one type that come back together: whatever the kubelet gives to whom, and whoever sees it
when, each has one entry in the plan for each device, no device is two VMs', and nobody waits.
"""

from __future__ import annotations

import asyncio
from itertools import cycle

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.properties.exchanging import DISTURBING, DUE, Vm, World

picks = st.lists(st.integers(0, 6), min_size=1, max_size=12)
disturbances = st.lists(st.tuples(st.sampled_from(DISTURBING), st.integers(0, 4)), max_size=3)
rounds = st.lists(st.tuples(disturbances, st.permutations(DUE)), max_size=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    counts=st.sampled_from([(1, 1, 1, 1), (1, 1, 1, 1, 1), (2, 1, 2), (1, 2, 1)]),
    kept=st.integers(0, 5),
    rounds=rounds,
    picks=picks,
)
def test_whatever_is_given_to_whom_and_seen_when_each_has_its_own(
    counts: tuple[int, ...],
    kept: int,
    rounds: list[tuple[list[tuple[str, int]], list[str]]],
    picks: list[int],
) -> None:
    async def happens() -> None:
        world = World([Vm(f"vm-{n}", count) for n, count in enumerate(counts)], kept=kept)
        given = cycle(picks)
        await world.round(["a VM starts"], given)
        for disturbed, due in rounds:
            for event, vm in disturbed:
                await world.happen(event, vm)
                world.check()
            await world.round(due, given)
        for _ in range(2):
            await world.settle(given)
        world.check_settled()

    asyncio.run(happens())
