"""The leader makes room for pods of higher priority: whom it evicts, whom not, and when nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import msgspec
import pytest

from extender.claims import claims
from extender.request import Request
from extender.service import Service
from extender.settings import Settings
from extender.verbs.reasons import Code
from nodeagent.api import keys
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    EVENTS,
    GPU_NODES,
    POD_DISRUPTION_BUDGETS,
    VIRTUAL_MACHINES,
    ApiError,
    Invalid,
    Refused,
    Throttled,
)
from tests.builders import gpu, gpu_node, instance
from tests.fakes.ahead import Ahead
from tests.fakes.occupied import guarded, placed, placed_gang
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import QUICK, World
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

NODES = ["node-1", "node-2"]
ROUNDS = 30
NOT_NOW = Throttled(429, "not now")


class Audit:
    """Hears what is evicted; ``refuses`` are the pods whose evictions meet a *refusal*, by name.

    That shows only when it is tried, as with what changes in a moment; of those it ``forbids`` it
    shows when it is rehearsed.
    """

    def __init__(self, world: World, refusal: ApiError = NOT_NOW) -> None:
        self.evicted: list[str] = []
        self.rehearsed: list[str] = []
        self.asked = 0
        self.refuses: Collection[str] = ()
        self.forbids: Collection[str] = ()
        self._refusal = refusal
        world.api.disturbance = self

    async def __call__(self, call: Call) -> None:
        if call.subresource != "eviction":
            return
        if call.dry_run:
            if not call.done:
                self.rehearsed.append(call.name)
                if call.name in self.forbids:
                    raise self._refusal
        elif not call.done:
            self.asked += 1
            if call.name in self.refuses or call.name in self.forbids:
                raise self._refusal
        else:
            self.evicted.append(call.name)


@pytest.fixture
async def world() -> World:
    made = World()
    for name in NODES:
        await made.add_node(name)
    return made


@contextlib.asynccontextmanager
async def running(
    world: World, settings: Settings = QUICK, *, clock: Callable[[], float] | None = None
) -> AsyncIterator[Service]:
    async with world.extender(settings, clock=clock) as extender, world.obedient(*NODES):
        yield extender


async def asks(world: World, *wanted: str, name: str = "high", **fields: Any) -> dict[str, Any]:
    """Create a pod of high priority."""
    return await world.add_pod(name, *wanted, **{"priority": 100, **fields})


async def tried(extender: Service, pod: dict[str, Any]) -> None:
    """Have kube-scheduler try a pod that is refused, until preemption has been thought of."""
    scheduler = Scheduler(extender, NODES)
    for _ in range(ROUNDS):
        assert scheduler.place(pod) == ""
        await asyncio.sleep(0.01)


async def a_while() -> None:
    """Let preemption be thought of some times, while kube-scheduler does not ask."""
    for _ in range(ROUNDS):
        await asyncio.sleep(0.01)


async def claimed(world: World) -> list[str]:
    """Return for whom places are claimed."""
    return [
        each.owner.name
        for node in NODES
        for each in (await world.gpu_node(node)).spec.assignments
        if each.owner is not None and each.owner.kind == keys.PREEMPTOR
    ]


async def events(world: World, reason: str) -> dict[str, str]:
    """Return the messages of Events by the pod they are about."""
    raw = (await world.api.list(EVENTS)).items
    found = [msgspec.json.decode(each) for each in raw]
    return {e["involvedObject"]["name"]: e["message"] for e in found if e["reason"] == reason}


async def full(world: World, extender: Service, *, low: int = 1, other: int = 5) -> None:
    """Fill both nodes: on the first there is one pod of *low* priority and one of the *other*."""
    await placed(world, extender, "low", "3-40C", priority=low)
    await placed(world, extender, "other", "4-40C", priority=other)
    await placed(world, extender, "whole", "7-80C", node="node-2", priority=5)


async def test_the_cheapest_victim_goes_and_the_pod_has_its_place(world: World) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        await Scheduler(extender, NODES).until_bound(world, [high])
        told = extender.knowledge.work.registry.get_sample_value

        assert told("tangram_evictions_total", {"outcome": "evicted"}) == 1
        assert told("tangram_preemptions_total", {"outcome": "placed"}) == 1
    assert audit.evicted == ["low"]
    assert await world.bound("high") == "node-1"
    assert await world.bound("other") == "node-1"
    assert await claimed(world) == []
    assert "pod high" in (await events(world, "VgpuPreempted"))["low"]
    assert "a pod of lower priority" in (await events(world, "VgpuPreempting"))["high"]


async def test_a_pod_of_another_namespace_is_not_named(world: World) -> None:
    async with running(world) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C", name="payroll", namespace="secret")
        scheduler = Scheduler(extender, NODES)

        async def told() -> bool:
            scheduler.place(high)
            return "low" in await events(world, "VgpuPreempted")

        await until(told)

    assert "payroll" not in (await events(world, "VgpuPreempted"))["low"]


async def test_a_vms_place_is_not_held_for_it_when_another_waits_there(world: World) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    settings = msgspec.structs.replace(QUICK, restart_hold_seconds=60.0)
    async with running(world, settings) as extender:
        await placed(world, extender, "other", "7-80C", node="node-2", priority=100)
        owner = ("VirtualMachineInstance", "vm")
        await placed(world, extender, "low", "7-80C", owner=owner)
        high = await asks(world, "4-40C")
        await Scheduler(extender, NODES).until_bound(world, [high])

    (entry,) = (await world.gpu_node("node-1")).spec.assignments
    assert entry.pod is not None
    assert entry.pod.name == "high"


@pytest.mark.parametrize(
    "fields", [{"priority": 1}, {"preemptionPolicy": "Never"}, {"priority": 0}], ids=str
)
async def test_nobody_goes_for_who_is_not_above_them_or_preempts_nobody(
    world: World, fields: dict[str, Any]
) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        await tried(extender, await asks(world, "3-40C", **fields))

    assert audit.asked == 0
    assert await claimed(world) == []


async def test_nobody_goes_where_that_is_turned_off(world: World) -> None:
    audit = Audit(world)
    async with running(world, msgspec.structs.replace(QUICK, preempts=False)) as extender:
        await full(world, extender)
        await tried(extender, await asks(world, "3-40C"))

    assert audit.asked == 0


async def test_nobody_goes_where_that_does_not_help(world: World) -> None:
    """On the first node something foreign is in the middle of the GPU, the second is full."""
    audit = Audit(world)
    async with running(world) as extender:
        low = await placed(world, extender, "low", "1-10C")
        await placed(world, extender, "above", "1-10C", node="node-2", priority=100)
        foreign = gpu(instances=(instance(19, 3, gi_id=9),))
        node = gpu_node("node-1", gpus=[foreign])
        plan = await world.gpu_node("node-1")
        await world.report("node-1", msgspec.structs.replace(plan.status, gpus=node.status.gpus))
        await until(lambda: len(extender.knowledge.views["node-1"].taken) == 2)
        await tried(extender, await asks(world, "7-80C"))
        assert low in extender.knowledge.assigned

    assert audit.asked == 0
    assert await claimed(world) == []


async def test_the_fewest_go_and_nobody_after_them(world: World) -> None:
    """What the evicted leave is nobody else's before the pod has it: no second eviction."""
    audit = Audit(world)
    async with running(world) as extender:
        for at in range(7):
            await placed(world, extender, f"small-{at}", "1-10C")
        await placed(world, extender, "whole", "7-80C", node="node-2", priority=100)
        high = await asks(world, "3-40C")
        thief = await world.add_pod("thief", "1-10C")
        scheduler = Scheduler(extender, NODES)
        async with asyncio.timeout(10):
            while not await world.bound("high"):
                await scheduler.once([thief, high])
                await asyncio.sleep(0.005)

    assert len(audit.evicted) == 3  # of memory slices 4 to 7 the last is nobody's
    assert await world.bound("thief") == ""


