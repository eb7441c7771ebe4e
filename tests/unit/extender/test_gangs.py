"""Gangs: all members have their places, or none; nobody is bound before all have come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from extender import wire
from extender.cluster import KubernetesCluster, objects
from extender.ledger import Promise
from extender.planning.gangs import Member, Standing, standing
from extender.request import LARGEST_GANG, Gang, Request, Unanswerable, of_pod
from extender.service import Service
from extender.service.knowledge import Knowledge
from extender.service.plans import Plans
from extender.service.ports import ClusterUnavailable, Feed, PlanConflict, PodFacts
from extender.verbs.verdicts import GANG_NO_ROOM
from nodeagent.api import keys
from nodeagent.api.gpunode import GpuNode, PodRef
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import GPU_NODES, PODS, Unavailable
from tests.builders import raw_pod
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import QUICK, World, filter_args
from tests.waiting import until

WAITING = "vGPU: waiting for the rest of the gang"
NO_ROOM = "vGPU: no free placement for the whole gang"
NODES = ("node-1", "node-2")
SOON = msgspec.structs.replace(QUICK, plan_settle_seconds=0.001, http_timeout_seconds=1.0)
HASTY = msgspec.structs.replace(
    SOON,
    http_timeout_seconds=5.1,
    binding_start_margin_seconds=4.7,
    binding_timeout_seconds=1.0,
)
"""A bind waits 0.3 s for its gang, and has seconds for all it does itself."""


def said(pod: dict[str, Any], **annotations: str) -> dict[str, Any]:
    pod["metadata"]["annotations"] = annotations
    return pod


def asked(annotations: dict[str, str], labels: dict[str, str], **spec: Any) -> Any:
    pod = raw_pod("1-10C", **spec)
    pod["metadata"]["annotations"] = annotations
    pod["metadata"]["labels"] |= labels
    return of_pod(wire.decode(msgspec.json.encode(pod), wire.Pod), devices_per_pod=16)


def test_a_gang_is_read_from_annotations_or_labels_or_the_scheduling_group() -> None:
    size = {keys.GANG_SIZE: "4"}
    for found in (
        asked({keys.GANG: "g", **size}, {}),
        asked({}, {keys.GANG: "g", **size}),
        asked(size, {}, schedulingGroup={"podGroupName": "g"}),
    ):
        assert isinstance(found, Request)
        assert found.gang == Gang("default", "g", 4)


def test_a_scheduling_group_without_a_size_is_kubernetes_own_affair() -> None:
    found = asked({}, {}, schedulingGroup={"podGroupName": "g"})

    assert isinstance(found, Request)
    assert found.gang is None


@pytest.mark.parametrize("size", ["", "0", "-1", "four", "1.5", "99999", str(LARGEST_GANG + 1)])
def test_a_malformed_size_is_a_refusal_that_names_the_field(size: str) -> None:
    found = asked({keys.GANG: "g", keys.GANG_SIZE: size}, {})

    assert isinstance(found, Unanswerable)
    assert found.reason.startswith("vGPU: tangram.dev/gang-size is not a whole number")


@pytest.mark.parametrize("said", [{keys.GANG: "Not a name"}, {keys.GANG: ""}, {}])
def test_a_malformed_or_missing_name_is_a_refusal_that_names_the_field(
    said: dict[str, str],
) -> None:
    found = asked({**said, keys.GANG_SIZE: "2"}, {})

    assert isinstance(found, Unanswerable)
    assert found.reason == "vGPU: tangram.dev/gang is not a name"


members = st.builds(
    Member,
    st.just(3),
    filtered=st.booleans(),
    reserved=st.booleans(),
    bound=st.booleans(),
)


@given(st.lists(members, min_size=1, max_size=5))
def test_a_gang_stands_where_the_least_of_its_members_lets_it(known: list[Member]) -> None:
    reserved = sum(each.reserved for each in known)

    match standing(known):
        case Standing.BEGUN:
            assert any(each.bound for each in known)
        case Standing.RESERVED:
            assert reserved >= 3
        case Standing.HALF:
            assert 0 < reserved < 3
        case Standing.COMPLETE:
            assert reserved == 0
            assert sum(each.filtered for each in known) >= 3
        case Standing.GATHERING:
            assert reserved == 0
            assert sum(each.filtered for each in known) < 3
        case unexpected:
            pytest.fail(str(unexpected))


def test_members_that_disagree_about_the_size_are_told_so() -> None:
    assert standing([Member(2, filtered=True), Member(3)]) is Standing.MALFORMED


@pytest.fixture
async def world() -> World:
    made = World()
    for name in NODES:
        await made.add_node(name)
    return made


async def gang(world: World, *wanted: str, size: int | None = None) -> list[dict[str, Any]]:
    """Create a gang whose members each ask for one vGPU type."""
    return [
        await world.add_pod(
            f"member-{index}",
            each,
            annotations={keys.GANG: "g", keys.GANG_SIZE: str(size or len(wanted))},
        )
        for index, each in enumerate(wanted)
    ]


async def entries(world: World) -> int:
    return sum([len((await world.gpu_node(name)).spec.assignments) for name in NODES])


async def bound(world: World, pods: list[dict[str, Any]]) -> list[str]:
    names = [pod["metadata"]["name"] for pod in pods]
    return [name for name in names if await world.bound(name)]


async def test_a_gang_over_two_nodes_is_bound_whole(world: World) -> None:
    pods = await gang(world, "4-40C", "3-40C", "4-40C", "3-40C")
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.until_bound(world, pods)

    assert scheduler.reasons["member-0"] == WAITING
    assert await entries(world) == 4


async def test_of_a_gang_that_does_not_fit_no_member_gets_a_place(world: World) -> None:
    pods = await gang(world, "4-40C", "4-40C", "4-40C")
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await until(lambda: extender.knowledge.enlisted.no_room)
        await scheduler.once(pods)
        other = await world.add_pod("other", "7-80C")
        await scheduler.until_bound(world, [other])

    assert {scheduler.reasons[pod["metadata"]["name"]] for pod in pods} == {NO_ROOM}
    assert await bound(world, pods) == []
    assert await entries(world) == 1


async def test_a_gang_refused_for_lack_of_room_is_placed_when_there_is(world: World) -> None:
    other = await world.add_pod("other", "7-80C")
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.until_bound(world, [other])
        pods = await gang(world, "4-40C", "4-40C")
        await scheduler.once(pods)
        await until(lambda: extender.knowledge.enlisted.no_room)
        await world.delete_pod(other)
        await until(lambda: not extender.knowledge.enlisted.no_room)
        await scheduler.until_bound(world, pods)

    assert await entries(world) == 2


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("how", ["deleted", "asked about anew", "in time"])
def test_a_gang_is_planned_again_when_what_was_presumed_for_another_pod_is_not_taken(
    service: Service, how: str, waits: bool
) -> None:
    """Single pods take what is presumed for others where nothing else is left."""
    knowledge = service.knowledge
    knowledge.gangs_wait_for_room = waits
    until = knowledge.clock() + 1.0
    knowledge.ledger = knowledge.ledger.presume("other", Promise("node-1", ()), until=until)
    knowledge.room.clear()
    knowledge.tick()
    assert not knowledge.room.is_set()

    if how == "deleted":
        knowledge.pod_gone("other")
    elif how == "asked about anew":
        pod = raw_pod("1-10C", name="other", uid="other")
        service.hooks.filter(filter_args(pod, "node-2"))
    else:
        knowledge.clock = lambda: until
        knowledge.tick()

    assert knowledge.room.is_set() is waits


async def test_a_gang_that_a_plan_had_no_room_to_look_at_is_looked_at_by_the_next(
    world: World,
) -> None:
    """The two gangs are one pod more than a plan takes, and the first of them has no place."""
    large, small = [
        [
            await world.add_pod(
                f"{name}-{index}",
                wanted,
                annotations={keys.GANG: name, keys.GANG_SIZE: str(size)},
            )
            for index in range(size)
        ]
        for name, wanted, size in (("large", "7-80C", 3), ("small", "1-10C", 2))
    ]
    settings = msgspec.structs.replace(SOON, plan_pods=4)
    async with world.extender(settings) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.once([*large, *small])
        await scheduler.until_bound(world, small)
        await scheduler.once(large)
        assert {scheduler.reasons[pod["metadata"]["name"]] for pod in large} == {NO_ROOM}

    assert scheduler.reasons["small-0"] != NO_ROOM


async def test_a_gang_left_out_of_a_plan_is_told_so_and_asks_for_no_other(service: Service) -> None:
    knowledge = service.knowledge
    knowledge.settings = msgspec.structs.replace(knowledge.settings, plan_pods=2)
    for feed in Feed:
        knowledge.feed_synced(feed)
    first, second = (
        [
            said(
                raw_pod("7-80C", "7-80C", name=name, uid=name, priority=priority),
                **{keys.GANG: gang, keys.GANG_SIZE: "2"},
            )
            for name in names
        ]
        for gang, names, priority in (("g", "ab", 1), ("h", "cd", 0))
    )
    for pod in (*first, *second):
        service.hooks.filter(filter_args(pod, "node-1"))

    again = []
    for _ in range(2):
        knowledge.room.clear()
        await service.planner.plan()
        again.append(knowledge.room.is_set())
    answers = [service.hooks.filter(filter_args(pod, "node-1")) for pod in (first[0], second[0])]

    assert again == [True, False], "the more urgent come first however often: no plan would help"
    assert not knowledge.room.is_set()
    assert [each.failed_and_unresolvable_nodes["node-1"] for each in answers] == [
        NO_ROOM,
        "vGPU: being placed together with the pods that came with it",
    ]


async def test_a_gang_that_is_not_all_there_has_no_place(world: World) -> None:
    pods = await gang(world, "1-10C", "1-10C", size=3)
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await asyncio.sleep(0.05)
        await scheduler.once(pods)

    assert set(scheduler.reasons.values()) == {WAITING}
    assert await entries(world) == 0


async def test_members_of_different_sizes_are_told_so(world: World) -> None:
    pods = [*(await gang(world, "1-10C")), await world.add_pod("b", "1-10C")]
    for pod, size in zip(pods, "23", strict=True):
        said(pod, **{keys.GANG: "g", keys.GANG_SIZE: size})
    async with world.extender(SOON) as extender:
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)

    assert "tangram.dev/gang-size differs" in scheduler.reasons["b"]


def realized(extender: Service) -> int:
    """Return how many assignments the extender knows to be realized."""
    return sum(len(view.node.status.realized) for view in extender.knowledge.views.values())


async def test_bind_holds_the_first_members_until_the_last_has_come(world: World) -> None:
    pods = await gang(world, "1-10C", "2-20C", "3-40C")
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await world_plans(world, 3)
        nodes = [scheduler.place(pod) for pod in pods]
        early = [
            asyncio.create_task(scheduler.bind(*each))
            for each in list(zip(pods, nodes, strict=True))[:2]
        ]
        await asyncio.sleep(0.05)
        assert await bound(world, pods) == []
        assert await scheduler.bind(pods[2], nodes[2]) == ""
        assert await asyncio.gather(*early) == ["", ""]


async def test_a_bind_that_waits_in_vain_is_remembered(world: World) -> None:
    """A member whose bind was answered has come all the same; the last one need not meet it."""
    pods = await gang(world, "1-10C", "2-20C")
    async with world.extender(HASTY) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await world_plans(world, 2)
        await until(lambda: realized(extender) == 2)
        first, last = (scheduler.place(pod) for pod in pods)
        assert await scheduler.bind(pods[0], first) == f"{WAITING}, its place stays reserved"
        assert await scheduler.bind(pods[1], last) == ""
        assert await scheduler.bind(pods[0], first) == ""


async def test_a_gang_that_does_not_come_together_in_time_gives_everything_back(
    world: World,
) -> None:
    pods = await gang(world, "1-10C", "2-20C")
    hasty = msgspec.structs.replace(HASTY, reservation_seconds=0.1)
    async with world.extender(hasty) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await world_plans(world, 2)
        answer = await scheduler.bind(pods[0], scheduler.place(pods[0]))
        await world_plans(world, 0)

    assert answer.startswith("vGPU: ")
    assert await bound(world, pods) == []


async def test_a_member_that_goes_before_the_first_is_bound_takes_all_places_with_it(
    world: World,
) -> None:
    pods = await gang(world, "1-10C", "2-20C", "3-40C")
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await world_plans(world, 3)
        await world.delete_pod(pods[1])
        await world_plans(world, 0)
        await scheduler.once([pods[0], pods[2]])

    assert scheduler.reasons["member-0"] == WAITING
    assert await bound(world, pods[:1] + pods[2:]) == []


async def test_a_member_whose_binding_failed_is_not_bound_once_the_others_are_gone(
    world: World,
) -> None:
    pods = await gang(world, "1-10C", "2-20C")
    failed = asyncio.Event()

    async def fail(call: Call) -> None:
        if (call.verb, call.subresource, call.done) == ("create", "binding", False):
            failed.set()
            raise Unavailable(0, "connection reset")

    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await world_plans(world, 2)
        world.api.disturbance = fail
        binds = asyncio.create_task(scheduler.once(pods))
        await failed.wait()
        await world.delete_pod(pods[1])
        await until(lambda: pods[1]["metadata"]["uid"] not in extender.knowledge.pods)
        world.api.disturbance = None
        await binds
        await world_plans(world, 0)

    assert await bound(world, pods[:1]) == []


async def test_an_instance_that_cannot_be_made_costs_the_whole_gang_its_places(
    world: World,
) -> None:
    pods = await gang(world, "3-40C", "4-40C")
    async with world.extender(SOON) as extender:
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await world_plans(world, 2)
        binds = asyncio.create_task(scheduler.once(pods))
        for name in NODES:
            await world.fail(name, "GPU is lost")
        await world_plans(world, 0)
        await binds

    assert any("GPU is lost" in text for texts in scheduler.errors.values() for text in texts)
    assert await bound(world, pods) == []


async def test_a_gang_with_no_other_place_is_tried_again_on_gpus_that_failed(world: World) -> None:
    pods = await gang(world, "7-80C", "7-80C")
    async with world.extender(SOON) as extender:
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await world_plans(world, 2)
        binds = asyncio.create_task(scheduler.once(pods))
        for name in NODES:
            await world.fail(name, "GPU is lost")
        await world_plans(world, 0)
        await binds
        avoided = set(extender.knowledge.ledger.avoided)
        for name in NODES:
            await world.obey(name)
        async with world.obedient(*NODES):
            await scheduler.until_bound(world, pods)

    assert avoided
    assert len(await bound(world, pods)) == 2


async def test_after_the_first_is_bound_a_new_member_is_an_ordinary_pod(world: World) -> None:
    pods = await gang(world, "1-10C", "2-20C")
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.until_bound(world, pods)
        await world.delete_pod(pods[0])
        await world_plans(world, 1)
        said_ = {keys.GANG: "g", keys.GANG_SIZE: "2"}
        replacement = await world.add_pod("new", "3-40C", annotations=said_)
        await scheduler.until_bound(world, [replacement])


async def test_a_member_beyond_the_gangs_size_waits_until_another_is_bound(world: World) -> None:
    pods = await gang(world, "1-10C", "2-20C")
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await world_plans(world, 2)
        extra = await world.add_pod(
            "extra", "3-40C", annotations={keys.GANG: "g", keys.GANG_SIZE: "2"}
        )
        await scheduler.once([extra])
        refusal = scheduler.reasons["extra"]
        answer = await scheduler.bind(extra, NODES[0])
        assert await entries(world) == 2
        await scheduler.until_bound(world, pods)
        await scheduler.until_bound(world, [extra])

    assert refusal == answer == WAITING


async def test_a_member_beyond_the_gangs_size_is_woken_when_another_is_bound(
    service: Service,
) -> None:
    knowledge = service.knowledge
    for feed in Feed:
        knowledge.feed_synced(feed)
    first, extra = (
        said(raw_pod("1-10C", name=name, uid=name), **{keys.GANG: "g", keys.GANG_SIZE: "2"})
        for name in ("first", "extra")
    )
    for pod in (first, extra):
        service.hooks.filter(filter_args(pod, "node-1"))
    knowledge.room.clear()

    known = PodFacts(PodRef("default", "first", "first"), knowledge.requests["first"])
    knowledge.pod(known)
    assert not knowledge.room.is_set()
    knowledge.pod(msgspec.structs.replace(known, node="node-1"))

    assert knowledge.room.is_set()


async def test_a_refused_gang_is_planned_again_once_a_member_may_go_elsewhere(
    world: World,
) -> None:
    pods = await gang(world, "7-80C", "7-80C")
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        narrow = Scheduler(extender, NODES[:1])
        await narrow.once(pods)
        await until(lambda: extender.knowledge.enlisted.no_room)
        await narrow.once(pods)
        assert {narrow.reasons[pod["metadata"]["name"]] for pod in pods} == {NO_ROOM}
        await Scheduler(extender, NODES[1:]).once(pods[1:])
        await world_plans(world, 2)
        await Scheduler(extender, NODES).until_bound(world, pods)


def test_a_refused_gang_asks_for_plans_only_while_its_candidates_grow(service: Service) -> None:
    knowledge = service.knowledge
    for feed in Feed:
        knowledge.feed_synced(feed)
    first, second = (
        said(raw_pod("1-10C", name=name, uid=name), **{keys.GANG: "g", keys.GANG_SIZE: "2"})
        for name in "ab"
    )
    for pod in (first, second):
        service.hooks.filter(filter_args(pod, "node-1"))
    knowledge.enlisted.no_room["default", "g"] = GANG_NO_ROOM

    asks = []
    for sampled in (("node-1",), ("node-2",), ("node-1",), ("node-3", "node-2"), ("node-3",)):
        knowledge.room.clear()
        answer = service.hooks.filter(filter_args(first, *sampled))
        asks.append(knowledge.room.is_set())
        assert set((answer.failed_and_unresolvable_nodes or {}).values()) == {NO_ROOM}

    assert asks == [False, True, False, True, False]
    assert knowledge.pending.waiting["a"].nodes == {"node-1", "node-2", "node-3"}


async def test_a_gangs_writes_that_keep_failing_are_paused_between_and_end_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else changes the plan before each write: the gang is postponed, nothing is left."""
    pods = await gang(world, "1-10C", "2-20C")
    settings = msgspec.structs.replace(
        SOON, retry_seconds=0.3, first_retry_seconds=0.05, longest_retry_seconds=0.1
    )
    writes = 0

    async def conflict(self: object, *args: object, **named: object) -> None:
        nonlocal writes
        writes += 1
        raise PlanConflict("somebody else has changed the plan")

    async with world.extender(settings) as extender, world.obedient(*NODES):
        with monkeypatch.context() as patched, capture_logs() as told:
            patched.setattr(Plans, "write", conflict)
            await Scheduler(extender, NODES).once(pods)
            await until(lambda: any(each["event"] == "gang_postponed" for each in told))
            tried = writes
        assert await entries(world) == 0
        await Scheduler(extender, NODES).until_bound(world, pods)

    assert 2 <= tried <= 40


