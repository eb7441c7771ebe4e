"""What is said to help breaks no rule of the policy, judged by who shares no code with them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec
import pytest

from extender.explain.explanation import Explanation, Moves, NoMoves, State
from extender.packing.choose import Choice
from extender.policy.rules import Headroom, Tenant
from extender.request import Request
from extender.service.explaining import Explainer
from extender.service.ports import PodFacts
from extender.verbs.bind import place
from extender.verbs.filter import filter
from tests.builders import H100, VGPU
from tests.explained import PROFILE_OF
from tests.reachable import Gpu, Occupant, reachable, starts
from tests.tenancy import NAMESPACES, NODES, Cluster, asks, rules

RULES = (
    """
tenants:
- {name: red, namespaces: {matchLabels: {team: red}}, dedicated: gpu}
- {name: blue, namespaces: {matchLabels: {team: blue}}, movable: false}
""",
    """
pools:
- {name: big, nodes: {matchLabels: {pool: big}}, profiles: [3g.40gb, 2g.20gb, 1g.10gb]}
tenants:
- {name: red, namespaces: {matchLabels: {team: red}}, pools: [big]}
- {name: green, namespaces: {matchLabels: {team: green}}, dedicated: node}
""",
    """
headroom: [{profile: 3g.40gb, keep: 2, releasedTo: {tenants: [red]}}]
tenants:
- {name: red, namespaces: {matchLabels: {team: red}}, caps: {memorySlices: 30}}
- {name: blue, namespaces: {matchLabels: {team: blue}}, caps: {profiles: {2g.20gb: 3}}}
""",
)
CAPS = """
tenants:
- {name: red, namespaces: {matchLabels: {team: red}}, caps: {memorySlices: 12}}
- {name: blue, namespaces: {matchLabels: {team: blue}}, caps: {profiles: {2g.20gb: 3}}}
"""
TYPES = ("1-10C", "1-10C", "2-20C", "2-20C", "3-40C", "4-40C")


def filled(cluster: Cluster, chance: random.Random) -> None:
    """Let VMs of all tenants come, where the rules let them be, and some of them go again."""
    names = list(cluster.nodes)
    for number in range(40):
        knowledge = cluster.knowledge
        asked = asks(
            chance.choice(TYPES), namespace=chance.choice(sorted(NAMESPACES)), pod=f"vm-{number}"
        )
        bounded = knowledge.bounded(asked)
        passed = filter(knowledge.fleet, knowledge.ledger, bounded, names).passed
        if not passed:
            continue
        node = chance.choice(passed)
        choice = place(knowledge.views[node], knowledge.ledger, bounded)
        assert isinstance(choice, Choice)
        cluster.give(asked, node, choice)
        cluster.follow(node)
        movable = chance.random() < 0.9
        knowledge.pod(PodFacts(asked.pod, asked, node, "Running", movable=movable))
    for number in range(40):
        if chance.random() < 0.35:
            cluster.take_back(f"vm-{number}")
    for name in names:
        cluster.follow(name)


def explained(cluster: Cluster, asked: Request) -> Explanation:
    cluster.knowledge.pod(PodFacts(asked.pod, asked))
    found = asyncio.run(Explainer(cluster.knowledge).explain(asked.pod.namespace, asked.pod.name))
    assert found is not None
    return found


def carried_out(cluster: Cluster, plan: Moves) -> None:
    """Let each VM move, and every agent follow."""
    for move in plan.moves:
        there = cluster.plans[move.source.node]
        (entry,) = (
            each
            for each in there
            if (each.gpu, each.start) == (move.source.uuid, move.source.start)
        )
        assert entry.pod is not None
        assert entry.pod.name == move.name
        tenant = cluster.rules.tenant_of({"team": NAMESPACES[entry.pod.namespace]})
        assert tenant is None or tenant.movable
        goes = msgspec.structs.replace(entry, gpu=move.target.uuid, start=move.target.start)
        cluster.write(move.source.node, [each for each in there if each is not entry])
        cluster.follow(move.source.node)
        cluster.write(move.target.node, [*cluster.plans[move.target.node], goes])
        cluster.follow(move.target.node)
        assert not list(cluster.wrongs())


def test_moves_that_are_told_of_break_no_rule_and_let_the_pod_pass() -> None:
    chance, found = random.Random(3), Counter[str]()
    for number in range(240):
        by = rules(chance.choice(RULES))
        cluster = Cluster(by)
        filled(cluster, chance)
        assert not list(cluster.wrongs())
        asked = asks(chance.choice(TYPES), namespace=chance.choice(sorted(NAMESPACES)), pod="me")
        said = explained(cluster, asked)
        if said.state is not State.REFUSED or not isinstance(said.room, Moves):
            found[said.missing.lack if said.missing else "placed"] += 1
            continue
        found["helped"] += 1
        kept = {each.profile: cluster.room(each.pool, each.profile) for each in by.headroom}
        carried_out(cluster, said.room)
        (spot,) = said.room.on
        knowledge = cluster.knowledge
        passed = filter(
            knowledge.fleet, knowledge.ledger, knowledge.bounded(asked), list(NODES)
        ).passed
        assert spot.node in passed, number
        choice = place(knowledge.views[spot.node], knowledge.ledger, knowledge.bounded(asked))
        assert isinstance(choice, Choice)
        cluster.give(asked, spot.node, choice)
        assert not list(cluster.wrongs())
        for each in by.headroom:
            if asked.pod.namespace not in ("r1", "r2"):  # it is released to red
                left = cluster.room(each.pool, each.profile)
                assert left >= min(each.keep, kept[each.profile])
    assert found["helped"] >= 15, found
    assert len(found) >= 3, found


TWO_POOLS = """
pools:
- {name: big, nodes: {matchLabels: {pool: big}}, profiles: [4g.40gb, 3g.40gb, 2g.20gb]}
- {name: rest, nodes: {}}
tenants:
- {name: red, namespaces: {matchLabels: {team: red}}, pools: [big, rest]}
- {name: blue, namespaces: {matchLabels: {team: blue}}, pools: [rest]}
"""
SHARED = (  # under these, no GPU is kept from anybody for who is on it
    TWO_POOLS,
    f"{TWO_POOLS}headroom: [{{profile: 3g.40gb, pool: big, keep: 1}}]",
    "headroom: [{profile: 2g.20gb, keep: 1, releasedTo: {tenants: [red]}}]\n" + CAPS,
    "headroom: [{profile: 3g.40gb, keep: 2, releasedTo: {tenants: [red]}}]\n" + CAPS,
)


APART = """
tenants:
- {{name: red, namespaces: {{matchLabels: {{team: red}}}}, dedicated: {level}}}
- {{name: blue, namespaces: {{matchLabels: {{team: blue}}}}}}
- {{name: green, namespaces: {{matchLabels: {{team: green}}}}, dedicated: {other}}}
"""
DEDICATED = (  # moves change who shares a GPU with whom
    APART.format(level="gpu", other="null"),
    APART.format(level="node", other="null"),
    APART.format(level="gpu", other="gpu"),
    TWO_POOLS.replace("pools: [rest]", "pools: [rest], dedicated: gpu"),
)


@pytest.mark.parametrize(
    ("policies", "least"),
    [
        (SHARED, {"none helps": 30, "fewest": 5}),
        (DEDICATED, {"none helps": 30, "fewest": 5, "fewest of several": 1}),
    ],
    ids=["shared", "dedicated"],
)
def test_what_is_said_of_moves_under_rules_is_what_trying_them_all_finds(
    policies: tuple[str, ...], least: Mapping[str, int]
) -> None:
    """All states that moves lead to are looked at, on clusters of three nodes with a GPU each."""
    chance, found = random.Random(9), Counter[str]()
    for number in range(600):
        cluster = Cluster(rules(chance.choice(policies)), gpus=1)
        filled(cluster, chance)
        asked = asks(chance.choice(TYPES), namespace=chance.choice(sorted(NAMESPACES)), pod="me")
        said = explained(cluster, asked)
        if said.state is not State.REFUSED:
            continue
        match said.room:
            case NoMoves(proven=True) as none:
                found["none helps"] += 1
                assert not helped_by(cluster, asked, moves=none.most), number
            case Moves(fewest=True) as plan:
                found["fewest"] += 1
                found["fewest of several"] += len(plan.moves) > 1
                assert not helped_by(cluster, asked, moves=len(plan.moves) - 1), number
            case _:
                found["not said for certain"] += 1
    assert all(found[what] >= count for what, count in least.items()), found


def helped_by(cluster: Cluster, asked: Request, *, moves: int) -> bool:
    """Tell whether so many moves that break no rule lead to where the pod may be, by all rules."""
    by, (resource,) = cluster.rules, asked.wanted
    profile_id = PROFILE_OF[resource]
    names = {profile.id: profile.name for profile in H100.geometry.profiles}
    tenant_of = {name: by.tenant_of({"team": team}) for name, team in cluster.namespaces.items()}

    def may_be(profile_id: int, namespace: str, gpu: Gpu) -> bool:
        tenant, pool = tenant_of[namespace], by.pool_of({"pool": gpu.where})
        offered = pool is None or not pool.profiles or names[profile_id] in pool.profiles
        at_home = tenant is None or not tenant.pools or (pool and pool.name in tenant.pools)
        return offered and bool(at_home)

    def name_of(namespace: str) -> str:
        tenant = tenant_of[namespace]
        return "" if tenant is None else tenant.name

    def shares(namespace: str, gpu: Gpu) -> bool:
        """A GPU here is a node, too: whoever is on it alone, is so on either."""
        there = {name_of(each.whose) for each in gpu.occupants} | {name_of(namespace)}
        return len(there) == 1 or not there & apart

    def may_go(occupant: Occupant, gpu: Gpu) -> bool:
        return may_be(occupant.profile_id, occupant.whose, gpu) and shares(occupant.whose, gpu)

    def left(state: Iterable[Gpu], kept: Headroom) -> int:
        return sum(
            most_at_once(gpu.occupants, kept.profile)
            for gpu in state
            if not kept.pool or gpu.where == kept.pool
        )

    apart = {each.name for each in by.tenants if each.dedicated}
    now = state_of(cluster)
    asking = tenant_of[asked.pod.namespace]
    whose = "" if asking is None else asking.name
    kept = [each for each in by.headroom if not each.released(whose, asked.priority)]
    if asking is not None and not within_caps(now, asking, tenant_of, names, profile_id):
        return False
    for state in reachable(now, moves=moves, may_go=may_go):
        if any(left(state, each) < min(left(now, each), each.keep) for each in kept):
            continue
        for at, gpu in enumerate(state):
            namespace = asked.pod.namespace
            if not may_be(profile_id, namespace, gpu) or not shares(namespace, gpu):
                continue
            for start in starts(gpu.occupants, profile_id):
                me = Occupant(profile_id, start, movable=False)
                then = [*state[:at], gpu._replace(occupants=(*gpu.occupants, me)), *state[at + 1 :]]
                if all(left(then, each) >= min(left(state, each), each.keep) for each in kept):
                    return True
    return False


def state_of(cluster: Cluster) -> tuple[Gpu, ...]:
    """Return what is on each GPU; those of a pool are told apart by that alone."""
    movable = {uid: facts.movable for uid, facts in cluster.knowledge.pods.items()}
    found = []
    for name, labels in cluster.nodes.items():
        on = [
            Occupant(each.profile_id, each.start, movable[each.pod.uid], each.pod.namespace)
            for each in cluster.plans[name]
            if each.pod is not None
        ]
        found.append(Gpu(tuple(sorted(on)), labels.get("pool", "")))
    return tuple(found)


def within_caps(
    state: Iterable[Gpu],
    asking: Tenant,
    tenant_of: Mapping[str, Tenant | None],
    names: Mapping[int, str],
    profile_id: int,
) -> bool:
    """Tell whether a tenant may have one more of a profile: moves change nothing of that."""
    has = [
        each.profile_id
        for gpu in state
        for each in gpu.occupants
        if tenant_of[each.whose] == asking
    ]
    has.append(profile_id)
    slices = sum(H100.geometry.by_id[each].size for each in has)
    most = asking.caps.memory_slices
    return (most is None or slices <= most) and all(
        sum(names[each] == profile for each in has) <= count
        for profile, count in asking.caps.profiles.items()
    )


def most_at_once(occupants: tuple[Occupant, ...], profile: str) -> int:
    """Return how many more of a profile, all of one size, a GPU would take."""
    (profile_id,) = (each.id for each in H100.geometry.profiles if each.name == profile)
    return max(
        (
            1 + most_at_once((*occupants, Occupant(profile_id, start, movable=False)), profile)
            for start in starts(occupants, profile_id)
        ),
        default=0,
    )


def test_who_is_beyond_a_cap_is_not_told_of_moves() -> None:
    cluster = Cluster(
        rules(
            "tenants: [{name: red, namespaces: {matchLabels: {team: red}}, "
            "caps: {memorySlices: 1, profiles: {1g.10gb: 1}}}]"
        )
    )
    first = asks("1-10C", namespace="r1", pod="first")
    choice = place(cluster.knowledge.views["a"], cluster.knowledge.ledger, first)
    assert isinstance(choice, Choice)
    cluster.give(first, "a", choice)
    cluster.follow("a")

    said = explained(cluster, asks("1-10C", namespace="r2", pod="me"))

    assert said.room is None
    assert said.missing is not None
    assert said.missing.lack == "cap"
    assert said.rights is not None
    assert [(cap.profile, cap.used, cap.most, cap.within) for cap in said.rights.caps] == [
        ("", 1, 1, False),
        ("1g.10gb", 1, 1, False),
    ]
    assert said.asked is not None
    assert said.asked.amounts[0].resource == VGPU + "1-10C"