async def test_whom_a_budget_guards_is_spared_for_somebody_dearer(world: World) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        await guarded(world, "db", "low", allows=0)
        high = await asks(world, "3-40C")
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["other"]
    assert audit.asked == 1


async def test_where_budgets_allow_nobody_to_go_nobody_is_asked_to(world: World) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        await guarded(world, "db", "low", "other", "whole", allows=0)
        await tried(extender, await asks(world, "3-40C"))

    assert audit.asked == 0
    assert await claimed(world) == []


async def test_a_budget_that_allows_one_is_not_asked_for_two(world: World) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await placed(world, extender, "a", "3-40C", priority=1)
        await placed(world, extender, "b", "3-40C", priority=1)
        await placed(world, extender, "dear", "7-80C", node="node-2", priority=50)
        await guarded(world, "db", "a", "b", allows=1)
        high = await asks(world, "7-80C")
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["dear"]


async def test_whom_two_budgets_guard_is_spared_for_no_api_server_evicts_it(world: World) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        await guarded(world, "db", "low", allows=9)
        await guarded(world, "web", "low", allows=9)
        high = await asks(world, "3-40C")
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["other"]
    assert audit.asked == 1


@pytest.mark.parametrize(
    "refusal",
    [
        NOT_NOW,
        Refused(403, 'admission webhook "x" denied the request'),
        Invalid(422, 'ValidatingAdmissionPolicy "x" denied request'),
    ],
    ids=["budget", "webhook", "policy"],
)
async def test_an_eviction_refused_for_long_is_given_up_and_another_pod_found(
    world: World, refusal: ApiError
) -> None:
    audit = Audit(world, refusal)
    audit.refuses = {"low"}
    settings = msgspec.structs.replace(QUICK, eviction_patience_seconds=0.1)
    async with running(world, settings) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        real, ahead = extender.knowledge.clock, [0.0]
        extender.knowledge.clock = lambda: real() + ahead[0]
        scheduler = Scheduler(extender, NODES)
        async with asyncio.timeout(10):
            while not await world.bound("high"):
                await scheduler.once([high])
                ahead[0] += 0.02
                await asyncio.sleep(0.01)
        told = extender.knowledge.work.registry.get_sample_value
        assert told("tangram_preemptions_total", {"outcome": "given-up"}) == 1

    assert audit.evicted == ["other"]
    assert await claimed(world) == []


