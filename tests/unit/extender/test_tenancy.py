"""Pools, tenants, caps, sharing, headroom and avoided nodes, from the hooks to the plan."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.ledger import Ledger, promise
from extender.packing.choose import Choice
from extender.policy import InForce, Policy, PolicyName
from extender.policy.bounds import Bounds
from extender.policy.rules import Rules
from extender.request import Wanted
from extender.service import Service
from extender.service.hooks import NAMESPACE_UNKNOWN
from extender.verbs.bind import place
from extender.verbs.filter import filter
from extender.verbs.preempt import sufficient
from extender.verbs.prioritize import prioritize
from extender.verbs.verdicts import Code, Refused
from nodeagent.api.gpunode import Assignment, OwnerRef
from nodeagent.apiserver.memory import Call
from tests.builders import raw_pod
from tests.fakes.world import World, bind_args, filter_args
from tests.tenancy import Cluster, asks, rules, wrongs

pytestmark = pytest.mark.virtual_time

RED = "{name: red, namespaces: {matchLabels: {team: red}}"
BLUE = "{name: blue, namespaces: {matchLabels: {team: blue}}"
BIG = "{name: big, nodes: {matchLabels: {pool: big}}"


def cluster(text: str, **fields: object) -> Cluster:
    return Cluster(rules(text), **fields)  # type: ignore[arg-type]


def refusals(there: Cluster, *wanted: str, **asked: object) -> dict[str, tuple[set[Code], str]]:
    """Return why each node is refused."""
    knowledge = there.knowledge
    bounded = knowledge.bounded(asks(*wanted, **asked))  # type: ignore[arg-type]
    answer = filter(knowledge.fleet, knowledge.ledger, bounded, tuple(there.nodes))
    return {name: (set(answer.codes), why) for name, why in answer.refused.items()}


def placed(there: Cluster, node: str, *wanted: str, pod: str = "before", namespace: str) -> None:
    """Place a pod on a node."""
    raw = asks(*wanted, pod=pod, namespace=namespace)
    knowledge = there.knowledge
    found = place(knowledge.views[node], knowledge.ledger, knowledge.bounded(raw))
    assert isinstance(found, Choice)
    there.give(raw, node, found)


def test_a_pool_serves_its_profiles_alone() -> None:
    there = cluster(f"pools: [{BIG}, profiles: [7g.80gb]}}]")

    assert refusals(there, "1-10C") == dict.fromkeys(
        "ab", ({Code.NOT_IN_POOL}, "vGPU: pool big does not serve 1g.10gb")
    )
    assert refusals(there, "7-80C") == {}


def test_a_tenant_keeps_to_its_pools_and_profiles() -> None:
    there = cluster(f"pools: [{BIG}}}]\ntenants: [{RED}, pools: [big], profiles: [1g.10gb]}}]")

    assert refusals(there, "1-10C", namespace="r1") == {
        "c": ({Code.POOL_NOT_ALLOWED}, "vGPU: tenant red may not use the node's pool")
    }
    assert refusals(there, "7-80C", namespace="r1")["a"][1] == (
        "vGPU: tenant red may not use 7g.80gb"
    )
    assert refusals(there, "7-80C") == {}, "who is no tenant's is not restricted"


@pytest.mark.parametrize("namespace", ["free", "b1"])
def test_who_shares_no_gpu_has_it_alone(namespace: str) -> None:
    there = cluster(f"tenants: [{RED}, dedicated: gpu}}, {BLUE}}}]", nodes={"a": {}}, gpus=1)
    placed(there, "a", "1-10C", namespace="r1")

    assert refusals(there, "1-10C", namespace="r2") == {}, "both namespaces are red's"
    ((codes, why),) = refusals(there, "1-10C", namespace=namespace).values()
    assert codes == {Code.NOT_SHARED}
    assert "do not share GPUs" in why


def test_a_gpu_is_shared_again_only_when_nothing_of_the_other_is_left_on_it() -> None:
    there = cluster(f"tenants: [{RED}, dedicated: gpu}}]", nodes={"a": {}}, gpus=1)
    placed(there, "a", "1-10C", namespace="r1")
    there.follow("a")
    there.take_back("before")
    assert refusals(there, "1-10C") != {}, "the agent has yet to destroy it"

    there.start()
    assert refusals(there, "1-10C") != {}, "and a new extender does not know whose it was"

    there.follow("a")
    assert refusals(there, "1-10C") == {}


def test_a_full_shared_gpu_beside_anothers_is_refused_for_sharing_not_for_room() -> None:
    there = cluster(f"tenants: [{RED}, dedicated: gpu}}]", nodes={"a": {}}, gpus=2)
    placed(there, "a", "1-10C", namespace="r1", pod="red")
    placed(there, "a", "7-80C", namespace="free", pod="other")

    assert refusals(there, "1-10C")["a"][0] == {Code.NOT_SHARED}
    assert refusals(there, "7-80C")["a"][0] == {Code.NO_ROOM}


def test_who_shares_no_node_has_it_alone() -> None:
    there = cluster(f"tenants: [{RED}, dedicated: node}}]", nodes={"a": {}, "b": {}})
    placed(there, "a", "1-10C", namespace="r1")
    placed(there, "b", "1-10C", namespace="free", pod="other")

    assert set(refusals(there, "1-10C", namespace="r2")) == {"b"}
    assert set(refusals(there, "1-10C")) == {"a"}


def test_caps_count_slices_and_instances_and_not_the_pods_own() -> None:
    there = cluster(f"tenants: [{RED}, caps: {{memorySlices: 5, profiles: {{1g.10gb: 2}}}}}}]")
    placed(there, "a", "3-40C", namespace="r1")

    assert refusals(there, "2-20C", namespace="r2")["a"] == (
        {Code.OVER_CAP},
        "vGPU: tenant red is at its cap of memory slices",
    )
    assert refusals(there, "1-10C", namespace="r2") == {}
    assert refusals(there, "3-40C", namespace="r1", pod="before") == {}, "in place of itself"
    assert refusals(there, "3-40C") == {}
    there.take_back("before")
    placed(there, "b", "1-10C", "1-10C", namespace="r1")
    assert refusals(there, "1-10C", namespace="r2")["c"][1] == (
        "vGPU: tenant red is at its cap of 1g.10gb"
    )


def test_entries_that_are_known_before_their_namespace_are_judged_anew_with_it() -> None:
    there = cluster(
        f"tenants: [{RED}, dedicated: gpu}}]",
        nodes={"a": {}},
        namespaces={"free": "none", "r1": "red"},
        gpus=1,
    )
    placed(there, "a", "1-10C", namespace="r1")
    late = cluster(
        f"tenants: [{RED}, dedicated: gpu}}]", nodes={"a": {}}, namespaces={"free": "none"}, gpus=1
    )
    late.write("a", there.plans["a"])
    assert refusals(late, "1-10C") == {}

    late.knowledge.namespace("r1", {"team": "red"})

    assert refusals(late, "1-10C")["a"][0] == {Code.NOT_SHARED}


def test_far_from_its_caps_a_tenants_pods_are_one_class_of_requests() -> None:
    there = cluster(f"tenants: [{RED}, caps: {{memorySlices: 20}}}}]")
    knowledge = there.knowledge
    first = knowledge.fleet.to(*_shape(there))
    placed(there, "a", "3-40C", namespace="r1")

    assert knowledge.fleet.to(*_shape(there)) is first
    assert _shape(there)[1] == _shape(there)[1]


def _shape(there: Cluster) -> tuple[Wanted, Bounds | None]:
    bounded = there.knowledge.bounded(asks("1-10C", namespace="r2"))
    return bounded.wanted, bounded.bounds


def test_headroom_is_for_whom_it_is_released() -> None:
    text = "headroom: [{profile: 7g.80gb, keep: 1, releasedTo: {priority: 10, tenants: [red]}}]"
    there = cluster(f"tenants: [{RED}}}, {BLUE}, priority: 4}}]\n{text}", nodes={"a": {}}, gpus=1)

    ((codes, why),) = refusals(there, "1-10C").values()
    assert codes == {Code.HEADROOM}
    assert why == "vGPU: what is free is kept for 7g.80gb"
    assert refusals(there, "1-10C", namespace="r1") == {}
    assert refusals(there, "1-10C", namespace="b1", priority=6) == {}, "with its tenant's 4, 10"
    assert refusals(there, "1-10C", namespace="b1", priority=5) != {}
    placed(there, "a", "1-10C", namespace="r1")
    assert refusals(there, "1-10C") == {}, "what costs no such room is placed in any case"


def test_an_instance_goes_where_it_costs_no_headroom_though_that_is_not_the_best_place() -> None:
    there = cluster("", nodes={"a": {}}, gpus=2)
    placed(there, "a", "1-10C", namespace="free")
    kept = rules("headroom: [{profile: 7g.80gb, keep: 1}]")

    def chosen(by: Rules) -> str:
        there.knowledge.adopt(InForce(Policy(PolicyName.WORST_FIT), by, version=repr(by)))
        asked = there.knowledge.bounded(asks("1-10C"))
        found = place(there.knowledge.views["a"], there.knowledge.ledger, asked)
        assert isinstance(found, Choice)
        return found.placed[0].uuid

    assert chosen(rules("")) == "a-1", "the emptier GPU"
    assert chosen(kept) == "a-0"


@pytest.mark.parametrize("wanted", [("1-10C",), ("1-10C", "1-10C")])
def test_what_is_only_presumed_for_another_excuses_no_loss_of_headroom(
    wanted: tuple[str, ...],
) -> None:
    text = "headroom: [{profile: 7g.80gb, keep: 1, releasedTo: {tenants: [red]}}]"
    there = cluster(f"tenants: [{RED}}}]\n{text}", nodes={"a": {}}, gpus=1)
    knowledge = there.knowledge
    red = asks("1-10C", namespace="r1", pod="red")
    found = place(knowledge.views["a"], knowledge.ledger, knowledge.bounded(red))
    assert isinstance(found, Choice)
    taken = promise("a", found.placed, "r1")
    knowledge.ledger = knowledge.ledger.presume("red", taken, until=9.0)

    why = place(knowledge.views["a"], knowledge.ledger, knowledge.bounded(asks(*wanted)))
    assert isinstance(why, Refused)
    assert why.code is Code.HEADROOM

    knowledge.ledger = knowledge.ledger.assume("red", taken)
    here = place(knowledge.views["a"], knowledge.ledger, knowledge.bounded(asks(*wanted)))
    assert isinstance(here, Choice), "once it is certain, nothing is lost any more"


def test_victims_give_back_headroom_too() -> None:
    there = cluster("headroom: [{profile: 7g.80gb, keep: 1}]", nodes={"a": {}}, gpus=2)
    placed(there, "a", "7-80C", namespace="free", pod="one")
    knowledge = there.knowledge
    asked = knowledge.bounded(asks("7-80C"), leaving=["one"])

    assert refusals(there, "7-80C")["a"][0] == {Code.HEADROOM}
    assert sufficient(knowledge.views, knowledge.ledger, asked, {"a": ["one"]}) == ("a",)


def test_nodes_to_be_avoided_come_last_and_not_never() -> None:
    there = cluster("avoid: [{nodes: {matchLabels: {pool: big}}}]")
    placed(there, "a", "1-10C", namespace="free")  # fuller, and so the best of all otherwise
    knowledge = there.knowledge

    def winner(*names: str) -> str:
        asked = knowledge.bounded(asks("1-10C"))
        return prioritize(knowledge.fleet, knowledge.ledger, asked, names).winner

    assert winner("a", "b", "c") == "c"
    assert winner("a", "b") == "a"


def test_victims_make_room_only_where_the_rules_allow_it() -> None:
    there = cluster(f"tenants: [{RED}, dedicated: gpu}}]", nodes={"a": {}}, gpus=1)
    for pod in ("one", "two"):
        placed(there, "a", "3-40C", namespace="r1", pod=pod)
    knowledge = there.knowledge

    def enough(*victims: str) -> bool:
        asked = knowledge.bounded(asks("3-40C"), leaving=victims)
        return bool(sufficient(knowledge.views, knowledge.ledger, asked, {"a": victims}))

    assert not enough("one")
    assert enough("one", "two")


def test_a_tenants_own_victims_leave_something_of_its_cap() -> None:
    there = cluster(f"tenants: [{RED}, caps: {{memorySlices: 4}}}}]", nodes={"a": {}}, gpus=1)
    placed(there, "a", "3-40C", namespace="r1", pod="one")
    placed(there, "a", "3-40C", namespace="free", pod="two")
    knowledge = there.knowledge

    def enough(victim: str) -> bool:
        asked = knowledge.bounded(asks("3-40C", namespace="r2"), leaving=[victim])
        return bool(sufficient(knowledge.views, knowledge.ledger, asked, {"a": [victim]}))

    assert enough("one")
    assert not enough("two")


def test_a_held_place_that_the_rules_no_longer_allow_is_not_inherited() -> None:
    owner = OwnerRef("VirtualMachineInstance", "r1", "vm")
    there = cluster(f"tenants: [{RED}, caps: {{memorySlices: 1}}}}]", nodes={"a": {}})
    placed(there, "a", "1-10C", namespace="r1")
    there.write(
        "a",
        [msgspec.structs.replace(each, pod=None, owner=owner) for each in there.plans["a"]],
    )
    there.follow("a")
    knowledge = there.knowledge
    raw = msgspec.structs.replace(asks("1-10C", namespace="r1", pod="next"), owner=owner)

    def inherits() -> bool:
        view = knowledge.views["a"]
        return isinstance(place(view, Ledger(), knowledge.bounded(raw)), Choice)

    assert inherits(), "its own place does not count against it"
    knowledge.adopt(
        InForce(
            Policy(PolicyName.DEFAULT),
            rules(f"tenants: [{RED}, profiles: [7g.80gb]}}]"),
            version="2",
        )
    )
    assert not inherits()


async def test_a_pod_whose_namespace_is_not_known_yet_is_asked_for_again(service: Service) -> None:
    service.knowledge.adopt(
        InForce(Policy(PolicyName.DEFAULT), rules(f"tenants: [{RED}}}]"), version="2")
    )
    args = filter_args(raw_pod("1-10C"), "node-1")

    assert service.hooks.filter(args).error == NAMESPACE_UNKNOWN
    service.knowledge.namespace("default", {})
    assert service.hooks.filter(args).node_names == ("node-1",)


async def test_who_was_over_a_cap_is_woken_when_something_of_it_is_given_back() -> None:
    there = cluster(f"tenants: [{RED}, caps: {{memorySlices: 1}}}}]")
    placed(there, "a", "1-10C", namespace="r1")
    knowledge = there.knowledge
    knowledge.refused.add(asks("1-10C", namespace="r2", pod="later"), {Code.OVER_CAP})
    knowledge.room.clear()

    there.take_back("before")
    there.follow("a")

    assert knowledge.room.is_set(), "though no node has become better for what it asks"


async def test_a_namespace_that_changes_hands_is_judged_anew(service: Service) -> None:
    knowledge = service.knowledge
    knowledge.namespace("default", {})
    knowledge.adopt(
        InForce(
            Policy(PolicyName.DEFAULT),
            rules(f"tenants: [{RED}, caps: {{memorySlices: 0}}}}]"),
            version="2",
        )
    )
    args = filter_args(raw_pod("1-10C"), "node-1")
    assert service.hooks.filter(args).node_names == ("node-1",)

    knowledge.namespace("default", {"team": "red"})

    assert service.hooks.filter(args).node_names == ()


LABELS = {"node-1": {"pool": "big"}, "node-2": {}}
TEAMS = {"default": "red", "blues": "blue"}
SLICES = {"1-10C": 1, "2-20C": 2, "3-40C": 4}


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(TEAMS)),
            st.sampled_from(sorted(SLICES)),
            st.sampled_from(sorted(LABELS)),
        ),
        min_size=4,
        max_size=16,
    ),
    st.integers(0, 8),
    st.sampled_from(["gpu", "node", "null"]),
    st.sampled_from(["", "headroom: [{profile: 7g.80gb, keep: 1}]"]),
)
def test_no_number_of_binds_at_once_breaks_the_rules(
    pods: list[tuple[str, str, str]], cap: int, dedicated: str, headroom: str
) -> None:
    by = rules(
        f"tenants: [{RED}, dedicated: {dedicated}, caps: {{memorySlices: {cap}}}}},"
        f" {BLUE}, caps: {{profiles: {{1g.10gb: 2}}}}}}]\n{headroom}"
    )
    plans = asyncio.run(_raced(pods, by))

    here = _entries_of(plans)
    assert list(wrongs(by, LABELS, TEAMS, here, present=here)) == []
    # Blue may have any of these, one at a time; none of them alone costs the headroom.
    if any(TEAMS[namespace] == "blue" or SLICES[kind] <= cap for namespace, kind, _ in pods):
        assert here, "whoever is first fits"
    if headroom:
        free = 4 - len({each.gpu for _, each in here})
        assert free >= 1


def test_of_more_pods_than_the_caps_allow_at_once_as_many_are_bound_as_they_allow() -> None:
    by = rules(
        f"tenants: [{RED}, caps: {{memorySlices: 4}}}},"
        f" {BLUE}, caps: {{profiles: {{1g.10gb: 2}}}}}}]"
    )
    nodes = itertools.cycle(sorted(LABELS))
    pods = [(namespace, "1-10C", next(nodes)) for namespace in [*["default"] * 5, *["blues"] * 5]]

    here = _entries_of(asyncio.run(_raced(pods, by)))

    whose = Counter(TEAMS[each.pod.namespace] for _, each in here if each.pod is not None)
    assert whose == {"red": 4, "blue": 2}
    assert list(wrongs(by, LABELS, TEAMS, here, present=here)) == []


def _entries_of(plans: dict[str, tuple[Assignment, ...]]) -> list[tuple[str, Assignment]]:
    return [
        (name, msgspec.structs.replace(each, gpu=f"{name}/{each.gpu}"))
        for name, plan in plans.items()
        for each in plan
    ]


async def _pause(call: Call) -> None:
    """Let all other binds have a turn, several times, before and after a call is carried out."""
    for _ in range(3):
        await asyncio.sleep(0)


async def _raced(pods: list[tuple[str, str, str]], by: Rules) -> dict[str, tuple[Assignment, ...]]:
    """Bind all pods at once, each to its node, without a filter; return the plans."""
    world = World()
    for name, labels in LABELS.items():
        await world.add_node(name, gpus=2, **labels)
    for name, team in TEAMS.items():
        await world.add_namespace(name, team=team)
    policy = InForce(Policy(PolicyName.DEFAULT), by, version="test")
    async with world.extender(policy=policy) as extender, world.obedient(*LABELS):
        made = [
            await world.add_pod(f"vm-{at}", shape, namespace=namespace)
            for at, (namespace, shape, _) in enumerate(pods)
        ]
        world.api.disturbance = _pause
        async with asyncio.TaskGroup() as binds:
            for pod, (_, _, node) in zip(made, pods, strict=True):
                binds.create_task(extender.binder.bind(bind_args(pod, node)))
        return {name: (await world.gpu_node(name)).spec.assignments for name in LABELS}
