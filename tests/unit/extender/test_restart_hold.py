"""A VM that restarts finds its place again, and nobody waits for it for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster import KubernetesCluster, objects
from extender.ledger import Ledger
from extender.packing.choose import Choice
from extender.request import Gang
from extender.service import Service
from extender.service.ended import Ended
from extender.service.holds import Holds
from extender.service.plans import Plans
from extender.snapshot import NodeView
from extender.succession import successor
from extender.verbs.bind import place
from extender.verbs.filter import filter
from extender.verbs.fleet import Fleet
from extender.verbs.inherit import inherited, superseded
from extender.verbs.preempt import sufficient
from extender.verbs.prioritize import prioritize
from extender.verbs.verdicts import Code, Fits, Refused, verdict
from nodeagent.api import keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, OwnerRef
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    NODES,
    PODS,
    REPLICA_SETS,
    VIRTUAL_MACHINES,
    PatchType,
    Unavailable,
)
from nodeagent.apiserver.protocol import (
    Refused as Forbidden,
)
from tests.builders import VGPU, assignment, gpu, gpu_node, instance, raw_pod, request, view
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

HELD = msgspec.structs.replace(QUICK, restart_hold_seconds=60.0, unseen_pod_recheck_seconds=0.05)
VM = OwnerRef("VirtualMachineInstance", "default", "vm")
OTHER = OwnerRef("VirtualMachineInstance", "default", "other")


def hold(id: str = "h", start: int = 0, profile_id: int = 19, **fields: Any) -> Assignment:
    return assignment(id, profile_id, start, pod=None, **{"owner": VM, **fields})


def start_of(choice: object) -> tuple[str, int]:
    assert isinstance(choice, Choice)
    (placed,) = choice.placed
    return placed.uuid, placed.placement.start


# What the verbs make of a reservation.


def test_a_held_place_is_taken_for_everybody_but_the_owners_next_pod() -> None:
    full = view(plan=[hold(profile_id=0, resource=VGPU + "7-80C")])
    stranger, comes_back = request("7-80C", owner=OTHER), request("7-80C", owner=VM)

    for asked in (stranger, request("7-80C")):
        answer = filter(Fleet({"node-1": full}), Ledger(), asked, ["node-1"])
        assert answer.codes == {Code.NO_ROOM}
    answer = filter(
        Fleet({"node-1": full}), Ledger(), comes_back, ["node-1"], held=frozenset({"node-1"})
    )
    assert answer.passed == ("node-1",)
    assert start_of(answer.only) == ("GPU-0", 0)


@given(start=st.integers(0, 6), index=st.integers(0, 1))
def test_the_next_pod_inherits_the_very_place(start: int, index: int) -> None:
    there = view(gpus=2, plan=[hold(start=start, gpu=f"GPU-{index}")])

    choice = place(there, Ledger(), request("1-10C", owner=VM))

    assert start_of(choice) == (f"GPU-{index}", start)


def test_the_node_where_a_place_is_held_wins() -> None:
    fuller = gpu_node("node-2", plan=[assignment("x", 9, 4, resource=VGPU + "3-40C", pod="x")])
    views = {
        "node-1": view(plan=[hold(start=6)]),
        "node-2": view(fuller),
    }

    ranked = prioritize(
        Fleet(views),
        Ledger(),
        request("1-10C", owner=VM),
        list(views),
        held=frozenset({"node-1"}),
    )

    assert ranked.winner == "node-1"
    assert start_of(ranked.choice) == ("GPU-0", 6)


def test_a_pod_that_asks_for_something_else_has_the_room_but_not_the_place() -> None:
    there = view(plan=[hold(profile_id=0, resource=VGPU + "7-80C")])
    smaller = request("3-40C", owner=VM)

    choice = place(there, Ledger(), smaller)

    assert inherited(there, Ledger(), smaller) is None
    assert isinstance(choice, Choice)
    assert superseded(there, smaller, choice) == ("h",)


def test_a_pod_with_several_instances_inherits_all_of_them() -> None:
    both = [hold("a", 2), hold("b", 4, 9, resource=VGPU + "3-40C")]
    asked = request("1-10C", "3-40C", owner=VM)

    choice = place(view(plan=both), Ledger(), asked)

    assert isinstance(choice, Choice)
    assert {(p.profile_id, p.placement.start) for p in choice.placed} == {(19, 2), (9, 4)}
    assert set(superseded(view(plan=both), asked, choice)) == {"a", "b"}


def test_the_last_pods_instance_is_not_in_the_way_and_a_foreign_one_is() -> None:
    def with_instance(made_for: str) -> NodeView:
        there = instance(19, 3, assignment=made_for)
        return view(plan=[hold(start=3)], gpus=[gpu(instances=(there,))])

    asked = request("1-10C", owner=VM)

    for ours in ("h", "of the pod before"):
        assert start_of(inherited(with_instance(ours), Ledger(), asked)) == ("GPU-0", 3)
    assert inherited(with_instance(""), Ledger(), asked) is None
    assert isinstance(place(with_instance(""), Ledger(), asked), Choice)  # elsewhere on the GPU


@pytest.mark.parametrize(
    "there",
    [
        view(plan=[hold()], stale=True),
        view(plan=[hold()], cordoned=True),
        view(plan=[hold()], gpus=[gpu(unhealthy="XID 79"), gpu(1)]),
        view(plan=[hold(gpu="GPU-9")]),
        view(plan=[hold()], lapsed="h"),
    ],
    ids=["silent", "cordoned", "unhealthy", "gone", "over"],
)
def test_a_place_that_cannot_be_had_is_not_inherited(there: NodeView) -> None:
    assert inherited(there, Ledger(), request("1-10C", owner=VM)) is None


def test_a_reservation_whose_time_is_over_counts_as_free() -> None:
    plan = [hold(profile_id=0, resource=VGPU + "7-80C")]

    assert isinstance(verdict(view(plan=plan), request("1-10C").wanted), Refused)
    assert isinstance(verdict(view(plan=plan, lapsed="h"), request("1-10C").wanted), Fits)


def test_preemption_leaves_a_held_place_to_the_owners_pod_alone() -> None:
    plan = [hold(profile_id=9, start=4, resource=VGPU + "3-40C"), assignment("v", 19, 0, pod="v")]
    views, victims = {"node-1": view(plan=plan)}, {"node-1": ["v"]}

    assert sufficient(views, Ledger(), request("7-80C", owner=VM), victims) == ("node-1",)
    assert sufficient(views, Ledger(), request("7-80C", owner=OTHER), victims) == ()


def test_the_slices_of_a_pod_that_lost_its_place_to_a_reservation_are_not_free_at_once() -> None:
    before = view(plan=[assignment("a", 0, 0, pod="p", owner=VM)], generation=1)
    held = successor(
        before,
        gpu_node(plan=[hold("a", 0, 0)], generation=2, version=2, observed=1),
    )
    over = msgspec.structs.replace(held, lapsed=frozenset("a"))
    answered = successor(
        over, gpu_node(plan=[hold("a", 0, 0)], generation=2, version=3, observed=2)
    )

    assert isinstance(
        verdict(over, request("1-10C").wanted), Refused
    )  # its GPU instance may be there
    assert isinstance(verdict(answered, request("1-10C").wanted), Fits)


def test_who_finds_a_reservation_waits_for_the_agent_as_who_made_it_does(service: Service) -> None:
    service.knowledge.gpu_node(
        gpu_node("node-9", plan=[hold("a", 0, 0)], generation=2, version=2, observed=1)
    )
    found = service.knowledge.views["node-9"]
    missed = successor(view(generation=1), found.node)

    for there in (found, missed):
        over = msgspec.structs.replace(there, lapsed=frozenset("a"), stale=False)
        assert isinstance(verdict(over, request("1-10C").wanted), Refused)


# Since when, and for whom.


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def seen(holds: Holds, *plans: Sequence[Assignment]) -> NodeView:
    """Let *holds* see one plan after the other; return the view of the last."""
    before: NodeView | None = None
    for plan in plans:
        now = view(plan=plan)
        holds.planned("node-1", before, now)
        before = now
    assert before is not None
    return before


def test_a_hold_is_as_old_as_this_process_has_seen_it_whatever_it_says_itself() -> None:
    clock = Clock()
    holds = Holds(60.0, clock)
    last = seen(holds, [hold("a")])
    clock.now = 30.0
    now = view(plan=[hold("a"), hold("b", 1)])
    holds.planned("node-1", last, now)
    clock.now = 60.0

    assert dict(holds.over()) == {"node-1": {"a"}}
    clock.now = 90.0
    assert dict(holds.over()) == {"node-1": {"a", "b"}}


@given(
    st.lists(
        st.dictionaries(
            st.integers(0, 6),
            st.tuples(st.booleans(), st.sampled_from([VM, OTHER, None]), st.booleans()),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_counted_is_what_the_last_plan_has(
    plans: list[dict[int, tuple[bool, OwnerRef | None, bool]]],
) -> None:
    holds, before = Holds(60.0, Clock()), None
    for plan in plans:
        now = view(
            plan=[
                assignment(f"{at}{held}", 19, at, pod=None if held else "p", owner=owner)
                for at, (held, owner, _) in plan.items()
            ],
            lapsed=[f"{at}True" for at, (held, _, over) in plan.items() if held and over],
        )
        holds.planned("node-1", before, now)
        before = now

    for owner in (VM, OTHER):
        mine = [(held, over) for held, who, over in plans[-1].values() if who == owner]
        assert holds.entries_of(owner) == sum(not (held and over) for held, over in mine)
        assert bool(holds.nodes_of(owner)) == any(held and not over for held, over in mine)


# From one pod to the next.


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    await made.add_pod("extender-0", namespace=keys.SYSTEM_NAMESPACE)
    return made


@contextlib.asynccontextmanager
async def running(world: World, settings: Any = HELD) -> AsyncIterator[Service]:
    async with world.extender(settings) as extender, world.obedient("node-1"):
        yield extender


async def launcher(world: World, name: str, *wanted: str, vm: str = "vm") -> dict[str, Any]:
    return await world.add_pod(name, *wanted, owner=("VirtualMachineInstance", vm))


async def unwatched(world: World, name: str, *wanted: str) -> dict[str, Any]:
    """Create a launcher of which the extender's watch says nothing."""
    pod = raw_pod(*wanted, name=name, owner=("VirtualMachineInstance", "vm"))
    del pod["metadata"]["uid"], pod["metadata"]["labels"][keys.MANAGED_LABEL]
    pod["spec"]["terminationGracePeriodSeconds"] = 0
    return dict(msgspec.json.decode(await world.api.create(PODS, pod, namespace="default")))