async def test_of_several_nobody_goes_before_a_refused_one_may(world: World) -> None:
    audit = Audit(world)
    audit.refuses = {"a"}
    async with running(world) as extender:
        await placed(world, extender, "a", "3-40C")
        await placed(world, extender, "b", "3-40C")
        await placed(world, extender, "whole", "7-80C", node="node-2", priority=100)
        await tried(extender, await asks(world, "7-80C"))
        await until(lambda: audit.asked >= 2)
        first = len(audit.evicted)

    # Whoever was tried first may have gone; after the refusal nobody has.
    assert first <= 1
    assert audit.evicted in ([], ["b"])


@pytest.mark.parametrize("last", ["a", "b"])
async def test_of_several_nobody_goes_where_one_may_not_any_more(world: World, last: str) -> None:
    """It might go when they were chosen, and does not from when the place was claimed."""
    audit = Audit(world)

    async def disturb(call: Call) -> None:
        await audit(call)
        if call.verb == "patch" and call.kind == GPU_NODES and not call.subresource and call.done:
            audit.forbids = {last}

    async with running(world) as extender:
        await placed(world, extender, "a", "3-40C")
        await placed(world, extender, "b", "3-40C")
        await placed(world, extender, "whole", "7-80C", node="node-2", priority=100)
        high = await asks(world, "7-80C")
        world.api.disturbance = disturb
        await tried(extender, high)
        await until(lambda: len(audit.rehearsed) > 2)  # both when they were chosen, then anew
        assert await claimed(world) == [high["metadata"]["uid"]]

        assert (audit.asked, audit.evicted) == (0, [])
        audit.forbids = ()
        world.api.disturbance = audit
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert sorted(audit.evicted) == ["a", "b"]


@pytest.mark.parametrize(
    "refusal",
    [
        NOT_NOW,
        Refused(403, 'admission webhook "x" denied the request'),
        Invalid(422, 'ValidatingAdmissionPolicy "x" denied request'),
    ],
    ids=["budget", "webhook", "policy"],
)
async def test_whose_eviction_is_refused_when_rehearsed_is_not_chosen(
    world: World, refusal: ApiError
) -> None:
    """So KubeVirt's webhook does with a VM that is to migrate on eviction and cannot."""
    audit = Audit(world, refusal)
    audit.forbids = {"low"}
    async with running(world) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        await Scheduler(extender, NODES).until_bound(world, [high])
        told = extender.knowledge.work.registry.get_sample_value
        assert told("tangram_preemptions_total", {"outcome": "given-up"}) == 0

    assert audit.rehearsed == ["low", "other", "other"]
    assert (audit.asked, audit.evicted) == (1, ["other"])


async def test_what_no_api_server_rehearses_is_tried(world: World) -> None:
    """One of its webhooks says that it has side effects."""
    audit = Audit(world, Refused(400, 'admission webhook "x" does not support dry run'))
    async with running(world) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")

        async def disturb(call: Call) -> None:
            audit.forbids = {"low"} if call.dry_run else ()
            await audit(call)

        world.api.disturbance = disturb
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["low"]


