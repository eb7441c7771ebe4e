"""What keeps failing is avoided, longer and longer, and trusted again once it does not."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.planning.joint import Limits, Waiting, joint_plan
from extender.service import Service
from extender.service.avoidance import (
    WRITTEN_WITHIN_SECONDS,
    Avoidance,
    Circuit,
    Strikes,
)
from extender.service.ports import ClusterUnavailable, PlanConflict
from extender.service.trust import Trust
from extender.settings import Settings
from extender.verbs.preempt import sufficient
from extender.verbs.verdicts import Code, Refused, verdict
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import Unavailable
from tests.builders import assignment, request, view
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

FIRST, LONGEST = 60.0, 900.0
SETTINGS = Settings(circuit_failures=3, circuit_seconds=30.0, circuit_longest_seconds=600.0)
FAILING = "vGPU: the node's agent keeps failing to create GPU instances"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def struck(strikes: Strikes, now: float) -> Strikes:
    return strikes.again(now=now, first=FIRST, longest=LONGEST)


# How long.


def test_each_failure_is_avoided_twice_as_long_up_to_a_bound() -> None:
    strikes, lasted, now = Strikes(), [], 0.0
    for _ in range(6):
        strikes = struck(strikes, now)
        lasted.append(strikes.until - now)
        now = strikes.until

    assert lasted == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]


@given(
    st.lists(st.floats(0.0, 20_000.0), min_size=1, max_size=20).map(sorted),
    st.floats(0.0, 20_000.0),
)
def test_the_longer_nothing_failed_the_less_earlier_failures_count(
    times: list[float], longer: float
) -> None:
    strikes = Strikes()
    for now in times:
        before, strikes = strikes, struck(strikes, now)
        assert now + FIRST <= strikes.until <= now + LONGEST
        assert strikes.count <= before.count + 1

    later = times[-1] + longer
    soon, late = struck(strikes, times[-1]), struck(strikes, later)
    assert late.until - later <= soon.until - times[-1] + 1e-6  # sums of floats
    forgotten = struck(strikes, strikes.until + LONGEST * strikes.count + 1.0)
    assert forgotten.count == 1


def test_a_gpu_that_works_again_is_as_good_as_any() -> None:
    clock = Clock()
    avoidance = Avoidance(SETTINGS, clock)
    avoidance.gpu_failed("GPU-0")
    assert avoidance.gpu_failed("GPU-0") == 120.0
    avoidance.succeeded("node-1", ["GPU-0"])

    assert avoidance.gpu_failed("GPU-0") == 60.0


# The circuit.


def opened(at: float = 0.0) -> Circuit:
    circuit = Circuit()
    for n in range(SETTINGS.circuit_failures):
        circuit = circuit.failed(f"{at}-{n}", now=at, settings=SETTINGS)
    return circuit


def test_a_circuit_opens_after_so_many_failures_in_a_row() -> None:
    circuit = Circuit()
    for n in range(SETTINGS.circuit_failures):
        assert not circuit.refuses(now=float(n))
        circuit = circuit.failed(f"a{n}", now=float(n), settings=SETTINGS)

    assert circuit.refuses(now=2.0)
    assert circuit.refuses(now=31.9)
    assert not circuit.refuses(now=32.0)


def test_one_success_in_between_or_too_long_a_time_keeps_it_closed() -> None:
    apart = Circuit()
    for n in range(9):
        apart = apart.failed(f"a{n}", now=n * 200.0, settings=SETTINGS)
    mixed = Circuit()
    for n in range(9):
        mixed = mixed.failed(f"a{n}", now=float(n), settings=SETTINGS)
        mixed = mixed.succeeded() if n % 2 else mixed

    assert not apart.open
    assert not mixed.open


def test_the_same_assignment_reported_again_and_again_counts_once() -> None:
    circuit = Circuit()
    for n in range(9):
        circuit = circuit.failed("a", now=float(n), settings=SETTINGS)

    assert not circuit.open


def test_half_open_it_lets_one_through_and_opens_twice_as_long_if_that_fails() -> None:
    circuit = opened().probed(until=150.0)
    assert circuit.refuses(now=31.0)
    again = circuit.failed("probe", now=35.0, settings=SETTINGS)

    assert again.refuses(now=35.0 + 59.0)
    assert not again.refuses(now=35.0 + 60.0)
    assert not circuit.refuses(now=150.0)  # nothing was heard of the probe: another may go


def test_what_had_begun_before_it_opened_does_not_open_it_longer() -> None:
    circuit = opened()

    assert circuit.failed("late", now=10.0, settings=SETTINGS) == circuit
    # Its time is over, but nothing has been let through yet.
    assert circuit.failed("later", now=35.0, settings=SETTINGS) == circuit


def test_only_the_failure_of_what_was_let_through_opens_it_again() -> None:
    circuit = opened().probed(["p", "q"], until=150.0)

    assert circuit.failed("older", now=35.0, settings=SETTINGS) == circuit
    assert not circuit.failed("older", now=35.0, settings=SETTINGS).refuses(now=150.0)
    again = circuit.failed("q", now=36.0, settings=SETTINGS)
    assert again.refuses(now=36.0 + 59.0)
    assert not again.probe


def test_of_a_probe_that_was_perhaps_not_written_the_outcome_counts_and_is_not_waited_for() -> None:
    clock = Clock()
    avoidance = Avoidance(SETTINGS, clock)
    for n in range(SETTINGS.circuit_failures):
        avoidance.node_failed("node-1", f"a{n}")
    clock.now = 31.0
    avoidance.probe("node-1", ["p"])
    avoidance.doubted("node-1")
    assert avoidance.refuses("node-1"), "it may be written yet"

    clock.now += WRITTEN_WITHIN_SECONDS
    assert not avoidance.refuses("node-1")
    assert avoidance.node_failed("node-1", "older") == 0.0
    assert avoidance.node_failed("node-1", "p") == 60.0


def test_a_probe_that_was_certainly_not_written_is_none() -> None:
    clock = Clock()
    avoidance = Avoidance(SETTINGS, clock)
    for n in range(SETTINGS.circuit_failures):
        avoidance.node_failed("node-1", f"a{n}")
    clock.now = 31.0
    avoidance.probe("node-1", ["p"])
    avoidance.not_probed("node-1")

    assert not avoidance.refuses("node-1")
    assert avoidance.node_failed("node-1", "p") == 0.0


def test_an_outcome_is_news_once_and_not_for_ever() -> None:
    clock = Clock()
    avoidance = Avoidance(SETTINGS, clock)
    avoidance.awaits(["a", "b"])
    assert avoidance.heard(["a"])
    assert not avoidance.heard(["a"])
    assert not avoidance.heard(["never written"])

    clock.now += 3 * SETTINGS.reservation_seconds
    avoidance.awaits(["c"])
    assert not avoidance.heard(["b"])


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (PlanConflict("another was first"), False),
        (ClusterUnavailable("429", undone=True), False),
        (ClusterUnavailable("no answer"), True),
        (asyncio.CancelledError(), True),
    ],
    ids=["conflict", "refused", "unknown", "cut off"],
)
async def test_a_write_of_unknown_outcome_is_a_probe_for_as_long_as_it_may_arrive(
    world: World, error: BaseException, waits: bool
) -> None:
    async with world.extender(BRITTLE) as extender:
        knowledge, trust = extender.knowledge, Trust(extender.knowledge)
        real, clock = knowledge.clock, Clock()
        knowledge.clock = lambda: real() + clock.now
        for n in range(BRITTLE.circuit_failures):
            knowledge.avoidance.node_failed("node-1", f"a{n}")
        clock.now = 31.0
        with pytest.raises(type(error)), trust.probing("node-1", ["p"]):
            raise error

        assert knowledge.avoidance.refuses("node-1") is waits
        clock.now += WRITTEN_WITHIN_SECONDS + 1.0
        assert not knowledge.avoidance.refuses("node-1")


def test_a_success_closes_it_and_the_next_time_it_opens_longer_unless_long_after() -> None:
    closed = opened().succeeded()
    assert not closed.refuses(now=1.0)

    soon, late = closed, closed
    for n in range(SETTINGS.circuit_failures):
        soon = soon.failed(f"b{n}", now=40.0, settings=SETTINGS)
        late = late.failed(f"b{n}", now=4000.0, settings=SETTINGS)
    assert soon.strikes.until - 40.0 == 60.0
    assert late.strikes.until - 4000.0 == 30.0


def test_it_can_be_turned_off() -> None:
    avoidance = Avoidance(msgspec.structs.replace(SETTINGS, circuit_failures=0), Clock())

    assert all(avoidance.node_failed("node-1", f"a{n}") == 0.0 for n in range(99))
    assert not avoidance.refuses("node-1")


# What comes of it.


def test_a_failing_node_is_refused_by_every_verb_with_a_reason_of_its_own() -> None:
    failing = view(failing=True, plan=[assignment("v", 0, 0, pod="v")])
    why = verdict(view(failing=True), request("1-10C").wanted)
    waiting = [Waiting(request("1-10C"), frozenset({"node-1"}), 0.0)]
    limits = Limits(10, 0.1)

    assert why == Refused(Code.AGENT_FAILING, FAILING)
    assert sufficient({"node-1": failing}, Ledger(), request("1-10C"), {"node-1": ["v"]}) == ()
    for there, places in ((view(failing=True), 0), (view(), 1)):
        found = joint_plan({"node-1": there}, Ledger(), waiting, limits, clock=Clock())
        assert len(found.places) == places


BRITTLE = msgspec.structs.replace(
    QUICK, circuit_failures=3, circuit_seconds=30.0, avoidance_seconds=0.0
)


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1", gpus=4)
    return made


async def failed_bind(world: World, extender: Service, pod: dict[str, Any]) -> str:
    """Bind a pod whose GPU instance cannot be made; return what the scheduler hears."""
    bind = asyncio.create_task(extender.binder.bind(bind_args(pod, "node-1")))
    await world.plan_holds(1)
    await world.fail("node-1", "nvmlDeviceCreateGpuInstance: unknown error")
    answer = await bind
    await world.plan_holds(0)
    await world.obey("node-1")
    await until(lambda: not extender.knowledge.views["node-1"].releasing)
    return answer.error


async def test_a_node_whose_agent_keeps_failing_is_left_alone_and_then_tried_with_one_pod(
    world: World,
) -> None:
    clock = Clock()
    pods = [await world.add_pod(f"vm-{n}", "1-10C") for n in range(6)]
    async with world.extender(BRITTLE) as extender:
        began = extender.knowledge.clock()
        real = extender.knowledge.clock
        extender.knowledge.clock = lambda: real() + clock.now
        for pod in pods[:3]:
            assert "unknown error" in await failed_bind(world, extender, pod)
        args = filter_args(pods[3], "node-1")
        refused = extender.hooks.filter(args).failed_and_unresolvable_nodes
        late = await extender.binder.bind(bind_args(pods[3], "node-1"))

        clock.now = 31.0
        extender.knowledge.lease("node-1", "renewed")
        await until(lambda: not extender.knowledge.views["node-1"].failing)
        assert extender.hooks.filter(args).node_names == ("node-1",)
        probe = asyncio.create_task(extender.binder.bind(bind_args(pods[3], "node-1")))
        await world.plan_holds(1)
        others = filter_args(pods[4], "node-1")
        meanwhile = extender.hooks.filter(others).failed_and_unresolvable_nodes
        async with world.obedient("node-1"):
            assert (await probe).error == ""
            assert extender.hooks.filter(others).node_names == ("node-1",)
            assert (await extender.binder.bind(bind_args(pods[4], "node-1"))).error == ""

    assert refused == {"node-1": FAILING}
    assert late.error == FAILING
    assert meanwhile == {"node-1": FAILING}
    assert extender.knowledge.clock() - began < 120.0


async def test_what_was_realized_long_ago_says_nothing_about_a_node_that_fails_now(
    world: World,
) -> None:
    """A bind whose answer was lost is made again, perhaps by a scheduler that restarts."""
    pod = await world.add_pod("vm", "1-10C")
    settings = msgspec.structs.replace(BRITTLE, avoidance_seconds=10.0)
    async with world.extender(settings) as extender:
        knowledge = extender.knowledge
        async with world.obedient("node-1"):
            world.api.disturbance = refuses_bindings
            assert (await extender.binder.bind(bind_args(pod, "node-1"))).error
            world.api.disturbance = None
            for n in range(BRITTLE.circuit_failures):
                knowledge.avoidance.node_failed("node-1", f"a{n}")
            gpu = knowledge.views["node-1"].node.spec.assignments[0].gpu
            knowledge.avoidance.gpu_failed(gpu)
            assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""

        assert knowledge.avoidance.refuses("node-1")
        assert knowledge.avoidance.gpu_failed(gpu) > knowledge.clock() + 15.0, "the second strike"


async def refuses_bindings(call: Call) -> None:
    if call.subresource == "binding" and not call.done:
        raise Unavailable(500, "etcdserver: request timed out")


async def test_a_place_whose_time_ran_out_unseen_by_any_bind_counts_as_a_failure(
    world: World,
) -> None:
    settings = msgspec.structs.replace(
        BRITTLE, reservation_seconds=0.8, http_timeout_seconds=0.4, circuit_failures=1
    )
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(settings) as extender:
        answer = await extender.binder.bind(bind_args(pod, "node-1"))
        assert "stays reserved" in answer.error
        assert not extender.knowledge.views["node-1"].failing
        await world.plan_holds(0)  # the reclaim's doing: nobody comes back for it
        await until(lambda: extender.knowledge.views["node-1"].failing)


async def test_one_that_was_realized_and_never_bound_does_not(world: World) -> None:
    settings = msgspec.structs.replace(BRITTLE, reservation_seconds=0.8, circuit_failures=1)
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender(settings) as extender, world.obedient("node-1"):
        world.api.disturbance = refuses_bindings
        assert (await extender.binder.bind(bind_args(pod, "node-1"))).error
        await world.plan_holds(0)
        await asyncio.sleep(0.1)

        assert not extender.knowledge.views["node-1"].failing


async def test_whoever_waits_for_a_failing_node_is_woken_when_it_may_be_tried(
    world: World,
) -> None:
    clock = Clock()
    pods = [await world.add_pod(f"vm-{n}", "1-10C") for n in range(4)]
    await world.add_pod("extender-0", namespace="tangram-system")
    async with world.extender(BRITTLE) as extender:
        real = extender.knowledge.clock
        extender.knowledge.clock = lambda: real() + clock.now
        for pod in pods[:3]:
            await failed_bind(world, extender, pod)
        assert not extender.hooks.filter(filter_args(pods[3], "node-1")).node_names
        woken = extender.wakes
        clock.now = 31.0
        extender.knowledge.lease("node-1", "renewed")
        await until(lambda: extender.wakes > woken)


async def test_a_gpu_that_fails_again_is_avoided_longer(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    settings = msgspec.structs.replace(QUICK, circuit_failures=0)
    async with world.extender(settings) as extender:
        knowledge, lasts = extender.knowledge, []
        for _ in range(2):
            await failed_bind(world, extender, pod)
            lasts += [
                round(each.until - knowledge.clock()) for each in knowledge.ledger.avoided.values()
            ]
            # The others are full, so that it is tried again.
            knowledge.ledger = Ledger()

    assert sorted(set(lasts)) == [60, 120]