async def bound(world: World, extender: Service, pod: dict[str, Any]) -> None:
    assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""
    # The watch has told it, or the end of the pod would be no news.
    await until(lambda: pod["metadata"]["uid"] in extender.knowledge.pods)


async def without_place(extender: Service, pod: dict[str, Any]) -> None:
    uid = pod["metadata"]["uid"]
    await until(lambda: uid not in extender.knowledge.assigned)


async def entries(world: World, node: str = "node-1") -> tuple[Assignment, ...]:
    return (await world.gpu_node(node)).spec.assignments


async def held(world: World) -> bool:
    there = await entries(world)
    return bool(there) and all(each.pod is None for each in there)


async def test_a_vm_that_restarts_finds_its_place_again_under_a_new_id(world: World) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    async with running(world) as extender:
        first = await launcher(world, "launcher-1", "1-10C", "3-40C")
        await bound(world, extender, first)
        before = await entries(world)
        await world.delete_pod(first)
        await until(lambda: held(world))
        stranger = await world.add_pod("stranger", "4-40C")
        assert extender.hooks.filter(filter_args(stranger, "node-1")).node_names == ()
        second = await launcher(world, "launcher-2", "1-10C", "3-40C")
        assert extender.hooks.filter(filter_args(second, "node-1")).node_names == ("node-1",)
        await bound(world, extender, second)
        after = await entries(world)

    assert [(e.gpu, e.start, e.resource) for e in after] == [
        (e.gpu, e.start, e.resource) for e in before
    ]
    assert not {e.id for e in after} & {e.id for e in before}
    assert all(e.pod and e.pod.uid == second["metadata"]["uid"] for e in after)


