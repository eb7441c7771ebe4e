"""How VMs leave: while they run where KubeVirt can, and by force only where their pod says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from extender.advice import Asked
from extender.advice.yard import SEVERAL_BUDGETS
from extender.moving import Kind, Order, Outcome
from extender.moving.course import NOT_LEFT
from extender.policy.moving import Mode
from extender.service import Service
from extender.service.departing import (
    AGAIN_SECONDS,
    FORBIDDEN,
    LEFT_TO_OTHERS,
    NOBODY_MAKES_IT,
    NOT_RESTARTED,
    ONLY_LIVE,
)
from nodeagent.api import keys
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    MIGRATIONS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    VIRTUAL_MACHINE_INSTANCES,
    VIRTUAL_MACHINES,
    PatchType,
    Throttled,
    Unavailable,
)
from tests.fakes.ahead import Ahead
from tests.fakes.instances import instance, migrations, runs_as
from tests.fakes.machines import VMI, Machines
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import World
from tests.unit.extender.moving.orders import (
    NODES,
    PATIENT,
    applied,
    applying,
    held,
    kept,
    over,
    running,
)
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

DRAIN = Asked(drain=("node-1",))


@contextlib.asynccontextmanager
async def migrating(world: World, extender: object, *, fails: bool = False) -> AsyncIterator[None]:
    """Carry migrations out as KubeVirt does: the next launcher first, then the last one ends."""

    async def run() -> None:
        await until(lambda: migrations(world))
        (migration,) = await migrations(world)
        name, vm = migration["metadata"]["name"], migration["spec"]["vmiName"]
        if not fails:
            pod = await world.add_pod(f"{vm}-target", "1-10C", owner=(VMI, vm))
            await Scheduler(extender, NODES).until_bound(world, [pod])  # type: ignore[arg-type]
            await world.api.patch(
                PODS,
                f"{vm}-1",
                {"status": {"phase": "Succeeded"}},
                patch_type=PatchType.MERGE,
                namespace="default",
                subresource="status",
            )
        phase = "Failed" if fails else "Succeeded"
        await world.api.patch(
            MIGRATIONS,
            name,
            {"status": {"phase": phase}},
            patch_type=PatchType.MERGE,
            namespace="default",
            subresource="status",
        )

    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(run())
        try:
            yield
        finally:
            work.cancel()


def listened(world: World, *, refused: bool) -> list[str]:
    """Hear of evictions and deletions; evictions may be refused once they are asked for."""
    heard: list[str] = []

    async def disturb(call: Call) -> None:
        if call.done or call.dry_run:
            return
        if call.subresource == "eviction":
            heard.append(f"evict {call.name}")
            if refused:
                raise Throttled(429, "no")
        elif call.verb == "delete":
            heard.append(f"delete {call.kind.plural} {call.name}")

    world.api.disturbance = disturb
    return heard


async def test_a_vm_that_can_migrate_moves_while_it_runs(world: World, machines: Machines) -> None:
    heard = listened(world, refused=False)
    async with running(world) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1")
        await instance(world, "vm", migratable=True)
        async with migrating(world, extender):
            await applied(extender, DRAIN)
            order = await over(world)
        told = extender.knowledge.work.registry.get_sample_value
        kinds = {"kind": "live-migration", "outcome": "moved"}
        assert told("tangram_moves_total", kinds) == 1

    assert (order.ending, [each.kind for each in order.made]) == (
        Outcome.DONE,
        ["live-migration"],
    )
    assert await world.bound("vm-target") == "node-2"
    assert heard == []
    assert await held(world) == []


async def test_a_migration_that_fails_leaves_the_vm_where_it_is(
    world: World, machines: Machines
) -> None:
    heard = listened(world, refused=False)
    async with running(world) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1")
        await instance(world, "vm", migratable=True)
        async with migrating(world, extender, fails=True):
            await applied(extender, DRAIN)
            order = await over(world)

    assert (order.ending, order.why) == (Outcome.GIVEN_UP, "its live migration has failed")
    assert await world.bound("vm-1") == "node-1"
    assert heard == []
    assert await held(world) == []


async def test_a_vm_is_stopped_past_its_budget_only_where_its_pod_says_so(
    world: World, machines: Machines
) -> None:
    heard = listened(world, refused=True)
    settings = msgspec.structs.replace(PATIENT, eviction_patience_seconds=0.0)
    allowed = {"annotations": {keys.MOVABLE: "restart"}}
    async with running(world, settings) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1", **allowed)
        await instance(world, "vm", migratable=False)
        await runs_as(world, "vm-1", "vm")
        await applied(extender, DRAIN)

        async def stopped() -> bool:
            return not (await world.api.list(VIRTUAL_MACHINE_INSTANCES)).items

        await until(stopped)
        await world.delete_pod({"metadata": {"name": "vm-1"}})  # as KubeVirt does then
        async with machines.running(extender, NODES):
            order = await over(world)

    assert [each.kind for each in order.made] == ["restart"]
    assert heard[:2] == ["evict vm-1", "delete virtualmachineinstances vm"]
    assert (await machines.on("vm"))[0] == "node-2"


@pytest.mark.parametrize("said", ["LiveMigrate", "External"])
async def test_a_vm_whose_eviction_kubevirt_would_deny_is_stopped_without_being_evicted_first(
    world: World, machines: Machines, said: str
) -> None:
    """With External, to ask for its eviction hands the VM to another controller."""
    heard = listened(world, refused=True)
    allowed = {"annotations": {keys.MOVABLE: "restart"}}
    async with running(world) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1", **allowed)
        await instance(world, "vm", migratable=False)
        await runs_as(world, "vm-1", "vm")
        await strategy(world, "vm", said)
        await applied(extender, DRAIN)
        await until(lambda: heard)
        order = await kept(world)

    assert heard[0] == "delete virtualmachineinstances vm"
    assert order is not None
    assert order.departed is not None
    assert order.departed.kind is Kind.RESTART


async def halted(world: World, name: str) -> None:
    """Let somebody decide that a VM is not to be started again."""
    await world.api.patch(
        VIRTUAL_MACHINES,
        name,
        {"spec": {"runStrategy": "Manual"}},
        patch_type=PatchType.MERGE,
        namespace="default",
    )


@pytest.mark.parametrize("patience", [0.0, 60.0], ids=["by force", "evicted"])
async def test_a_vm_that_nobody_would_start_again_by_now_stays(
    world: World, machines: Machines, patience: float
) -> None:
    """Its eviction is refused for a while, and meanwhile its owner has changed their mind."""
    heard: list[str] = []

    async def disturb(call: Call) -> None:
        if call.subresource == "eviction" and not call.done and not call.dry_run:
            heard.append(f"evict {call.name}")
            if len(heard) == 1:
                await halted(world, "vm")
                raise Throttled(429, "no")
        elif call.verb == "delete" and call.done:
            heard.append(f"delete {call.kind.plural} {call.name}")

    world.api.disturbance = disturb
    clock, settings = (
        Ahead(),
        msgspec.structs.replace(PATIENT, eviction_patience_seconds=patience),
    )
    allowed = {"annotations": {keys.MOVABLE: "restart"}}
    async with running(world, settings, clock=clock) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1", **allowed)
        await instance(world, "vm", migratable=False)
        await runs_as(world, "vm-1", "vm")
        await applied(extender, DRAIN)
        await until(lambda: heard)
        clock.by = 20.0
        order = await over(world)

    assert order.ending is Outcome.GIVEN_UP
    assert order.why == (NOBODY_MAKES_IT if patience else "its eviction is refused: no")
    assert heard == ["evict vm-1"]
    assert await world.bound("vm-1") == "node-1"
    assert await held(world) == []


async def test_a_vm_that_was_to_be_restarted_stays_once_its_pod_does_not_allow_it(
    world: World, machines: Machines
) -> None:
    """Whoever is to restart it may be a successor, long after that was decided."""
    heard: list[str] = []

    async def disturb(call: Call) -> None:
        if call.subresource == "eviction" and not call.dry_run:
            raise Throttled(429, "no")
        if call.verb == "delete" and call.kind is VIRTUAL_MACHINE_INSTANCES:
            heard.append(call.name)
            raise Unavailable(503, "not now")

    world.api.disturbance = disturb
    settings = msgspec.structs.replace(PATIENT, eviction_patience_seconds=0.0)
    allowed = {"annotations": {keys.MOVABLE: "restart"}}
    async with running(world, settings) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1", **allowed)
        await instance(world, "vm", migratable=False)
        await runs_as(world, "vm-1", "vm")
        await applied(extender, DRAIN)
        await until(lambda: heard)
    await world.api.patch(
        PODS,
        "vm-1",
        {"metadata": {"annotations": {keys.MOVABLE: None}}},
        patch_type=PatchType.MERGE,
        namespace="default",
    )
    before = await kept(world)
    world.api.disturbance = None
    async with running(world, settings):
        order = await over(world)

    assert before is not None
    assert before.departed is not None
    assert before.departed.kind is Kind.RESTART
    assert (order.ending, order.why) == (Outcome.GIVEN_UP, NOT_RESTARTED)
    assert await world.bound("vm-1") == "node-1"
    assert len((await world.api.list(VIRTUAL_MACHINE_INSTANCES)).items) == 1


async def test_no_vm_is_stopped_once_the_policy_forbids_it_whatever_was_read_meanwhile(
    world: World, machines: Machines
) -> None:
    """Which instance its pod runs is read last before it is stopped, and that takes a while."""
    stopped: list[str] = []
    forbidden = False
    settings = msgspec.structs.replace(PATIENT, eviction_patience_seconds=0.0)
    allowed = {"annotations": {keys.MOVABLE: "restart"}}
    async with running(world, settings) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1", **allowed)
        await instance(world, "vm", migratable=False)
        await runs_as(world, "vm-1", "vm")

        async def forbid(call: Call) -> None:
            nonlocal forbidden
            if call.subresource == "eviction" and not call.dry_run:
                raise Throttled(429, "no")
            if call.verb == "delete":
                stopped.append(call.name)
            if (call.kind, call.name, call.done) == (PODS, "vm-1", True):
                order = await kept(world)
                if order is not None and order.departed is not None:
                    forbidden = forbidden or order.departed.kind is Kind.RESTART
            if forbidden:
                extender.knowledge.adopt(applying(mode=Mode.ADVISE))

        world.api.disturbance = forbid
        await applied(extender, DRAIN)
        order = await over(world)

    assert (order.ending, forbidden, stopped) == (Outcome.STOPPED, True, [])
    assert await world.bound("vm-1") == "node-1"
    assert await held(world) == []


async def stop(extender: Service, world: World) -> None:
    assert extender.moving is not None
    await extender.moving.stop("somebody has stopped it")


async def forbid(extender: Service, world: World) -> None:
    """Have the VM's owner say that it is not to be moved."""
    raw = await world.api.patch(
        PODS,
        "vm-1",
        {"metadata": {"annotations": {keys.MOVABLE: "false"}}},
        patch_type=PatchType.MERGE,
        namespace="default",
    )
    uid, known = msgspec.json.decode(raw)["metadata"]["uid"], extender.knowledge.pods
    await until(lambda: not known[uid].movable)


