"""Plans move nobody whose eviction is refused: their evictions are tried in a dry run before."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from extender.advice import EVICTION_REFUSED, Asked
from extender.advice.document import Outcome as Said
from extender.moving import Outcome
from extender.service.ordering import NotApplied
from extender.service.ports import ClusterUnavailable
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    POD_DISRUPTION_BUDGETS,
    VIRTUAL_MACHINE_INSTANCES,
    ApiError,
    Invalid,
    Overloaded,
    PatchType,
    Refused,
    Throttled,
)
from tests.fakes.machines import Machines
from tests.fakes.occupied import guarded
from tests.fakes.world import World
from tests.unit.extender.moving.orders import NODES, applied, held, kept, over, running
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

ADMIT = Asked(admit=(("default", "whole"),))
DRAIN = Asked(drain=("node-1",))
DENIED = Refused(403, 'admission webhook "x" denied the request: it cannot migrate')


class Webhook:
    """Refuses evictions of pods, by name, tried in a dry run or not; hears of those made."""

    def __init__(self, world: World, *refuses: str, by: ApiError = DENIED) -> None:
        self.refuses: Collection[str] = refuses
        self.evicted: list[str] = []
        self._by = by
        world.api.disturbance = self

    async def __call__(self, call: Call) -> None:
        if call.subresource != "eviction":
            return
        if not call.done and call.name in self.refuses:
            raise self._by
        if call.done and not call.dry_run:
            self.evicted.append(call.name)


@pytest.mark.parametrize(
    "by",
    [
        DENIED,
        Throttled(429, 'admission webhook "x" denied the request: it cannot migrate'),
        Invalid(422, 'ValidatingAdmissionPolicy "x" denied request'),
    ],
    ids=["webhook", "KubeVirt", "policy"],
)
async def test_a_pod_is_admitted_by_the_move_of_a_vm_whose_eviction_is_not_refused(
    world: World, machines: Machines, by: ApiError
) -> None:
    async with running(world) as extender:
        await machines.place(extender, "one", "1-10C", "node-1")
        await machines.place(extender, "two", "1-10C", "node-2")
        await machines.add("whole", "7-80C")
        async with machines.running(extender, NODES):
            await until(lambda: extender.knowledge.pending.waiting)
            (first,) = (await extender.advisor.advise(ADMIT)).moves
            webhook = Webhook(world, f"{first.vm.name}-1", by=by)
            (step,) = (await extender.advisor.advise(ADMIT)).moves
            await applied(extender, ADMIT)
            order = await over(world)

    assert {first.vm.name, step.vm.name} == {"one", "two"}
    assert order.ending is Outcome.DONE
    assert webhook.evicted == [f"{step.vm.name}-1"]


async def test_a_drain_says_whose_eviction_is_refused(world: World, machines: Machines) -> None:
    async with running(world) as extender:
        for name in ("a", "b"):
            await machines.place(extender, name, "1-10C", "node-1")
        Webhook(world, "b-1")
        advice = await extender.advisor.advise(DRAIN)

    assert advice.outcome is Said.INFEASIBLE
    assert [(each.vm and each.vm.name, each.why, each.answer) for each in advice.obstacles] == [
        ("b", EVICTION_REFUSED, DENIED.message)
    ]


async def test_nobody_is_stopped_for_a_plan_once_the_eviction_of_one_of_its_vms_is_refused(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        for name in ("a", "b"):
            await machines.place(extender, name, "1-10C", "node-1")
        advice = await extender.advisor.advise(DRAIN)
        webhook = Webhook(world, advice.moves[-1].vm.name + "-1")
        assert extender.ordering is not None
        with pytest.raises(NotApplied, match="no plan that attains that any more"):
            await extender.ordering.apply(DRAIN, advice.digest)

    assert webhook.evicted == []
    assert await kept(world) is None
    assert await held(world) == []


async def test_a_budget_that_allows_no_more_once_it_has_been_read_is_seen(
    world: World, machines: Machines
) -> None:
    """All its pods may be away by the time at which a plan is made."""

    async def use_up(call: Call) -> None:
        if (call.verb, call.kind, call.done) == ("list", POD_DISRUPTION_BUDGETS, True):
            await world.api.patch(
                POD_DISRUPTION_BUDGETS,
                "owners",
                {"status": {"disruptionsAllowed": 0}},
                patch_type=PatchType.MERGE,
                namespace="default",
                subresource="status",
            )

    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        await guarded(world, "owners", "a-1", allows=1)
        before = await extender.advisor.advise(DRAIN)
        world.api.disturbance = use_up
        advice = await extender.advisor.advise(DRAIN)

    assert before.attains
    assert [each.why for each in advice.obstacles] == [EVICTION_REFUSED]


async def test_what_no_api_server_rehearses_is_planned(world: World, machines: Machines) -> None:
    """One of its webhooks says that it has side effects."""
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        Webhook(world, "a-1", by=Refused(400, 'admission webhook "x" does not support dry run'))
        advice = await extender.advisor.advise(DRAIN)

    assert advice.attains


async def test_a_busy_api_server_refuses_nobody(world: World, machines: Machines) -> None:
    """Its flow control answers 429, as budgets and KubeVirt's webhook do."""
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        Webhook(world, "a-1", by=Overloaded(429, "too many requests", retry_after=1.0))
        with pytest.raises(ClusterUnavailable, match="too many requests"):
            await extender.advisor.advise(DRAIN)
        world.api.disturbance = None
        advice = await extender.advisor.advise(DRAIN)

    assert advice.attains


async def test_whether_a_vm_is_refused_is_not_said_while_nobody_may_read_whether_it_migrates(
    world: World, machines: Machines
) -> None:
    """KubeVirt's webhook refuses the eviction of one that does, too, and has it migrate."""

    async def forbid(call: Call) -> None:
        if (call.verb, call.kind) == ("get", VIRTUAL_MACHINE_INSTANCES):
            raise Refused(403, "virtualmachineinstances.kubevirt.io is forbidden")
        await webhook(call)

    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        webhook = Webhook(world, "a-1")
        world.api.disturbance = forbid
        with pytest.raises(ClusterUnavailable, match="virtualmachineinstances"):
            await extender.advisor.advise(DRAIN)
