"""An agent that has come after another, and has yet to tell what still holds of its word."""

from __future__ import annotations

import msgspec
import pytest

from nodeagent.api import keys
from nodeagent.api.gpunode import Condition, Failed, Inventory, Realized
from tests.builders import assignment, gpu_node, view
from tests.fakes.world import QUICK, World, bind_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

HASTY = msgspec.structs.replace(
    QUICK,
    http_timeout_seconds=2.1,
    binding_start_margin_seconds=1.5,
    binding_timeout_seconds=1.0,
)
"""A bind waits 0.5 s for its GPU instance; 1.5 s are left for what it does besides."""

NOT_READY = "vGPU: the GPU instance is not ready yet, its place stays reserved"


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


@pytest.mark.parametrize(
    ("agent", "counts"), [("epoch", True), ("life-2", False), ("", True)], ids=repr
)
def test_what_was_realized_counts_if_the_agent_that_told_it_is_the_one_that_lives(
    agent: str, counts: bool
) -> None:
    told = gpu_node(plan=[assignment("a", 19, 0)], realized=[Realized("a")])

    assert msgspec.structs.replace(view(told), agent=agent).realized(["a"]) is counts


@pytest.mark.parametrize(
    ("reason", "counts"),
    [(keys.DRIVER_UNAVAILABLE, False), ("KubeletUnavailable", True)],
)
def test_what_was_realized_does_not_count_while_the_driver_does_not_answer(
    reason: str, counts: bool
) -> None:
    """A GPU may have been reset meanwhile: the agent would not know."""
    told = gpu_node(plan=[assignment("a", 19, 0)], realized=[Realized("a")])
    not_ready = Condition("Ready", "False", reason)
    status = msgspec.structs.replace(told.status, conditions=(not_ready,))

    seen = view(msgspec.structs.replace(told, status=status))

    assert seen.realized(["a"]) is counts


@pytest.mark.parametrize("lives_on", [True, False], ids=["restarted", "rebooted"])
async def test_what_an_earlier_agent_realized_waits_for_the_word_of_the_next(
    world: World, lives_on: bool
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(HASTY) as extender:
        late = await extender.binder.bind(bind_args(pod, "node-1"))
        await world.obey("node-1")
        await world.begin_anew("node-1", "life-2")
        await until(lambda: extender.knowledge.views["node-1"].succeeded)
        early = await extender.binder.bind(bind_args(pod, "node-1"))
        unbound = await world.bound("vm")
        await world.report("node-1", await _of_the_next(world, lives_on=lives_on))
        await until(lambda: not extender.knowledge.views["node-1"].succeeded)
        answer = await extender.binder.bind(bind_args(pod, "node-1"))

    assert (late.error, early.error, unbound) == (NOT_READY, NOT_READY, "")
    if lives_on:
        assert (answer.error, await world.bound("vm")) == ("", "node-1")
    else:
        assert answer.error == "vGPU: the GPU instance cannot be created: the node has rebooted"
        assert (await world.gpu_node("node-1")).spec.assignments == ()


async def test_an_extender_that_starts_in_between_knows_it_at_once(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(HASTY) as extender:
        await extender.binder.bind(bind_args(pod, "node-1"))
    await world.obey("node-1")
    await world.begin_anew("node-1", "life-2")

    async with world.extender(HASTY) as extender:
        answer = await extender.binder.bind(bind_args(pod, "node-1"))

    assert (answer.error, await world.bound("vm")) == (NOT_READY, "")


async def _of_the_next(world: World, *, lives_on: bool) -> Inventory:
    """Return what the next agent tells: the same, or that a reboot has ended all there was."""
    status = msgspec.structs.replace((await world.gpu_node("node-1")).status, agent_epoch="life-2")
    if lives_on:
        return status
    failed = tuple(Failed(each.id, "the node has rebooted") for each in status.realized)
    return msgspec.structs.replace(status, boot_id="next", realized=(), failed=failed)