async def test_a_vm_on_a_node_that_rebooted_finds_its_place_again(world: World) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    async with running(world) as extender:
        first = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, first)
        (before,) = await entries(world)
        await world.fail("node-1", "the node has rebooted since; its GPU instance is gone")
        await until(lambda: not extender.knowledge.suspects)
        assert (await entries(world)) == (before,)  # until the pod is terminal
        await world.api.patch(
            PODS,
            "launcher-1",
            {"status": {"phase": "Failed"}},
            patch_type=PatchType.MERGE,
            namespace="default",
            subresource="status",
        )
        await until(lambda: held(world))
        second = await launcher(world, "launcher-2", "1-10C")
        await bound(world, extender, second)
        (after,) = await entries(world)

    assert (after.gpu, after.start) == (before.gpu, before.start)


@pytest.mark.parametrize(
    ("reason", "counted"),
    [
        ("UnexpectedAdmissionError", 1),
        (f"OutOf{keys.RESOURCE_DOMAIN}NVIDIA_H100XM-1-10C", 1),
        ("OutOfcpu", 0),
        ("Evicted", 0),
    ],
)
async def test_a_launcher_that_the_kubelet_refuses_is_counted_and_its_place_held_for_the_next(
    world: World, reason: str, counted: int
) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    async with running(world) as extender:
        first = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, first)
        (before,) = await entries(world)
        for message in ("no device", "no device is healthy"):
            await world.api.patch(
                PODS,
                "launcher-1",
                {"status": {"phase": "Failed", "reason": reason, "message": message}},
                patch_type=PatchType.MERGE,
                namespace="default",
                subresource="status",
            )
        await until(lambda: held(world))
        second = await launcher(world, "launcher-2", "1-10C")
        await bound(world, extender, second)
        (after,) = await entries(world)
        registry = extender.knowledge.work.registry

    assert registry.get_sample_value("tangram_pods_not_admitted_total") == counted
    assert (after.gpu, after.start) == (before.gpu, before.start)
    assert after.id != before.id


