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
from extender.service.avoidance import Avoidance, Circuit, Strikes
from extender.settings import Settings
from extender.verbs.preempt import sufficient
from extender.verbs.verdicts import Code, Refused, verdict
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
