"""Joint plans and gangs under the rules: who comes first, who fits in a cap, all or none."""

from __future__ import annotations

import pytest

from extender.ledger import Promise
from extender.packing.choose import Choice
from extender.packing.solve import Status
from extender.planning.joint import JointPlan, Limits, Waiting
from extender.planning.stages import staged_plan
from extender.policy import InForce, Policy, PolicyName
from extender.request import Request
from extender.snapshot import Taken
from extender.verbs.bind import place
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from tests.builders import gpu, gpu_node, instance
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import World
from tests.tenancy import Cluster, asks, rules
from tests.unit.extender.test_gangs import NODES, SOON, bound, entries, gang
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

RED = "{name: red, namespaces: {matchLabels: {team: red}}"
BLUE = "{name: blue, namespaces: {matchLabels: {team: blue}}"


def planned(
    text: str, *pods: tuple[str, str], nodes: tuple[str, ...] = ("a",), gpus: int
) -> JointPlan:
    """Plan pods, given as namespace and vGPU type, that came in this order."""
    there = Cluster(rules(text), nodes={name: {"pool": name} for name in nodes}, gpus=gpus)
    knowledge = there.knowledge
    return staged_plan(
        knowledge.views,
        knowledge.ledger,
        [
            Waiting(
                knowledge.bounded(asks(shape, namespace=namespace, pod=f"{namespace}-{at}")),
                frozenset(nodes),
                since=float(at),
            )
            for at, (namespace, shape) in enumerate(pods)
        ],
        Limits(pods=99, seconds=5.0),
        knowledge.tenancy.left(knowledge.ledger),
        clock=lambda: 0.0,
    )


def test_the_tenant_of_higher_priority_is_planned_first() -> None:
    text = f"tenants: [{RED}, priority: 1}}, {BLUE}}}]"

    assert set(planned(text, ("b1", "7-80C"), ("r1", "7-80C"), gpus=1).places) == {"r1-1"}


def test_the_solver_chooses_who_fits_in_a_cap() -> None:
    shapes = ("1-10C", "2-20C", "2-20C", "3-40C")  # one after the other they would use 3 slices
    text = f"tenants: [{RED}, caps: {{memorySlices: 4}}}}]"

    found = planned(text, *(("r1", each) for each in shapes), gpus=4)

    assert sum(each.placement.size for _, placed in found.places.values() for each in placed) == 4


def test_those_who_share_nothing_are_planned_onto_gpus_of_their_own() -> None:
    text = f"tenants: [{RED}, dedicated: gpu}}, {BLUE}}}]"
    pods = [("r1", "1-10C"), ("b1", "1-10C"), ("r2", "1-10C"), ("free", "1-10C")]

    found = planned(text, *pods, gpus=2)

    on = {uid: placed[0].uuid for uid, (_, placed) in found.places.items()}
    assert on["r1-0"] == on["r2-2"]
    assert on["b1-1"] == on["free-3"]
    assert on["r1-0"] != on["b1-1"]
    assert len(planned(text, *pods, gpus=1).places) == 2, "one of the two has the only GPU"


def test_nodes_to_be_avoided_are_planned_with_last() -> None:
    text = "avoid: [{nodes: {matchLabels: {pool: a}}}]"
    pods = [("free", "7-80C")] * 3

    found = planned(text, *pods, nodes=("a", "b"), gpus=2)

    assert sorted(node for node, _ in found.places.values()) == ["a", "b", "b"]


def test_headroom_is_left_by_a_plan_but_for_those_it_is_released_to() -> None:
    text = (
        f"tenants: [{RED}}}]\n"
        "headroom: [{profile: 7g.80gb, keep: 1, releasedTo: {tenants: [red]}}]"
    )

    assert len(planned(text, *[("free", "4-40C")] * 3, gpus=2).places) == 1
    assert len(planned(text, *[("r1", "4-40C")] * 3, gpus=2).places) == 2


RELEASED = "headroom: [{profile: 7g.80gb, keep: 1, releasedTo: {tenants: [red]}}]"


def test_nobody_is_planned_where_headroom_is_spoiled_only_if_another_comes_first() -> None:
    text = f"tenants: [{RED}, priority: 1}}]\n{RELEASED}"
    pods = [("r1", "1-10C"), ("free", "1-10C")]

    assert set(planned(text, *pods, gpus=1).places) == {"r1-0"}
    assert len(planned(text, *pods, gpus=2).places) == 2, "there is a whole GPU after both"