async def test_vms_that_come_back_from_a_reboot_in_another_order_do_not_swap(world: World) -> None:
    names = ("vm", "other")
    for name in names:
        await world.add_owner(VIRTUAL_MACHINES, name)
    async with running(world) as extender:
        for name in names:
            await bound(world, extender, await launcher(world, f"{name}-1", "1-10C", vm=name))
        before = {e.owner: (e.gpu, e.start) for e in await entries(world)}
        await world.fail("node-1", "the node has rebooted since; its GPU instance is gone")
        for name in names:
            await world.api.patch(
                PODS,
                f"{name}-1",
                {"status": {"phase": "Failed"}},
                patch_type=PatchType.MERGE,
                namespace="default",
                subresource="status",
            )

        async def both_held() -> bool:
            return [each.pod for each in await entries(world)] == [None, None]

        await until(both_held)
        for name in reversed(names):
            await bound(world, extender, await launcher(world, f"{name}-2", "1-10C", vm=name))
        after = {e.owner: (e.gpu, e.start) for e in await entries(world)}

    assert len(before) == 2
    assert after == before


async def test_nothing_is_held_for_a_vm_that_is_no_more(world: World) -> None:
    async with running(world) as extender:
        pod = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, pod)
        await world.delete_pod(pod)
        await until(lambda: not extender.knowledge.assigned)

        assert await entries(world) == ()


async def test_nothing_is_held_for_a_member_of_a_gang(world: World) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    async with running(world) as extender:
        pod = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, pod)
        knowledge, uid = extender.knowledge, pod["metadata"]["uid"]
        of_a_gang = msgspec.structs.replace(
            request("1-10C", pod=uid), gang=Gang("default", "gang", 2)
        )
        knowledge.requests[uid] = of_a_gang
        await world.delete_pod(pod)
        await until(lambda: not knowledge.assigned)

        assert await entries(world) == ()


@pytest.mark.parametrize(
    ("spec", "pods"),
    [
        ({}, 1),
        ({"runStrategy": "Always"}, 1),
        ({"runStrategy": "Halted"}, 0),
        ({"running": True}, 1),
        ({"running": False}, 0),
        ({"replicas": 3}, 3),
    ],
)
def test_an_owner_keeps_up_what_its_spec_says(spec: dict[str, Any], pods: int) -> None:
    owner: dict[str, Any] = {"metadata": {"name": "owner"}, "spec": spec}
    assert objects.replicas(msgspec.json.encode(owner)) == pods

    owner["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert objects.replicas(msgspec.json.encode(owner)) == 0


async def test_nothing_is_held_where_the_hold_is_turned_off(world: World) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    settings = msgspec.structs.replace(HELD, restart_hold_seconds=0.0)
    async with running(world, settings) as extender:
        pod = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, pod)
        await world.delete_pod(pod)
        await until(lambda: not extender.knowledge.assigned)

        assert await entries(world) == ()


