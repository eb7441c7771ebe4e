"""A shadow beside an extender that binds: the process hears of it, and says what it would do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from extender.shadow import Shadow, State
from tests.fakes.world import World, bind_args, filter_args
from tests.replayed import HEAD
from tests.waiting import until

FIRST = f"{HEAD}value: first-fit\n"


async def test_what_is_bound_is_counted_as_both_decide_about_it() -> None:
    world = World()
    await world.add_node("node-1")
    async with world.extender() as extender:
        shadow = Shadow(
            extender.knowledge,
            FIRST.encode,
            source="shadow.yaml",
            utc_now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )
        running = asyncio.create_task(shadow.run())
        await until(lambda: shadow.standing().state is State.RUNNING)
        async with world.obedient("node-1"):
            for name in ("one", "two"):
                pod = await world.add_pod(name, "3-40C")
                assert extender.hooks.filter(filter_args(pod, "node-1")).node_names
                assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""

        def decided() -> int:
            found = shadow.standing().evidence
            return 0 if found is None else found.agreement.decided

        await until(lambda: decided() == 2, within=90.0)
        found = shadow.standing().evidence
        running.cancel()
        await asyncio.wait([running])

    assert found is not None
    assert found.refusals.live == 0
    assert found.refusals.asked == found.agreement.placed_by_both == 2
    assert set(found.profiles) == {"3g.40gb"}
    assert extender.knowledge.seam.quiet