async def test_a_bind_that_waits_for_its_gang_is_answered_when_the_extender_goes(
    world: World,
) -> None:
    pods = await gang(world, "1-10C", "2-20C")
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await world_plans(world, 2)
        waits = asyncio.create_task(scheduler.bind(pods[0], scheduler.place(pods[0])))
        await asyncio.sleep(0.02)
        extender.stop()
        answer = await waits

    assert answer == "vGPU: the extender is going away, the place stays reserved"


async def test_a_successor_completes_a_gang_its_predecessor_reserved(world: World) -> None:
    pods = await gang(world, "4-40C", "3-40C", "4-40C", "3-40C")
    async with world.obedient(*NODES):
        async with world.extender(SOON) as extender:
            await Scheduler(extender, NODES).once(pods)
            await world_plans(world, 4)
        before = [(await world.gpu_node(name)).spec for name in NODES]
        async with world.extender(SOON) as successor:
            await Scheduler(successor, NODES).until_bound(world, pods)

    assert [(await world.gpu_node(name)).spec for name in NODES] == before


async def test_a_gang_whose_node_is_no_candidate_any_more_is_placed_anew(world: World) -> None:
    pods = await gang(world, "3-40C", "3-40C")
    async with world.extender(SOON) as extender, world.obedient(*NODES):
        await Scheduler(extender, NODES).once(pods)
        await world_plans(world, 2)
        (taken,) = {extender.knowledge.assigned[pod["metadata"]["uid"]] for pod in pods}
        (other,) = set(NODES) - {taken}
        await Scheduler(extender, [other]).until_bound(world, pods)

    assert [await world.bound(pod["metadata"]["name"]) for pod in pods] == [other, other]