async def test_nothing_is_held_on_a_node_that_would_not_take_the_next_pod(world: World) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    async with running(world) as extender:
        pod = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, pod)
        await world.api.patch(
            NODES, "node-1", {"spec": {"unschedulable": True}}, patch_type=PatchType.MERGE
        )
        await until(lambda: extender.knowledge.nodes["node-1"])
        await world.delete_pod(pod)
        await until(lambda: not extender.knowledge.assigned)

        assert await entries(world) == ()


async def test_a_set_that_shrinks_is_held_nothing_and_one_that_lost_a_pod_is(
    world: World,
) -> None:
    await world.add_owner(REPLICA_SETS, "web", replicas=2)
    async with running(world) as extender:
        pods = [
            await world.add_pod(f"web-{n}", "1-10C", owner=("ReplicaSet", "web")) for n in range(3)
        ]
        for pod in pods:
            await bound(world, extender, pod)
        for pod, left in zip(pods, (2, 2), strict=False):
            await world.delete_pod(pod)
            await without_place(extender, pod)
            there = await entries(world)
            assert len(there) == left

    assert sorted(each.pod is None for each in there) == [False, True]


async def test_a_hold_ends_in_time_and_wakes_who_waits_for_the_room(world: World) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    settings = msgspec.structs.replace(HELD, restart_hold_seconds=30.0)  # before the agent is late
    woken = asyncio.Event()

    async def wake_for_room(call: Call) -> None:
        """The wake that the making of the hold has brought about may be under way as well."""
        if call.name == "extender-0" and not tuple(extender.knowledge.views["node-1"].in_force):
            woken.set()

    async with running(world, settings) as extender:
        first = await launcher(world, "launcher-1", "7-80C")
        await bound(world, extender, first)
        await world.delete_pod(first)
        await until(lambda: extender.knowledge.holds.nodes_of(VM))
        stranger = await world.add_pod("stranger", "7-80C")
        assert extender.hooks.filter(filter_args(stranger, "node-1")).node_names == ()
        world.api.disturbance = wake_for_room
        real = extender.knowledge.clock
        extender.knowledge.clock = lambda: real() + settings.restart_hold_seconds
        async with asyncio.timeout(10):
            await woken.wait()
        assert extender.hooks.filter(filter_args(stranger, "node-1")).node_names == ("node-1",)
        await bound(world, extender, stranger)
        (entry,) = await entries(world)  # the reservation has left with that write

    assert entry.pod is not None


async def test_a_hold_leaves_the_plan_when_its_time_is_over_though_nothing_else_happens(
    world: World,
) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    settings = msgspec.structs.replace(HELD, restart_hold_seconds=30.0)  # before the agent is late
    async with running(world, settings) as extender:
        pod = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, pod)
        await world.delete_pod(pod)
        await until(lambda: held(world))
        real = extender.knowledge.clock
        extender.knowledge.clock = lambda: real() + settings.restart_hold_seconds

        async def gone() -> bool:
            return await entries(world) == ()

        await until(gone)


async def test_a_pod_refused_before_its_place_was_held_is_woken_for_it(world: World) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    async with running(world) as extender:
        first = await launcher(world, "launcher-1", "7-80C")
        await bound(world, extender, first)
        second = await launcher(world, "launcher-2", "7-80C")
        assert extender.hooks.filter(filter_args(second, "node-1")).node_names == ()
        woken = asyncio.Event()

        async def wake_for_hold(call: Call) -> None:
            """One that has come about before may be under way as well."""
            if call.name == "extender-0" and extender.knowledge.holds.nodes_of(VM):
                woken.set()

        world.api.disturbance = wake_for_hold
        await world.delete_pod(first)
        async with asyncio.timeout(10):
            await woken.wait()
        assert extender.hooks.filter(filter_args(second, "node-1")).node_names == ("node-1",)


async def test_a_successor_of_the_extender_finds_what_is_held(world: World) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    async with running(world) as extender:
        first = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, first)
        await world.delete_pod(first)
        await until(lambda: held(world))
    async with running(world) as extender:
        # The agent may have yet to answer for the last of what its predecessor wrote.
        await until(lambda: extender.knowledge.views["node-1"].takes_new)
        second = await launcher(world, "launcher-2", "1-10C")
        await bound(world, extender, second)
        (entry,) = await entries(world)

    assert entry.pod is not None