def test_who_costs_no_headroom_keeps_nobody_from_it_to_whom_it_is_released() -> None:
    there = Cluster(rules(f"tenants: [{RED}}}]\n{RELEASED}"), nodes={"a": {}}, gpus=2)
    knowledge = there.knowledge
    there.give(asks("1-10C", pod="before"), "a", chosen(there, asks("1-10C", pod="before")))
    pods = [asks("1-10C", priority=9), asks("7-80C", namespace="r1", pod="red")]

    found = staged_plan(
        knowledge.views,
        knowledge.ledger,
        [Waiting(knowledge.bounded(each), frozenset({"a"}), since=0.0) for each in pods],
        Limits(pods=9, seconds=5.0),
        knowledge.tenancy.left(knowledge.ledger),
        clock=lambda: 0.0,
    )

    assert set(found.places) == {"pod-1", "red"}


def chosen(there: Cluster, asked: Request) -> Choice:
    knowledge = there.knowledge
    found = place(knowledge.views["a"], knowledge.ledger, knowledge.bounded(asked))
    assert isinstance(found, Choice)
    return found


def test_a_cap_holds_where_a_resource_is_more_slices_than_elsewhere() -> None:
    wanted = "nvidia.com/mig-1g.10gb"  # 1 slice of an H100-80GB, 2 of an A100-40GB
    there = Cluster(
        rules(f"tenants: [{RED}, caps: {{memorySlices: 3}}}}]"), nodes={"a": {}, "b": {}}
    )
    knowledge = there.knowledge
    full = gpu(uuid="h", instances=(instance(0, 0),))
    for name, model, gpus in (("a", "H100-80GB", [full]), ("b", "A100-40GB", 1)):
        knowledge.gpu_node(
            gpu_node(
                name,
                uid=f"uid-{name}",
                model=model,
                gpus=gpus,
                mode=Mode.CONTAINER,
                version=99,
                generation=9,
            )
        )

    found = staged_plan(
        knowledge.views,
        knowledge.ledger,
        [
            Waiting(
                knowledge.bounded(asks(wanted, namespace="r1", pod=f"pod-{at}")),
                frozenset({"a", "b"}),
                since=float(at),
            )
            for at in range(2)
        ],
        Limits(pods=9, seconds=5.0),
        knowledge.tenancy.left(knowledge.ledger),
        clock=lambda: 0.0,
    )

    assert list(found.places) == ["pod-0"]


def test_who_is_given_more_than_a_cap_leaves_keeps_nobody_from_a_gpu_that_failed() -> None:
    there = Cluster(
        rules(f"tenants: [{RED}, caps: {{memorySlices: 1}}}}]"), nodes={"a": {}, "b": {}, "c": {}}
    )
    knowledge = there.knowledge
    full = gpu(uuid="full", instances=(instance(0, 0),))
    failed = gpu(uuid="failed")
    for name, model, gpus in (
        ("a", "H100-80GB", [full]),
        ("b", "A100-40GB", 1),  # the red pod is 1 slice by the H100 there, and 2 on this one
        ("c", "H100-80GB", [failed]),
    ):
        knowledge.gpu_node(
            gpu_node(
                name,
                uid=f"uid-{name}",
                model=model,
                gpus=gpus,
                mode=Mode.CONTAINER,
                version=99,
                generation=9,
            )
        )
    lost = Promise("c", (Taken("failed", 0, Placement(0, 8)),))

    found = staged_plan(
        knowledge.views,
        knowledge.ledger.avoid("c/failed", lost, until=9.0),
        [
            Waiting(
                knowledge.bounded(asks(f"nvidia.com/mig-{wanted}", namespace=of, pod=f"{of}-pod")),
                frozenset({node}),
                since=0.0,
            )
            for of, wanted, node in (
                ("r1", "1g.10gb", "b"),
                ("r2", "1g.10gb", "c"),
                ("free", "7g.80gb", "c"),
            )
        ],
        Limits(pods=9, seconds=5.0),
        knowledge.tenancy.left(knowledge.ledger),
        clock=lambda: 0.0,
    )

    assert list(found.places) == ["free-pod"]
    assert found.status in (Status.OPTIMAL, Status.FEASIBLE)


@pytest.mark.parametrize(("cap", "places"), [(7, 0), (8, 2)])
async def test_a_gang_fits_in_its_tenants_cap_whole_or_not_at_all(cap: int, places: int) -> None:
    world = World()
    for name in NODES:
        await world.add_node(name)
    await world.add_namespace("default", team="red")
    by = rules(f"tenants: [{RED}, caps: {{memorySlices: {cap}}}, dedicated: node}}]")
    policy = InForce(Policy(PolicyName.DEFAULT), by, version="test")
    pods = await gang(world, "3-40C", "3-40C")
    async with world.extender(SOON, policy) as extender, world.obedient(*NODES):
        scheduler = Scheduler(extender, NODES)
        if places:
            await scheduler.until_bound(world, pods)
        else:
            await scheduler.once(pods)
            await until(lambda: extender.knowledge.enlisted.no_room)
            await scheduler.once(pods)
            assert set(scheduler.reasons.values()) == {
                "vGPU: the whole gang is beyond tenant red's cap of memory slices"
            }

    assert len(await bound(world, pods)) == places
    assert await entries(world) == places