async def world_plans(world: World, count: int) -> None:
    async def holds() -> bool:
        return await entries(world) == count

    await until(holds)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2], ids=["first write", "second write"])
@pytest.mark.parametrize("lost", ["refused", "killed"])
async def test_a_reservation_interrupted_anywhere_is_undone_or_completed(
    world: World, at: int, done: bool, lost: str
) -> None:
    """A write's outcome is unknown, or the extender is killed there: all are bound in the end.

    At no moment is a member bound while another has no place.
    """
    pods = await gang(world, "4-40C", "3-40C", "4-40C", "3-40C")
    writes = 0
    reached = asyncio.Event()

    async def disturb(call: Call) -> None:
        nonlocal writes
        if (call.verb, call.kind, call.subresource) != ("patch", GPU_NODES, ""):
            if (call.verb, call.kind, call.subresource) == ("create", PODS, "binding"):
                assert await entries(world) == 4
            return
        writes += call.done is done
        if writes == at and call.done is done and not reached.is_set():
            reached.set()
            if lost == "refused":
                raise Unavailable(0, "connection reset")
            await asyncio.Event().wait()

    async with world.obedient(*NODES):
        world.api.disturbance = disturb
        with contextlib.suppress(TimeoutError):
            async with world.extender(SOON) as extender, asyncio.timeout(5):
                scheduler = Scheduler(extender, NODES)
                await scheduler.once(pods)
                await reached.wait()
                if lost == "refused":
                    await scheduler.until_bound(world, pods)
        async with world.extender(SOON) as successor:
            await Scheduler(successor, NODES).until_bound(world, pods)

    assert reached.is_set()
    assert await entries(world) == 4