async def test_whoever_gives_a_place_back_once_it_is_held_leaves_it_held(world: World) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    async with running(world) as extender:
        pod = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, pod)
        (entry,) = await entries(world)
        await world.delete_pod(pod)
        await until(lambda: held(world))
        await Plans(extender.knowledge, KubernetesCluster(world.api)).withdraw("node-1", [entry.id])

        assert await held(world)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_a_hold_whose_outcome_is_unknown_is_made_or_made_again(
    world: World, done: bool
) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    lost = 0

    async def lose(call: Call) -> None:
        nonlocal lost
        holding = (call.verb, call.subresource) == ("patch", "") and call.name == "node-1"
        if holding and call.done is done and not lost:
            lost += 1
            raise Unavailable(0, "connection reset")

    async with running(world) as extender:
        first = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, first)
        world.api.disturbance = lose
        await world.delete_pod(first)
        await until(lambda: held(world))

    assert lost == 1


async def test_an_owner_that_may_not_be_read_does_not_keep_a_place_from_others(
    world: World,
) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")

    async def forbid(call: Call) -> None:
        if call.kind == VIRTUAL_MACHINES and not call.done:
            raise Forbidden(403, "virtualmachines is forbidden")

    async with running(world) as extender:
        pod = await launcher(world, "launcher-1", "1-10C")
        await bound(world, extender, pod)
        world.api.disturbance = forbid
        await world.delete_pod(pod)
        await world.plan_holds(0)


async def test_a_place_held_for_the_next_pod_is_not_given_to_the_last_one_again(
    world: World,
) -> None:
    """kube-scheduler has yet to hear that it is gone, as has the watch; a bind may be that late."""
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    async with running(world) as extender:
        first = await unwatched(world, "launcher-1", "1-10C")
        extender.hooks.filter(filter_args(first, "node-1"))
        assert (await extender.binder.bind(bind_args(first, "node-1"))).error == ""
        (before,) = await entries(world)
        await world.delete_pod(first)
        await until(lambda: held(world))
        extender.hooks.filter(filter_args(first, "node-1"))

        late = await extender.binder.bind(bind_args(first, "node-1"))

        assert late.error == "vGPU: the pod is gone"
        assert await held(world)
        second = await launcher(world, "launcher-2", "1-10C")
        await bound(world, extender, second)
        (after,) = await entries(world)

    assert (after.gpu, after.start) == (before.gpu, before.start)


async def test_nor_is_it_when_late_news_shows_the_last_one_alive(world: World) -> None:
    """An API server that lags behind may be listed after one that does not."""
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    async with running(world) as extender:
        first = await launcher(world, "launcher-1", "1-10C")
        extender.hooks.filter(filter_args(first, "node-1"))
        uid = first["metadata"]["uid"]
        await until(lambda: uid in extender.knowledge.pods)
        alive = extender.knowledge.pods[uid]
        assert (await extender.binder.bind(bind_args(first, "node-1"))).error == ""
        await world.delete_pod(first)
        await until(lambda: held(world))
        await until(lambda: uid not in extender.knowledge.pods)
        extender.knowledge.pod(alive)
        extender.hooks.filter(filter_args(first, "node-1"))

        late = await extender.binder.bind(bind_args(first, "node-1"))

        assert late.error == "vGPU: the pod is gone"
        assert await held(world)


def test_of_too_many_pods_that_ended_the_first_are_forgotten() -> None:
    ended = Ended(limit=2)
    for uid in ("a", "b", "b", "c"):
        ended.add(uid)

    assert [uid in ended for uid in "abc"] == [False, True, True]


async def test_of_two_pods_of_one_owner_only_one_inherits(world: World) -> None:
    there = view(plan=[hold(profile_id=0, resource=VGPU + "7-80C")])
    first, second = (request("7-80C", pod=name, owner=VM) for name in ("a", "b"))
    choice = place(there, Ledger(), first)
    assert isinstance(choice, Choice)
    after = view(plan=[assignment("new", 0, 0, pod="a", owner=VM, resource=VGPU + "7-80C")])

    assert superseded(there, first, choice) == ("h",)
    assert isinstance(place(after, Ledger(), second), Refused)
    assert Placement(0, 8) == choice.placed[0].placement
