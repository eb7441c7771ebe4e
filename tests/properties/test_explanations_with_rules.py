"""What is said to help breaks no rule of the policy, judged by who shares no code with them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import msgspec

from extender.explain.explanation import Explanation, Moves, State
from extender.packing.choose import Choice
from extender.request import Request
from extender.service.explaining import Explainer
from extender.service.ports import PodFacts
from extender.verbs.bind import place
from extender.verbs.filter import filter
from tests.builders import VGPU
from tests.tenancy import NAMESPACES, NODES, Cluster, asks, rules

RULES = (
    """
tenants:
- {name: red, namespaces: {matchLabels: {team: red}}, dedicated: gpu}
- {name: blue, namespaces: {matchLabels: {team: blue}}}
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
