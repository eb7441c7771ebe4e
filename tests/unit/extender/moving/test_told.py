"""What people are told of an order by Events: each of its steps, once, and never in its way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.advice import Asked
from extender.moving import Departure, Kind, Made, Outcome
from extender.policy import PolicyName
from extender.policy.moving import Why
from extender.service import Service
from extender.service.knowledge import Knowledge
from extender.service.move_telling import (
    GIVEN_UP_REASON,
    HELD_REASON,
    MOST_WAITS,
    MOVED_REASON,
    MOVING_REASON,
    ORDER_ENDED_REASON,
    ORDERED_REASON,
    SKIPPED_REASON,
    STOPPING_REASON,
    WAITS_REASON,
    WAITS_SECONDS,
    MoveTeller,
)
from extender.service.ports import ClusterUnavailable
from extender.service.tenure import Tenure
from extender.settings import Settings
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import EVENTS, Throttled, Unavailable
from tests.explained import Vm
from tests.fakes.ahead import Ahead
from tests.fakes.machines import Machines
from tests.fakes.world import World
from tests.unit.extender.advice.test_advice import ONE
from tests.unit.extender.moving.fleet import Fleet
from tests.unit.extender.moving.orders import NODES, applied, applying, events, over, running
from tests.waiting import until

DRAIN = Asked(drain=("node-1",))
BUDGET = "its budget allows no more"


class Told:
    """People, as far as they see Events of pods and of Nodes; ``fails``: they see none."""

    def __init__(self) -> None:
        self.pods: list[tuple[str, str, str]] = []
        self.nodes: list[tuple[str, str, str]] = []
        self.fails = False

    async def warn(self, what: PodRef | str, reason: str, message: str) -> None:
        if isinstance(what, str):
            self.nodes.append((what, reason, message))
        else:
            self.pods.append((what.name, reason, message))
        if self.fails:
            raise ClusterUnavailable("the API server is away")

    async def about(self, pod: PodRef) -> Callable[[str, str], Awaitable[None]]:
        raise NotImplementedError  # of a move nobody is told once its pod is gone


class Telling:
    """Tells of the order to drain a node of two VMs, on a clock of its own."""

    def __init__(self) -> None:
        self.now, self.told = 0.0, Told()
        self.fleet = Fleet(
            {"a": 1, "b": 1}, {vm: Vm(vm, ONE, "a", 0, at) for at, vm in enumerate("xy")}
        )
        order = self.fleet.order(Asked(drain=("a",)))
        assert order is not None
        self.order = msgspec.structs.replace(order, by="ops")
        knowledge = Knowledge(
            Settings(), PolicyName.DEFAULT, clock=self.clock, tenure=Tenure(self.clock)
        )
        self.teller = MoveTeller(knowledge, self.told, self.told)

    def clock(self) -> float:
        return self.now

    async def stands(self, waits: str = "", *, after: float = 0.0) -> None:
        self.now += after
        await self.teller.stands(self.order, self.fleet.there(), waits)

    async def ends(self, outcome: Outcome, why: str) -> str:
        """End the order; return what is told of that on its node."""
        await self.teller.ends(self.order, outcome, why, self.fleet.there())
        return self.told.nodes[-1][2]

    def hold(self) -> None:
        for node, entry in self.order.holds():
            self.fleet.hold(node, entry)

    def leave(self) -> None:
        """Have the first VM told to leave, and its pod gone."""
        pod = self.order.legs[0].pod
        self.order = msgspec.structs.replace(self.order, departed=Departure(pod, Kind.EVICTION))
        self.fleet.stop(pod)


async def told(world: World, reason: str) -> Collection[tuple[str, str]]:
    """Return what is told of pods and nodes; of each VM the same is told besides."""
    found = await events(world, reason)
    assert {text for name, text in found if name == "a"} <= {
        text for name, text in found if name != "a"
    }
    return [(name, text) for name, text in found if name != "a"]


@pytest.mark.virtual_time
async def test_each_step_of_an_order_is_told_on_the_vms_pod_or_on_its_node(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        async with machines.running(extender, NODES):
            order = await applied(extender, DRAIN)
            await over(world)

    named = f"vGPU: the order {order.id} of 1 moves"
    reasons = (ORDERED_REASON, HELD_REASON, MOVING_REASON, MOVED_REASON, ORDER_ENDED_REASON)
    assert [await told(world, reason) for reason in reasons] == [
        [("node-1", f"{named} is given: `tangram defrag status` tells how far it has come")],
        [("a-1", "vGPU: a place is held on node-2, where the VM is to be moved")],
        [("a-1", "vGPU: moved to make room, by eviction: a place is held on node-2")],
        [("a-2", "vGPU: moved to node-2 to make room")],
        [("node-1", f"{named} is done")],
    ]


@pytest.mark.virtual_time
async def test_it_is_told_who_stops_an_order_and_to_whose_turn_it_was(
    world: World, machines: Machines
) -> None:
    async def refuse(call: Call) -> None:
        if call.subresource == "eviction" and not call.dry_run:
            raise Throttled(429, BUDGET)

    world.api.disturbance = refuse
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        order = await applied(extender, DRAIN)
        assert extender.moving is not None
        await until(lambda: extender.knowledge.holds.moving)
        await extender.moving.stop("ops has stopped it")
        await over(world)

    named = f"vGPU: the order {order.id} of 1 moves"
    assert await events(world, STOPPING_REASON) == [
        ("node-1", f"{named} is being stopped: ops has stopped it")
    ]
    assert await events(world, ORDER_ENDED_REASON) == [
        ("node-1", f"{named} is stopped after 0: ops has stopped it")
    ]
    assert ("a-1", "vGPU: a move is given up: ops has stopped it") in await events(
        world, GIVEN_UP_REASON
    )


@pytest.mark.virtual_time
@pytest.mark.parametrize("paused", [False, True])
async def test_what_a_move_waits_for_is_told_once_it_has_lasted_and_written_once(
    world: World, machines: Machines, *, paused: bool
) -> None:
    clock, written, asked = Ahead(), list[str](), list[str]()

    async def refuse(call: Call) -> None:
        if call.subresource == "eviction" and not call.dry_run:
            asked.append(call.name)
            raise Throttled(429, BUDGET)
        if call.kind is EVENTS and call.verb == "create" and call.done:
            written.append(call.name)

    async def looked(extender: Service, times: int) -> None:
        assert extender.moving is not None
        for _ in range(times):
            await extender.moving.step()

    world.api.disturbance = refuse
    async with running(world, clock=clock) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        await applied(extender, DRAIN)
        await until(lambda: asked)
        if paused:
            extender.knowledge.adopt(applying(paused=True))
        await looked(extender, 2)
        soon = await told(world, WAITS_REASON)
        clock.by = WAITS_SECONDS
        await looked(extender, 2)
        before = len(written)
        await looked(extender, 5)
        lasting = await told(world, WAITS_REASON)

    why = Why.PAUSED.value if paused else f"its eviction is refused: {BUDGET}"
    assert (soon, len(written)) == ([], before)
    assert lasting == [("a-1", f"vGPU: a move waits: {why}")]


@pytest.mark.virtual_time
async def test_an_order_is_carried_out_though_nobody_can_be_told_of_it(
    world: World, machines: Machines
) -> None:
    refused: list[str] = []

    async def disturb(call: Call) -> None:
        if call.kind is EVENTS:
            refused.append(call.verb)
            raise Unavailable(0, "connection reset")

    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        world.api.disturbance = disturb
        async with machines.running(extender, NODES):
            await applied(extender, DRAIN)
            order = await over(world)

    assert (order.ending, len(order.made)) == (Outcome.DONE, 1)
    assert refused


async def test_that_a_place_is_held_is_told_to_the_one_vm_whose_turn_it_is_and_once() -> None:
    telling = Telling()
    await telling.stands()
    assert telling.told.pods == []
    telling.hold()
    for _ in range(3):
        await telling.stands()

    text = "vGPU: a place is held on b, where the VM is to be moved"
    first, second = (leg.pod.name for leg in telling.order.legs)
    assert telling.told.pods == [(first, HELD_REASON, text)]
    telling.order = msgspec.structs.replace(telling.order, made=(Made("eviction"),))
    await telling.stands()
    assert telling.told.pods[1:] == [(second, HELD_REASON, text)]


async def test_what_cannot_be_told_is_not_told_again_at_every_look() -> None:
    telling = Telling()
    telling.hold()
    telling.told.fails = True
    for _ in range(5):
        await telling.stands("something", after=WAITS_SECONDS)

    assert [reason for _, reason, _ in telling.told.pods] == [HELD_REASON, WAITS_REASON]


async def test_of_a_vm_between_two_pods_the_node_is_told_and_no_vm_named() -> None:
    telling = Telling()
    telling.leave()
    await telling.stands("the VM's next pod has yet to come")
    await telling.stands("the VM's next pod has yet to come", after=WAITS_SECONDS)

    named = f"vGPU: the order {telling.order.id} of 2 moves by ops"
    text = f"{named} waits after 0: the VM's next pod has yet to come"
    assert (telling.told.pods, telling.told.nodes) == ([], [("a", WAITS_REASON, text)])


async def test_a_vm_that_is_skipped_is_told_of_on_its_node_and_not_named() -> None:
    telling = Telling()
    await telling.teller.skipped(telling.order, telling.order.legs[0])

    ((node, reason, text),) = telling.told.nodes
    assert (node, reason) == ("a", SKIPPED_REASON)
    assert text.endswith("the VM of move 1 is no more, which is as good")


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("ops has stopped it", "is stopped after 0: ops has stopped it"),
        ("ops has stopped it, and default/x waits", "is stopped after 0: ops has stopped it"),
    ],
)
async def test_why_an_order_was_stopped_is_told_on_nodes_without_pods(why: str, told: str) -> None:
    telling = Telling()
    telling.order = msgspec.structs.replace(telling.order, stopping="ops has stopped it")

    assert (await telling.ends(Outcome.STOPPED, why)).endswith(told)


async def test_why_an_order_ends_is_told_on_nodes_only_where_it_names_no_pod() -> None:
    telling = Telling()
    by_policy = await telling.ends(Outcome.STOPPED, Why.NOT_APPLIED.value)
    names_a_pod = await telling.ends(Outcome.GIVEN_UP, "default/x has not had its place")

    assert by_policy.endswith("is stopped after 0: the policy's moves.mode is not apply")
    assert names_a_pod.endswith("is given up after 0: `tangram defrag status` tells why")


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0.0, 2 * WAITS_SECONDS))))
async def test_whatever_a_move_waits_for_little_is_told_of_it_and_nothing_twice(
    looks: Collection[tuple[str, float]],
) -> None:
    telling, since, lasted = Telling(), ("", 0.0), set[str]()
    for waits, after in looks:
        await telling.stands(waits, after=after)
        if since[0] != waits:
            since = waits, telling.now
        if telling.now - since[1] >= WAITS_SECONDS:
            lasted.add(f"vGPU: a move waits: {waits}")
    told = [text for _, _, text in telling.told.pods]

    assert len(set(told)) == len(told) == min(len(lasted), MOST_WAITS)
    assert {*told} <= lasted
