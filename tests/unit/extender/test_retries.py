"""Trying again: soon enough, not too often, never too late, and never twice what must be once."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from itertools import count, pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.policy import PolicyName
from extender.service.knowledge import Knowledge
from extender.service.patience import Patience
from extender.service.ports import ClusterUnavailable, PlanConflict
from extender.service.tenure import Tenure
from extender.settings import Settings
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    PODS,
    ApiError,
    Conflict,
    Refused,
    Throttled,
    Unavailable,
)
from tests.builders import gpu_node
from tests.chaos.loop import SeededLoop, seeded_loop
from tests.fakes.world import QUICK, World, bind_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

SETTINGS = Settings()
FIRST, LONGEST = SETTINGS.first_retry_seconds, SETTINGS.longest_retry_seconds


def in_virtual_time(work: Callable[[SeededLoop], Coroutine[Any, Any, Any]]) -> Any:
    loop = seeded_loop(random.Random(0))
    return loop.run_until_complete(work(loop))


def patience_of(
    loop: SeededLoop, *, lasts: float | None = None, chance: float = 0.5, leads_for: float = 1e9
) -> tuple[Patience, Knowledge]:
    tenure = Tenure(loop.time, until=loop.time() + leads_for)
    knowledge = Knowledge(SETTINGS, PolicyName.DEFAULT, clock=loop.time, tenure=tenure)
    until = None if lasts is None else loop.time() + lasts
    return Patience(knowledge, until=until, chance=lambda: chance), knowledge


class Failing:
    """A read that fails with each of *errors* in turn, then answers; ``at`` is when it was made."""

    def __init__(self, loop: SeededLoop, *errors: ClusterUnavailable, takes: float = 0.0) -> None:
        self._loop = loop
        self._errors = list(errors)
        self.at: list[float] = []

    async def __call__(self) -> str:
        self.at.append(self._loop.time())
        if self._errors:
            raise self._errors.pop(0)
        return "answer"


def test_pauses_double_up_to_a_bound() -> None:
    async def work(loop: SeededLoop) -> list[float]:
        read = Failing(loop, *[ClusterUnavailable("500")] * 8)
        patience, _ = patience_of(loop, lasts=1e9, chance=1.0)
        assert await patience.again(read) == "answer"
        return [round(after - before, 6) for before, after in pairwise(read.at)]

    assert in_virtual_time(work) == [min(LONGEST, FIRST * 2**n) for n in range(8)]


def test_what_the_api_server_asks_for_is_waited_besides() -> None:
    async def work(loop: SeededLoop) -> float:
        read = Failing(loop, ClusterUnavailable("429", retry_after=3.0))
        patience, _ = patience_of(loop, lasts=60.0)
        await patience.again(read)
        return read.at[1] - read.at[0]

    assert in_virtual_time(work) == 3.0 + 0.5 * FIRST


@given(
    lasts=st.floats(0.0, 30.0),
    chance=st.floats(0.0, 1.0, exclude_max=True),
    asked=st.lists(st.sampled_from([0.0, 1.0, 5.0]), min_size=1, max_size=40),
)
def test_no_try_begins_when_the_callers_time_is_up(
    lasts: float, chance: float, asked: list[float]
) -> None:
    async def work(loop: SeededLoop) -> list[float]:
        read = Failing(loop, *[ClusterUnavailable("429", retry_after=each) for each in asked])
        patience, _ = patience_of(loop, lasts=lasts, chance=chance)
        try:
            await patience.again(read)
        except ClusterUnavailable:
            assert len(read.at) <= len(asked)
        assert loop.time() <= lasts
        return read.at

    first, *others = in_virtual_time(work)
    assert all(first < lasts for _ in others)
    assert all(each < lasts for each in others)


@pytest.mark.parametrize("why", ["refused", "stopping", "not leading"])
def test_where_another_try_is_no_use_there_is_none(why: str) -> None:
    async def work(loop: SeededLoop) -> int:
        read = Failing(loop, ClusterUnavailable("no", passing=why != "refused"))
        leads_for = -1.0 if why == "not leading" else 1e9
        patience, knowledge = patience_of(loop, lasts=60.0, leads_for=leads_for)
        knowledge.stopping = why == "stopping"
        with pytest.raises(ClusterUnavailable, match="no"):
            await patience.again(read)
        return len(read.at)

    assert in_virtual_time(work) == 1


def test_background_work_is_put_off_after_a_while_and_a_plan_that_keeps_changing_says_so() -> None:
    async def work(loop: SeededLoop) -> float:
        patience, _ = patience_of(loop)
        with pytest.raises(ClusterUnavailable, match="keeps changing"):
            await pauses_for_ever(patience)
        return loop.time()

    async def pauses_for_ever(patience: Patience) -> None:
        for failures in count(1):
            await patience.pause(PlanConflict("moved"), failures)

    assert SETTINGS.retry_seconds - LONGEST <= in_virtual_time(work) <= SETTINGS.retry_seconds


# Over the API server.

ERRORS = {
    "429": Throttled(429, "too many requests"),
    "429 with Retry-After": Throttled(429, "too many requests", retry_after=0.05),
    "500": Unavailable(500, "etcdserver: leader changed"),
    "timeout": Unavailable(0, "no answer in time"),
}
CALLS = {
    "the pod is read": ("get", PODS, ""),
    "the plan is written": ("patch", GPU_NODES, ""),
    "the pod is bound": ("create", PODS, "binding"),
}
PATIENT = msgspec.structs.replace(QUICK, http_timeout_seconds=6.0)


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


def failing(world: World, what: tuple[str, Any, str], *errors: ApiError, done: bool) -> list[Call]:
    """Have so many of such calls fail, before or after they took effect; return all of them."""
    seen: list[Call] = []
    left = list(errors)

    async def fail(call: Call) -> None:
        if (call.verb, call.kind, call.subresource) == what and call.done is done:
            seen.append(call)
            if left:
                raise left.pop(0)

    world.api.disturbance = fail
    return seen


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("what", CALLS.values(), ids=CALLS)
async def test_one_bind_gets_over_what_passes(
    world: World, what: tuple[str, Any, str], error: ApiError
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(PATIENT) as extender, world.obedient("node-1"):
        seen = failing(world, what, error, error, error, done=False)
        answer = await extender.binder.bind(bind_args(pod, "node-1"))
        world.api.disturbance = None

    assert answer.error == ""
    assert len(seen) >= 4
    (entry,) = (await world.gpu_node("node-1")).spec.assignments
    assert [each.id for each in await world.decision("vm")] == [entry.id]


@pytest.mark.parametrize("error", [ERRORS["500"], ERRORS["timeout"]], ids=["500", "timeout"])
@pytest.mark.parametrize("what", ["the plan is written", "the pod is bound"])
async def test_what_was_done_though_the_answer_says_otherwise_is_not_done_again(
    world: World, what: str, error: ApiError
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(PATIENT) as extender, world.obedient("node-1"):
        seen = failing(world, CALLS[what], error, done=True)
        answer = await extender.binder.bind(bind_args(pod, "node-1"))
        world.api.disturbance = None
        generation = (await world.gpu_node("node-1")).metadata.generation

    assert answer.error == ""
    assert len(seen) == 1
    assert generation == 2  # the plan was written once


async def test_a_conflict_that_is_none_is_tried_again(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    conflict = Conflict(409, "the object has been modified")
    async with world.extender(PATIENT) as extender, world.obedient("node-1"):
        seen = failing(world, CALLS["the plan is written"], conflict, conflict, done=False)
        answer = await extender.binder.bind(bind_args(pod, "node-1"))
        world.api.disturbance = None

    assert answer.error == ""
    assert len(seen) == 3


@pytest.mark.parametrize("what", CALLS.values(), ids=CALLS)
async def test_an_api_server_that_never_has_time_gets_an_answer_to_the_scheduler_in_time(
    world: World, what: tuple[str, Any, str]
) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(QUICK) as extender, world.obedient("node-1"):
        seen = failing(world, what, *[ERRORS["429"]] * 1000, done=False)
        began = extender.knowledge.clock()
        answer = await extender.binder.bind(bind_args(pod, "node-1"))
        took = extender.knowledge.clock() - began
        world.api.disturbance = None

    assert "too many requests" in answer.error
    assert took < QUICK.http_timeout_seconds
    assert 3 < len(seen) < 60  # pauses, not a storm
    assert await world.bound("vm") == ""


async def test_a_call_that_is_forbidden_is_made_once(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(PATIENT) as extender:
        forbidden = Refused(403, "gpunodes is forbidden")
        seen = failing(world, CALLS["the plan is written"], *[forbidden] * 9, done=False)
        answer = await extender.binder.bind(bind_args(pod, "node-1"))
        world.api.disturbance = None

    assert "forbidden" in answer.error
    assert len(seen) == 1


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_a_place_is_given_back_over_what_passes(world: World, error: ApiError) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(PATIENT) as extender, world.obedient("node-1"):
        assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""
        await until(lambda: pod["metadata"]["uid"] in extender.knowledge.pods)
        seen = failing(world, CALLS["the plan is written"], error, error, done=False)
        await world.delete_pod(pod)
        await world.plan_holds(0)
        world.api.disturbance = None

    assert len(seen) == 3


async def test_a_stale_view_of_the_plan_costs_another_look_and_not_the_bind(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(PATIENT) as extender, world.obedient("node-1"):
        stale = gpu_node("node-1", generation=7, uid="of another")
        extender.knowledge.views["node-1"] = msgspec.structs.replace(
            extender.knowledge.views["node-1"], node=stale
        )
        answer = await extender.binder.bind(bind_args(pod, "node-1"))

    assert answer.error == ""
