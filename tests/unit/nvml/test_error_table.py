"""Every NVML error at every call the agent makes: what leaves the driver, and what is there then.

The calls are read from the fake library's log, so that a new one is in the table by itself. In each
case the agent does something while one C function fails; then the fault is gone, and at most two
passes later everything must be as planned.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import structlog

from nodeagent.actuate import Actuator, Intent, Outcome
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, PodRef
from nodeagent.driver import (
    CREATE,
    DriverError,
    InvalidPlacement,
    MigDisabled,
    PlacementUnavailable,
)
from nodeagent.journal_file import FileJournal
from tests.fakes.nvml.machine import Kind
from tests.unit.nvml.node import Node

CODES = (19, 23, 3, 2, 4, 6, 15, 16, 10, 999, 13, 9, 12, 18, 17, 27)
ONCE = (2, 6, 10, 999)
"""With these the second call of a function may be answered otherwise than the first."""

DESPITE = (4, 10, 15, 16, 19, 23, 999)

WITHIN_PASSES = 2

BELIEVED = {kind.code for kind in (InvalidPlacement, MigDisabled, PlacementUnavailable)}
"""What a creation answers where nothing was made.

That something was made all the same is not looked into: it may be somebody else's, made just
before, and for that very reason ours was refused.
"""

PLACE = Placement(2, 1)


class Agent:
    """The part of an agent that works on GPUs, and its plan: one GPU instance, or none."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.machine = node.machine
        self.gpu = node.machine.uuids[0]
        self.journal = FileJournal(None)
        self.actuator = Actuator(node.driver, self.journal, within=10.0)
        self.plan: tuple[Assignment, ...] = ()

    def want(self, wanted: bool) -> None:
        pod = PodRef("default", "p", "u")
        one = Assignment("a", self.gpu, 14, 2, 1, "nvidia.com/mig-1g.6gb", "2026-01-01", pod)
        self.plan = (one,) if wanted else ()

    async def make_pass(self) -> Outcome:
        return await self.actuator.converge(await self.actuator.look(), Intent(self.plan))

    def is_as_planned(self) -> bool:
        found = [
            (each.profile_id, each.placement, [inside.profile for inside in each.compute_instances])
            for each in self.machine.gpu_instances(0)
        ]
        return found == [(each.profile_id, PLACE, [0]) for each in self.plan]

    async def settle(self) -> None:
        """Make passes, without any fault, until everything is as planned.

        The first may only find out that NVML has been shut down.
        """
        told = ""
        for _ in range(WITHIN_PASSES):
            try:
                outcome = await self.make_pass()
            except DriverError as error:
                told = str(error)
                continue
            live = outcome.live == {each.id for each in self.plan}
            healthy = not any(gpu.unhealthy for gpu in outcome.host.gpus)
            if live and healthy and self.is_as_planned():
                return
            told = str(outcome)
        pytest.fail(f"{told}, {self.machine.gpu_instances(0)}")


async def may_fail(act: Awaitable[object]) -> None:
    """Do something as the agent does: it ends with a DriverError, or well."""
    try:
        await act
    except DriverError as error:
        told = str(error)
        if not told.startswith(f"{error.call}: ") or f"(NVML error {error.code})" not in told:
            raise


Act = Callable[[Agent], Awaitable[object]]


async def create(agent: Agent) -> None:
    agent.want(True)
    await agent.make_pass()


async def destroy(agent: Agent) -> None:
    agent.want(False)
    await agent.make_pass()


async def start(agent: Agent) -> None:
    """Begin anew, with no more than the journal and what is there."""
    await agent.node.restart()
    agent.actuator = Actuator(agent.node.driver, agent.journal, within=10.0)
    await agent.make_pass()


async def reopen(agent: Agent) -> None:
    async with agent.node.driver.closed():
        pass
    await agent.make_pass()


@contextlib.asynccontextmanager
async def watched(agent: Agent) -> AsyncIterator[asyncio.Event]:
    """Watch the driver within the context, whatever it hears, and look once when it has begun."""
    changed = asyncio.Event()
    watching = asyncio.create_task(agent.node.driver.watch(changed.set))
    try:
        await asyncio.sleep(0)  # so that the look comes after the first time it listens
        await may_fail(agent.make_pass())
        yield changed
    finally:
        watching.cancel()
        (ended,) = await asyncio.gather(watching, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)


async def listen(agent: Agent) -> None:
    """Listen in a session of its own, and look when something was told."""
    async with agent.node.driver.closed():
        pass
    async with watched(agent):
        agent.machine.xid(0, 31)
        await may_fail(agent.make_pass())