async def test_a_migration_that_has_begun_goes_on_though_it_would_not_be_begun_now(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1")
        await instance(world, "vm", migratable=True)
        await applied(extender, DRAIN)
        await until(lambda: migrations(world))
        await forbid(extender, world)
        meanwhile = await stepped(extender, world)
        async with migrating(world, extender):
            order = await over(world)

    assert meanwhile.ending is None
    assert (order.ending, len(order.made)) == (Outcome.DONE, 1)
    assert await world.bound("vm-target") == "node-2"
    assert await held(world) == []


@pytest.mark.parametrize("by", ["somebody", "time"])
async def test_a_migration_that_stays_pending_is_taken_back_once_it_is_stopped_or_overdue(
    world: World, machines: Machines, by: str
) -> None:
    """Else its order would never be over, and no other could be given."""
    settings = PATIENT if by == "somebody" else msgspec.structs.replace(PATIENT, move_seconds=2.0)
    async with running(world, settings) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1")
        await instance(world, "vm", migratable=True)
        await applied(extender, DRAIN)
        await until(lambda: migrations(world))
        meanwhile = await stepped(extender, world)
        if by == "somebody":
            await stop(extender, world)
        order = await over(world)

    assert meanwhile.ending is None
    assert await migrations(world) == []
    outcome = Outcome.STOPPED if by == "somebody" else Outcome.GIVEN_UP
    assert (order.ending, order.made) == (outcome, ())
    assert await world.bound("vm-1") == "node-1"
    assert await held(world) == []


async def test_a_vm_that_stays_terminating_does_not_hold_its_order_for_ever(
    world: World, machines: Machines
) -> None:
    """It keeps what it has, and what is held for it elsewhere is given back."""
    clock, settings = (
        Ahead(),
        msgspec.structs.replace(
            PATIENT, eviction_patience_seconds=0.0, move_seconds=AGAIN_SECONDS + 3.0
        ),
    )
    listened(world, refused=True)
    allowed = {"annotations": {keys.MOVABLE: "restart"}}
    async with running(world, settings, clock=clock) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1", **allowed)
        before = await machines.on("vm")
        await instance(world, "vm", migratable=False)
        await runs_as(world, "vm-1", "vm")
        await applied(extender, DRAIN)

        async def stopped() -> bool:
            return not (await world.api.list(VIRTUAL_MACHINE_INSTANCES)).items

        await until(stopped)
        terminating = {"metadata": {"name": "vm", "deletionTimestamp": "2026-11-29T12:00:00Z"}}
        await world.api.create(VIRTUAL_MACHINE_INSTANCES, terminating, namespace="default")
        clock.by = AGAIN_SECONDS + 1.0
        await stop(extender, world)
        meanwhile = await stepped(extender, world)
        order = await over(world)

    assert meanwhile.ending is None
    assert (order.ending, order.why) == (Outcome.GIVEN_UP, NOT_LEFT)
    assert await machines.on("vm") == before
    assert await held(world) == []


async def stepped(extender: Service, world: World) -> Order:
    """Take a few steps, and return the order after them."""
    assert extender.moving is not None
    for _ in range(3):
        await extender.moving.step()
    order = await kept(world)
    assert order is not None
    return order


async def strategy(world: World, name: str, said: str) -> None:
    await world.api.patch(
        VIRTUAL_MACHINE_INSTANCES,
        name,
        {"spec": {"evictionStrategy": said}},
        patch_type=PatchType.MERGE,
        namespace="default",
    )


async def guarded(world: World, *names: str, allows: int = 0) -> None:
    """Guard all VMs by budgets, as KubeVirt and owners do."""
    for name in names:
        await world.api.create(
            POD_DISRUPTION_BUDGETS,
            {"metadata": {"name": name}, "spec": {"selector": {}}},
            namespace="default",
        )
        await world.api.patch(
            POD_DISRUPTION_BUDGETS,
            name,
            {"status": {"disruptionsAllowed": allows, "observedGeneration": 1}},
            patch_type=PatchType.MERGE,
            namespace="default",
            subresource="status",
        )


@pytest.mark.parametrize("movable", ["live", "restart", "evicted"])
async def test_budgets_are_in_the_way_of_evictions_alone(
    world: World, machines: Machines, movable: str
) -> None:
    """KubeVirt's own allows no disruption; an owner's beside it would forbid every eviction."""
    await guarded(world, "kubevirt-disruption-budget", "owners")
    allowed = {"annotations": {keys.MOVABLE: "restart"}} if movable == "restart" else {}
    async with running(world) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1", **allowed)
        await instance(world, "vm", migratable=movable == "live")
        advice = await extender.advisor.advise(DRAIN)

    assert advice.attains is (movable != "evicted")
    if advice.attains:
        how, cost = ("live-migration", 1) if movable == "live" else ("restart", 15)
        assert [(each.how, each.cost) for each in advice.moves] == [(how, cost)]
    else:
        assert [each.why for each in advice.obstacles] == [SEVERAL_BUDGETS]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", ""),
        ("None", ""),
        ("LiveMigrateIfPossible", ""),
        ("LiveMigrate", ONLY_LIVE),
        ("External", LEFT_TO_OTHERS),
    ],
)
async def test_a_vm_whose_eviction_kubevirt_would_deny_is_not_planned_to_move(
    world: World, machines: Machines, said: str, why: str
) -> None:
    async with running(world) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1")
        await instance(world, "vm", migratable=False)
        await strategy(world, "vm", said)
        advice = await extender.advisor.advise(DRAIN)

    assert [each.why for each in advice.obstacles] == ([why] if why else [])