async def test_nobody_takes_what_of_a_gang_is_still_to_be_written(world: World) -> None:
    pods = await gang(world, "7-80C", "4-40C")
    intruders = [await world.add_pod(f"intruder-{at}", "7-80C") for at in range(2)]
    answers: list[str] = []

    async with world.extender(SOON) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)

        async def intrude(call: Call) -> None:
            plan = (call.verb, call.kind, call.subresource) == ("patch", GPU_NODES, "")
            if plan and not call.done and not answers:
                answers.append("")
                (still,) = set(NODES) - {call.name}
                for intruder in intruders:
                    answers.append(await scheduler.bind(intruder, still))

        world.api.disturbance = intrude
        await scheduler.once(pods)
        await scheduler.until_bound(world, pods)

    assert all("no free placement" in answer for answer in answers[1:])
    assert len(answers) == 3


async def test_a_place_lost_to_another_writer_costs_the_gang_the_rest_and_no_slice_twice(
    world: World,
) -> None:
    pods = await gang(world, "7-80C", "7-80C")
    rival = await world.add_pod("rival", "7-80C")
    done = False

    async with world.extender(SOON) as extender, world.extender() as other:

        async def overtake(call: Call) -> None:
            nonlocal done
            plan = (call.verb, call.kind, call.subresource) == ("patch", GPU_NODES, "")
            if plan and call.done and not done:
                done = True  # the gang's first write: the rival takes the place of the second
                (still,) = set(NODES) - {call.name}
                async with world.obedient(*NODES):
                    assert (await Scheduler(other, NODES).bind(rival, still)) == ""

        world.api.disturbance = overtake
        scheduler = Scheduler(extender, NODES)
        await scheduler.once(pods)
        await until(lambda: extender.knowledge.enlisted.no_room or done)
        await world_plans(world, 1)
        await scheduler.once(pods)
        await until(lambda: extender.knowledge.enlisted.no_room)

    assert await bound(world, pods) == []
    assert await bound(world, [rival]) == ["rival"]