@pytest.mark.parametrize("namespaces", [1, 9], ids=["one namespace", "many namespaces"])
async def test_however_many_are_guarded_the_one_who_may_go_is_found(
    world: World, namespaces: int
) -> None:
    audit = Audit(world)
    for number in range(namespaces):
        await world.add_namespace(f"team-{number}")
    names = [f"node-{3 + number}" for number in range(10)]
    for name in names:
        await world.add_node(name)
    async with running(world) as extender, world.obedient(*names):
        for name in NODES:
            await placed(world, extender, f"above-{name}", "7-80C", node=name, priority=100)
        for number, name in enumerate(names[:-1]):
            guarded_in = f"team-{number % namespaces}"
            await placed(world, extender, f"vm-{number}", "7-80C", node=name, namespace=guarded_in)
        await placed(world, extender, "free", "7-80C", node=names[-1], priority=50)
        for number in range(namespaces):
            there = [f"vm-{each}" for each in range(9) if each % namespaces == number]
            await guarded(world, "db", *there, allows=0, namespace=f"team-{number}")
        high = await asks(world, "7-80C")
        await Scheduler(extender, [*NODES, *names]).until_bound(world, [high])

    assert audit.evicted == ["free"]


async def test_of_equals_the_youngest_goes(world: World) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        for at in range(7):
            await placed(world, extender, f"small-{at}", "1-10C")
        await placed(world, extender, "whole", "7-80C", node="node-2", priority=100)
        high = await asks(world, "1-10C")
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["small-6"]


async def test_a_preemptor_that_goes_leaves_nothing_behind(world: World) -> None:
    audit = Audit(world)
    audit.refuses = {"low"}
    async with running(world) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        await tried(extender, high)
        await until(lambda: audit.asked)
        assert await claimed(world) == [high["metadata"]["uid"]]
        await world.delete_pod(high)
        await until(lambda: not any(map(claims, extender.knowledge.views.values())))

    assert audit.evicted == []
    assert await claimed(world) == []


async def test_a_preemptor_that_finds_room_elsewhere_takes_that(world: World) -> None:
    audit = Audit(world)
    audit.refuses = {"low"}
    async with running(world) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        await tried(extender, high)
        await until(lambda: audit.asked)
        whole = await world.pod("whole")
        assert whole is not None
        await world.delete_pod(whole)
        await Scheduler(extender, NODES).until_bound(world, [high])
        await until(lambda: not any(map(claims, extender.knowledge.views.values())))

    assert await world.bound("high") == "node-2"
    assert audit.evicted == []


async def test_nobody_goes_for_a_pod_that_is_about_to_be_bound_elsewhere(world: World) -> None:
    """Its volumes take longer to be bound than anything is presumed."""
    audit, clock = Audit(world), Ahead()
    audit.refuses = {"low"}
    async with running(world, clock=clock) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        await tried(extender, high)
        await until(lambda: audit.asked)
        await world.delete_pod({"metadata": {"name": "whole"}})
        scheduler = Scheduler(extender, NODES)
        await until(lambda: scheduler.place(high) == "node-2")
        asked, audit.refuses = audit.asked, ()
        clock.by = 20.0  # a refused eviction is asked for again after 10 s at the latest
        await a_while()

        assert await claimed(world) == [high["metadata"]["uid"]]
        assert (audit.asked, audit.evicted) == (asked, [])
        await placed(world, extender, "later", "7-80C", node="node-2", priority=5)
        await scheduler.until_bound(world, [high])

    assert audit.evicted == ["low"]


async def test_nobody_goes_for_a_pod_that_was_told_of_room_while_victims_were_chosen(
    world: World,
) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        scheduler = Scheduler(extender, NODES)

        async def disturb(call: Call) -> None:
            await audit(call)
            if call.verb == "list" and call.kind == POD_DISRUPTION_BUDGETS:
                world.api.disturbance = audit
                await world.delete_pod({"metadata": {"name": "whole"}})
                await until(lambda: scheduler.place(high) == "node-2")
                await placed(world, extender, "later", "7-80C", node="node-2", priority=5)

        world.api.disturbance = disturb
        await until(lambda: scheduler.place(high) or world.api.disturbance is audit)
        await until(lambda: "later" in {each.ref.name for each in extender.knowledge.pods.values()})
        await a_while()

        assert (audit.asked, await claimed(world)) == (0, [])
        await scheduler.until_bound(world, [high])

    assert audit.evicted == ["low"]