@pytest.mark.parametrize(
    ("said", "how", "cost"),
    [("None", "eviction", 10), ("LiveMigrate", "restart", 15), ("External", "restart", 15)],
)
async def test_a_vm_that_may_be_restarted_is_planned_to_where_its_eviction_would_be_denied(
    world: World, machines: Machines, said: str, how: str, cost: int
) -> None:
    async with running(world) as extender:
        allowed = {"annotations": {keys.MOVABLE: "restart"}}
        await machines.place(extender, "vm", "1-10C", "node-1", **allowed)
        await instance(world, "vm", migratable=False)
        await strategy(world, "vm", said)
        advice = await extender.advisor.advise(DRAIN)

    assert [(each.how, each.cost) for each in advice.moves] == [(how, cost)]


async def test_a_vm_that_would_not_be_started_again_is_not_planned_to_move(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1")
        await halted(world, "vm")
        advice = await extender.advisor.advise(DRAIN)

    assert (advice.attains, [each.why for each in advice.obstacles]) == (False, [NOBODY_MAKES_IT])


@pytest.mark.parametrize("said", ["false", "False", "no", ""])
async def test_a_running_vm_is_protected_by_what_its_virtual_machine_is_annotated_with(
    world: World, machines: Machines, said: str
) -> None:
    async with running(world) as extender:
        await machines.place(extender, "vm", "1-10C", "node-1")
        await instance(world, "vm", migratable=True)
        await world.api.patch(
            VIRTUAL_MACHINES,
            "vm",
            {"metadata": {"annotations": {keys.MOVABLE: said}}},
            patch_type=PatchType.MERGE,
            namespace="default",
        )
        advice = await extender.advisor.advise(DRAIN)

    assert [each.why for each in advice.obstacles] == [FORBIDDEN]


@pytest.mark.parametrize(
    ("said", "moves"),
    [("true", True), ("restart", True), ("false", False), ("False", False), ("fasle", False)],
)
async def test_a_vm_moves_only_by_a_word_that_is_known(
    world: World, machines: Machines, said: str, *, moves: bool
) -> None:
    async with running(world) as extender:
        allowed = {"annotations": {keys.MOVABLE: said}}
        await machines.place(extender, "vm", "1-10C", "node-1", **allowed)
        advice = await extender.advisor.advise(DRAIN)

    assert advice.attains is moves