SITUATIONS: dict[str, tuple[bool, Act]] = {
    "create": (False, create),
    "destroy": (True, destroy),
    "start": (True, start),
    "reopen": (True, reopen),
    "listen": (True, listen),
}
"""Whether the GPU instance is there before, and what is done."""


class Table:
    """The cases of one situation, in each of which one C function fails."""

    def __init__(self, agent: Agent, situation: str) -> None:
        self.agent = agent
        self.before, self.act = SITUATIONS[situation]

    async def prepare(self) -> None:
        self.agent.want(self.before)
        await self.agent.settle()

    async def symbols(self) -> list[str]:
        """Return the C functions that are called when all goes well, each once."""
        await self.prepare()
        self.agent.machine.forget_calls()
        await self.act(self.agent)
        called = list(dict.fromkeys(call.symbol for call in self.agent.machine.calls()))
        self.agent.machine.logging(False)
        return called

    async def suffer(self, fault: Callable[[], None]) -> None:
        """Do it with a fault, and then without."""
        await self.prepare()
        fault()
        await may_fail(self.act(self.agent))
        self.agent.machine.clear_faults()


@pytest.fixture
async def agent(node_of: Callable[..., Node]) -> AsyncIterator[Agent]:
    # Of all models this has the fewest profiles, so that a look at it is the quickest.
    agent = Agent(node_of("A30-24GB", listen_every=0.001, retry_after=0.001))
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    await agent.make_pass()
    yield agent
    agent.machine.logging(True)


@pytest.mark.parametrize("situation", ["create", "destroy", "start", "reopen"])
@pytest.mark.parametrize("code", CODES)
async def test_an_error_is_translated_and_passed_over(
    agent: Agent, situation: str, code: int
) -> None:
    table = Table(agent, situation)
    for symbol in await table.symbols():
        for fail in (agent.machine.always, *((agent.machine.fail,) if code in ONCE else ())):
            await table.suffer(partial(fail, symbol, code))

            if (symbol, code) == (CREATE, 10):
                # Nobody knows what a creation does after such an answer: its GPU takes nothing
                # before the GPU instance is seen after all, or the node has rebooted.
                assert (await agent.make_pass()).blocked
                assert agent.machine.gpu_instances(0) == []
                agent.node.reboot()
            await agent.settle()


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("code", DESPITE)
async def test_what_was_done_despite_an_error_is_found(
    agent: Agent, situation: str, code: int
) -> None:
    table = Table(agent, situation)
    for symbol in await table.symbols():
        if (symbol, code in BELIEVED) != (CREATE, True):
            lie = partial(agent.machine.fail, symbol, code, kind=Kind.DONE_BUT_ERROR)
            await table.suffer(lie)
            await agent.settle()


async def test_what_is_refused_as_if_it_were_occupied_is_believed_and_told_of(
    agent: Agent,
) -> None:
    table = Table(agent, "create")
    await table.suffer(partial(agent.machine.fail, CREATE, 23, kind=Kind.DONE_BUT_ERROR))

    outcome = await agent.make_pass()

    assert list(outcome.impossible.values()) == [
        "a GPU instance that Tangram did not create occupies the placement"
    ]


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_success_that_was_none_is_noticed(agent: Agent, situation: str) -> None:
    table = Table(agent, situation)
    for symbol in await table.symbols():
        await table.suffer(partial(agent.machine.pretend, symbol))
        await agent.settle()


@pytest.mark.parametrize("code", CODES)
async def test_whatever_fails_while_listening_events_are_heard_afterwards(
    agent: Agent, code: int
) -> None:
    table = Table(agent, "listen")
    for symbol in await table.symbols():
        await table.suffer(partial(agent.machine.always, symbol, code))
        await agent.settle()
        async with watched(agent) as changed:
            changed.clear()
            agent.machine.xid(0, 31)
            await asyncio.wait_for(changed.wait(), 10.0)


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.DONE_BUT_ERROR, Kind.NOT_DONE])
@pytest.mark.parametrize("code", CODES)
async def test_whatever_fails_while_mig_is_enabled_trying_again_enables_it(
    node_of: Callable[..., Node], code: int, kind: Kind
) -> None:
    node = node_of("H100-80GB", mig=False)
    await node.driver.discover()
    (gpu,) = node.machine.uuids

    node.machine.forget_calls()
    await node.driver.enable_mig(gpu)
    for symbol in {call.symbol for call in node.machine.calls()}:
        node.set_mig_mode(0, False)
        node.machine.fail(symbol, code, kind=kind)
        await may_fail(node.driver.enable_mig(gpu))
        node.machine.clear_faults()

        assert await node.driver.enable_mig(gpu) == ""
        assert node.machine.mig_mode(0) == (True, True)