async def test_a_claim_whose_time_is_over_is_given_up(world: World) -> None:
    audit = Audit(world)
    audit.refuses = {"low", "other", "whole"}
    async with running(world, msgspec.structs.replace(QUICK, claim_seconds=0.3)) as extender:
        await full(world, extender)
        await tried(extender, await asks(world, "3-40C"))
        await until(lambda: audit.asked)
        told = extender.knowledge.work.registry.get_sample_value
        await until(lambda: told("tangram_preemptions_total", {"outcome": "given-up"}))

    assert audit.evicted == []


async def test_a_gang_goes_whole(world: World) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await placed_gang(world, extender, "duo", {"a": "7-80C", "b": "7-80C"}, NODES)
        high = await asks(world, "4-40C")
        await Scheduler(extender, NODES).until_bound(world, [high])
        await until(lambda: len(audit.evicted) == 2)

    assert sorted(audit.evicted) == ["a", "b"]


async def test_a_single_pod_is_preferred_to_a_gang_as_large(world: World) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await placed_gang(world, extender, "duo", {"a": "4-40C", "b": "3-40C"}, ["node-1"])
        await placed(world, extender, "single", "7-80C", node="node-2")
        high = await asks(world, "4-40C")
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["single"]


async def test_nobody_goes_for_a_pod_that_was_never_asked_about(world: World) -> None:
    """Which nodes it may go to is not known: its refusal is of a term before, say."""
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        pod = await asks(world, "3-40C")
        uid = pod["metadata"]["uid"]
        await until(lambda: uid in extender.knowledge.pods)
        request = extender.knowledge.pods[uid].asked
        assert isinstance(request, Request)
        for _ in range(ROUNDS):
            extender.knowledge.refuse(request, {Code.NO_ROOM}, began=extender.knowledge.clock())
            await asyncio.sleep(0.01)
        assert uid in extender._preempting._since  # type: ignore[union-attr]
        before = audit.asked, await claimed(world)
        await Scheduler(extender, NODES).until_bound(world, [pod])

    assert before == (0, [])
    assert audit.evicted == ["low"]


async def test_a_victim_that_goes_while_nodes_are_weighed_is_no_fault(world: World) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        pod = await asks(world, "3-40C")
        weighing = extender._preempting._weighing  # type: ignore[union-attr]
        found, gone = weighing.on, list[str]()

        def on(*args: Any, **kwargs: Any) -> Any:
            best = found(*args, **kwargs)
            if best is not None and best.victims and not gone:
                gone.append(best.victims[0].uid)
                extender.knowledge.pods.pop(gone[0])
            return best

        weighing.on = on  # type: ignore[method-assign]
        scheduler = Scheduler(extender, NODES)
        await until(lambda: scheduler.place(pod) or audit.evicted)

    assert audit.evicted == ["other"]


async def test_for_whose_place_came_to_nothing_nobody_goes_again_at_once(world: World) -> None:
    """Its GPU instance could not be made, say; and who had gone for it is there again."""
    audit = Audit(world)
    rarely = msgspec.structs.replace(
        QUICK, preemption_pause_seconds=30.0, preemption_longest_pause_seconds=60.0
    )
    async with running(world, rarely) as extender:
        await full(world, extender)
        pod = await asks(world, "3-40C")
        scheduler = Scheduler(extender, NODES)

        async def has_a_place() -> bool:
            scheduler.place(pod)
            return pod["metadata"]["uid"] in extender.knowledge.assigned

        await until(has_a_place)
        plans = extender.binder._plans
        await plans.withdraw("node-1", plans.ids_of(pod["metadata"]["uid"]))
        await placed(world, extender, "low-again", "3-40C", priority=1)
        with pytest.raises(TimeoutError):
            await until(lambda: scheduler.place(pod) or len(audit.evicted) > 1, within=1.0)

    assert audit.evicted == ["low"]


async def test_refusals_make_no_hot_loop(world: World) -> None:
    """However often a pod comes back, an eviction is asked for at growing distances only."""
    audit = Audit(world)
    audit.refuses = {"low", "other", "whole"}
    async with running(world) as extender:
        await full(world, extender)
        await tried(extender, await asks(world, "3-40C"))
        await until(lambda: audit.asked)
        plans = [(await world.gpu_node(name)).metadata.generation for name in NODES]
        scheduler = Scheduler(extender, NODES)
        high = await world.pod("high")
        assert high is not None
        for _ in range(5 * ROUNDS):
            scheduler.place(high)
            await asyncio.sleep(0.002)

        assert audit.asked <= 2
        assert [(await world.gpu_node(name)).metadata.generation for name in NODES] == plans