async def test_no_member_is_bound_while_it_is_not_known_what_became_of_the_last_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch shows the gang whole, and all have come: yet all may still be taken back."""
    monkeypatch.setattr("extender.service.plans.MADE_WITHIN_SECONDS", 0.2)
    settings = msgspec.structs.replace(SOON, http_timeout_seconds=4.0, retry_seconds=1.0)
    pods = await gang(world, "7-80C", "7-80C")
    written, read = list[str](), KubernetesCluster.read_gpu_node

    async def lose(call: Call) -> None:
        if (call.verb, call.kind, call.subresource) == ("patch", GPU_NODES, "") and call.done:
            written.append(call.name)
            if len(written) == len(NODES):
                raise Unavailable(0, "connection reset")

    async def unreadable(self: KubernetesCluster, name: str) -> GpuNode | None:
        if name == written[-1]:
            raise ClusterUnavailable("no answer")
        return await read(self, name)

    async with world.extender(settings) as extender, world.obedient(*NODES):
        scheduler, known = Scheduler(extender, NODES), extender.knowledge
        monkeypatch.setattr(KubernetesCluster, "read_gpu_node", unreadable)
        world.api.disturbance = lose
        with capture_logs() as told:
            await scheduler.once(pods)
            await until(lambda: all(pod["metadata"]["uid"] in known.assigned for pod in pods))
            binds = asyncio.create_task(scheduler.once(pods))
            await until(lambda: any(each["event"] == "gang_postponed" for each in told))
        assert await bound(world, pods) == []
        monkeypatch.setattr(KubernetesCluster, "read_gpu_node", read)
        await binds
        await scheduler.until_bound(world, pods)

    for name in await bound(world, pods):
        (entry,) = (await world.gpu_node(await world.bound(name))).spec.assignments
        assert [each.id for each in await world.decision(name)] == [entry.id]


async def test_a_half_written_gang_is_withdrawn_by_whoever_finds_it(world: World) -> None:
    pods = await gang(world, "4-40C", "3-40C", "4-40C", "3-40C")
    writes = 0

    async def die(call: Call) -> None:
        nonlocal writes
        if (call.verb, call.kind, call.subresource) == ("patch", GPU_NODES, "") and not call.done:
            writes += 1
            if writes == 2:
                await asyncio.Event().wait()

    async with world.extender(SOON) as extender, world.obedient(*NODES):
        world.api.disturbance = die
        await Scheduler(extender, NODES).once(pods)
        await world_plans(world, 2)
    world.api.disturbance = None
    async with world.extender(SOON):
        await world_plans(world, 0)

    assert await bound(world, pods) == []


def test_filter_of_a_gang_touches_no_plan(service: Service) -> None:
    for feed in Feed:
        service.knowledge.feed_synced(feed)
    pod = said(raw_pod("1-10C"), **{keys.GANG: "g", keys.GANG_SIZE: "2"})

    answer = service.hooks.filter(filter_args(pod, "node-1"))

    assert answer.failed_and_unresolvable_nodes == {"node-1": WAITING}
    assert not service.knowledge.ledger.presumed


def test_a_new_term_remembers_nobodys_coming_and_no_refusal(service: Service) -> None:
    knowledge = service.knowledge
    first, second = (
        said(raw_pod("1-10C", name=name, uid=name), **{keys.GANG: "g", keys.GANG_SIZE: "2"})
        for name in "ab"
    )
    for pod in (first, second):
        service.hooks.filter(filter_args(pod, "node-1"))
    of = ("default", "g")
    knowledge.enlisted.come[of] = {"a"}
    knowledge.enlisted.no_room[of] = GANG_NO_ROOM
    assert len(knowledge.pending.waiting) == 2

    knowledge.begin_term()

    assert not knowledge.pending.waiting
    assert not knowledge.enlisted.come
    assert not knowledge.enlisted.no_room
    # Who is in the gang is no memory of a term; where its members may go has to be asked anew.
    answer = service.hooks.filter(filter_args(first, "node-1"))
    assert answer.failed_and_unresolvable_nodes == {"node-1": WAITING}


def test_a_gang_is_forgotten_with_its_last_member(service: Service) -> None:
    pod = said(raw_pod("1-10C"), **{keys.GANG: "g", keys.GANG_SIZE: "2"})
    service.hooks.filter(filter_args(pod, "node-1"))
    service.knowledge.enlisted.lost.add(("default", "g"))

    service.knowledge.pod_gone(pod["metadata"]["uid"])

    assert not service.knowledge.enlisted.members
    assert not service.knowledge.enlisted.lost


@pytest.mark.parametrize("heard", [Knowledge.pod_gone, Knowledge.read_ended])
def test_a_late_filter_of_a_member_that_is_gone_makes_it_no_member_again(
    service: Service, heard: Callable[[Knowledge, str], None]
) -> None:
    knowledge = service.knowledge
    pod = said(raw_pod("1-10C", uid="gone"), **{keys.GANG: "g", keys.GANG_SIZE: "2"})
    service.hooks.filter(filter_args(pod, "node-1"))
    heard(knowledge, "gone")

    answer = service.hooks.filter(filter_args(pod, "node-1"))

    assert answer.failed_and_unresolvable_nodes == {"node-1": WAITING}
    assert not knowledge.enlisted.members
    assert not knowledge.pending.waiting


def test_late_news_of_the_life_of_a_member_that_was_read_to_have_ended_is_none(
    service: Service,
) -> None:
    knowledge = service.knowledge
    pod = said(raw_pod("1-10C", uid="ended"), **{keys.GANG: "g", keys.GANG_SIZE: "2"})
    alive = objects.pod(msgspec.json.encode(pod), devices_per_pod=8)
    knowledge.pod(alive)
    knowledge.read_ended("ended")

    knowledge.pod(alive)

    assert not knowledge.enlisted.members
    assert not knowledge.pending.waiting


def test_a_refused_gang_is_planned_anew_when_it_needs_less(service: Service) -> None:
    knowledge = service.knowledge
    for feed in Feed:
        knowledge.feed_synced(feed)
    for name in "abc":
        pod = said(raw_pod("1-10C", name=name, uid=name), **{keys.GANG: "g", keys.GANG_SIZE: "2"})
        service.hooks.filter(filter_args(pod, "node-1"))
    knowledge.enlisted.no_room["default", "g"] = GANG_NO_ROOM
    knowledge.room.clear()

    knowledge.pod_gone("c")

    assert knowledge.room.is_set()
    assert set(knowledge.enlisted.members["default", "g"]) == {"a", "b"}
