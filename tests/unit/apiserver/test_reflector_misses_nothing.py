"""What a reflector confirms is true, whatever happens in between."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.apiserver.memory import Call, InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, ApiError, PatchType
from nodeagent.apiserver.reflector import (
    Change,
    Confirmed,
    Deleted,
    Interrupted,
    Pace,
    Replaced,
    Upserted,
)
from tests.unit.apiserver.following import LOST, create, reflecting

NAMES = "abc"


class Mirror:
    """What somebody knows who follows the changes."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.version = 0
        self.current = False

    def apply(self, change: Change) -> None:
        self.current = not isinstance(change, Interrupted)
        match change:
            case Replaced(objects, version):
                self.objects = {one.name: one.raw for one in objects}
                self.version = int(version)
            case Upserted(one):
                self.objects[one.name] = one.raw
            case Deleted(one):
                del self.objects[one.name]
            case Confirmed(version):
                self.version = int(version)


class World:
    """An API server whose every state is remembered, and a mirror that follows it."""

    def __init__(self, api: InMemoryApi) -> None:
        self.api = api
        self.mirror = Mirror()
        self.past: dict[int, dict[str, bytes]] = {}

    async def remember(self) -> int:
        page = await self.api.list(GPU_NODES, label_selector="on=yes", limit=0)
        version = int(page.resource_version)
        self.past[version] = {json.loads(raw)["metadata"]["name"]: raw for raw in page.items}
        return version

    def check(self, change: Change) -> None:
        """See that what is confirmed is what was."""
        self.mirror.apply(change)
        if isinstance(change, Confirmed | Replaced):
            then = max(version for version in self.past if version <= self.mirror.version)
            assert self.mirror.objects == self.past[then]

    async def write(self, name: str, action: str) -> None:
        """Do *action*, if it can be done."""
        with contextlib.suppress(ApiError):
            match action:
                case "on" | "off":
                    labels = {"on": "yes" if action == "on" else None}
                    await self.api.patch(
                        GPU_NODES,
                        name,
                        {"metadata": {"labels": labels}},
                        patch_type=PatchType.MERGE,
                    )
                case "create":
                    await create(self.api, name, on="yes")
                case "create off":
                    await create(self.api, name)
                case "change":
                    await self.api.patch(GPU_NODES, name, [CHANGE], patch_type=PatchType.JSON)
                case "delete":
                    await self.api.delete(GPU_NODES, name)


CHANGE = {"op": "add", "path": "/spec/changed", "value": "yes"}
ACTIONS = ["create", "create off", "change", "on", "off", "delete"]

writes = st.tuples(st.sampled_from(NAMES), st.sampled_from(ACTIONS))
faults = st.sampled_from(["drop", "break", "compact", "fail"])
steps = st.lists(writes | faults | st.integers(1, 3), max_size=25)


@given(steps)
async def test_what_is_confirmed_is_true_whatever_happens(
    steps: list[tuple[str, str] | str | int],
) -> None:
    """Writes, faults and numbers of changes to follow come in any order; the end is known."""
    world = World(api := InMemoryApi(bookmark_every=1e-6))
    failing = False

    async def fail_once(call: Call) -> None:
        nonlocal failing
        if failing:
            failing = False
            raise LOST

    await world.remember()
    async with reflecting(api, label_selector="on=yes", pace=Pace(page_size=1)) as following:
        for step in steps:
            match step:
                case (name, action):
                    await world.write(name, action)
                    await world.remember()
                case int(changes):
                    api.disturbance = fail_once
                    for _ in range(changes):
                        world.check(await following())
                    api.disturbance = None
                case "drop":
                    api.drop_watches()
                case "break":
                    api.drop_watches(LOST)
                case "compact":
                    api.compact()
                case "fail":
                    failing = True
        end = await world.remember()
        while not (world.mirror.current and world.mirror.version >= end):
            world.check(await following())
    assert world.mirror.objects == world.past[end]


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(7))
async def test_an_interruption_of_any_call_loses_nothing(step: int, done: bool) -> None:
    world = World(api := InMemoryApi(bookmark_every=1e-6))
    for name in NAMES:
        await create(api, name, on="yes")
    await world.remember()
    calls = 0

    async def fail_at_step(call: Call) -> None:
        nonlocal calls
        if call.done == done:
            calls += 1
            if calls - 1 == step:
                raise LOST

    async with reflecting(api, label_selector="on=yes", pace=Pace(page_size=1)) as following:
        for name, action in [("a", "delete"), ("b", "off"), ("d", "create"), ("c", "change")]:
            api.disturbance = fail_at_step
            world.check(await following())
            world.check(await following())
            api.disturbance = None
            api.drop_watches()
            await world.write(name, action)
            end = await world.remember()
        while not (world.mirror.current and world.mirror.version >= end):
            world.check(await following())
    assert calls > step
    assert set(world.mirror.objects) == {"c", "d"}