async def test_nobody_goes_for_a_pod_of_whose_end_the_watch_has_not_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        uid = high["metadata"]["uid"]
        await until(lambda: uid in extender.knowledge.pods)
        monkeypatch.setattr(extender.knowledge, "pod_gone", lambda uid: None)
        await world.delete_pod(high)
        await tried(extender, high)

    assert audit.asked == 0
    assert await claimed(world) == []


async def test_what_is_held_for_the_pods_own_vm_gives_way_to_its_claim(world: World) -> None:
    """It comes back asking for more than it had, and has its place among what the victim leaves."""
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    settings = msgspec.structs.replace(QUICK, restart_hold_seconds=60.0)
    async with running(world, settings) as extender:
        await placed(world, extender, "whole", "7-80C", node="node-2", priority=100)
        owner = ("VirtualMachineInstance", "vm")
        await placed(world, extender, "small", "3-40C", priority=100, owner=owner)
        await placed(world, extender, "low", "4-40C")
        small = await world.pod("small")
        assert small is not None
        await world.delete_pod(small)
        await until(lambda: extender.knowledge.views["node-1"].held)
        high = await asks(world, "7-80C", owner=owner)
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert await world.bound("high") == "node-1"
    (entry,) = (await world.gpu_node("node-1")).spec.assignments
    assert entry.pod is not None


async def test_the_one_instance_of_a_limited_profile_goes_wherever_it_is(world: World) -> None:
    audit = Audit(world)
    async with running(world) as extender:
        await placed(world, extender, "media", "1-10CME")
        await placed(world, extender, "whole", "7-80C", node="node-2", priority=100)
        high = await asks(world, "1-10CME")
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["media"]


class Killed:
    """Ends the extender at its n-th write: before it is made, or before it is answered."""

    def __init__(self, world: World, audit: Audit, at: int, *, done: bool) -> None:
        self._audit, self._at, self._done = audit, at, done
        self.now = asyncio.Event()
        self._world = world
        self._writes = 0
        self.armed = False

    async def __call__(self, call: Call) -> None:
        await self._audit(call)
        ours = call.verb in ("create", "patch", "delete") and (
            (call.kind == GPU_NODES and not call.subresource)
            or (call.subresource == "eviction" and not call.dry_run)
        )
        if not self.armed or not ours or call.done != self._done:
            return
        self._writes += 1
        if self._writes == self._at:
            self.now.set()
            await asyncio.Event().wait()  # no answer ever comes


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 8))
async def test_a_successor_goes_on_wherever_the_last_one_was_killed(
    world: World, at: int, *, done: bool
) -> None:
    """Two victims: claim, two evictions, two entries withdrawn, the place taken."""
    audit = Audit(world)
    killed = Killed(world, audit, at, done=done)
    world.api.disturbance = killed
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    settings = msgspec.structs.replace(QUICK, restart_hold_seconds=60.0)
    async with running(world, settings) as extender:
        for name in ("a", "b"):
            owner = ("VirtualMachineInstance", "vm") if name == "a" else None
            await placed(world, extender, name, "3-40C", owner=owner)
        await placed(world, extender, "whole", "7-80C", node="node-2", priority=100)
        high = await asks(world, "7-80C")
        scheduler, killed.armed = Scheduler(extender, NODES), True

        async def play() -> None:
            while not await world.bound("high"):
                scheduler.place(high)
                await asyncio.sleep(0.005)
                place = extender.knowledge.place_of(high["metadata"]["uid"])
                if place:
                    return  # the rest is an ordinary bind's

        async with asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(play())
            dying = tasks.create_task(killed.now.wait())
            await asyncio.wait([playing, dying], return_when=asyncio.FIRST_COMPLETED)
            for task in (playing, dying):
                task.cancel()
    killed.armed = False

    async with running(world, settings) as extender:
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert sorted(set(audit.evicted)) == ["a", "b"]
    assert await world.bound("high") == "node-1"
    assert await claimed(world) == []
    (entry,) = (await world.gpu_node("node-1")).spec.assignments
    assert entry.pod is not None
