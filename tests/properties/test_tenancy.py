"""Whatever comes and goes, nothing is placed that the rules of the policy forbid."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.packing.choose import Choice
from extender.planning.joint import Limits, Waiting
from extender.planning.stages import staged_plan
from extender.policy.rules import Rules
from extender.request import Gang
from extender.verbs.bind import place
from extender.verbs.filter import filter
from extender.verbs.prioritize import prioritize
from tests.tenancy import NAMESPACES, NODES, Cluster, asks, rules

TENANTS = """\
- {{name: red, namespaces: {{matchLabels: {{team: red}}}}, dedicated: {red},
    caps: {{memorySlices: {cap}}}}}
- {{name: blue, namespaces: {{matchLabels: {{team: blue}}}}, dedicated: {blue},
    profiles: [1g.10gb, 2g.20gb, 3g.40gb], priority: 5}}
- {{name: green, namespaces: {{matchLabels: {{team: green}}}}, pools: [big],
    caps: {{profiles: {{1g.10gb: 3, 2g.20gb: 1}}}}}}
"""
EXTRAS = (
    "",
    "headroom: [{profile: 7g.80gb, keep: 3, pool: big}]",
    "headroom: [{profile: 3g.40gb, keep: 9, releasedTo: {tenants: [green], priority: 5}}]",
    "headroom: [{profile: 7g.80gb, keep: 4, pool: big, releasedTo: {priority: 5}},"
    " {profile: 1g.10gb, keep: 38}]\navoid: [{nodes: {matchLabels: {pool: big}}}]",
)
"""Headroom is near all there is: room for 4 x 7g.80gb in the pool, 12 x 3g.40gb in all."""

SHAPES = (("1-10C",), ("2-20C",), ("3-40C",), ("7-80C",), ("1-10C", "1-10C"), ("2-20C", "3-40C"))


@st.composite
def policies(draw: st.DrawFn) -> Rules:
    levels = st.sampled_from(["gpu", "node", "null"])
    tenants = TENANTS.format(red=draw(levels), blue=draw(levels), cap=draw(st.integers(0, 12)))
    pool = draw(st.sampled_from(["", ", profiles: [1g.10gb, 2g.20gb, 7g.80gb]"]))
    pools = f"- {{name: big, nodes: {{matchLabels: {{pool: big}}}}{pool}}}\n"
    extra = draw(st.sampled_from(EXTRAS))
    return rules(f"pools:\n{pools}tenants:\n{tenants}{extra}\n")


arrivals = st.tuples(
    st.just("pod"), st.sampled_from(sorted(NAMESPACES)), st.sampled_from(SHAPES), st.integers(0, 6)
)
events = st.one_of(
    arrivals,
    arrivals,
    arrivals,
    st.tuples(st.just("gone"), st.integers(0, 30)),
    st.tuples(st.just("agent"), st.sampled_from(sorted(NODES))),
    st.tuples(st.just("restart")),
)


@settings(deadline=None)
@given(policies(), st.lists(events, max_size=25))
def test_no_history_ends_in_what_the_rules_forbid(
    by: Rules, history: list[tuple[object, ...]]
) -> None:
    cluster = Cluster(by)
    placed: list[str] = []
    for at, event in enumerate(history):
        _happens(cluster, f"pod-{at}", event, placed)
        assert list(cluster.wrongs()) == []


changes = st.one_of(
    st.tuples(st.just("policy"), policies()),
    st.tuples(
        st.just("namespace"),
        st.sampled_from(sorted(NAMESPACES)),
        st.sampled_from(sorted(set(NAMESPACES.values()))),
    ),
    st.tuples(
        st.just("node"), st.sampled_from(sorted(NODES)), st.sampled_from([{}, {"pool": "big"}])
    ),
)


@settings(deadline=None)
@given(policies(), st.lists(st.one_of(arrivals, events, changes), max_size=25))
def test_whatever_rules_and_labels_become_nothing_new_is_against_them(
    by: Rules, history: list[tuple[object, ...]]
) -> None:
    """What had its place before a change may be against the rules after it, and keeps it."""
    cluster = Cluster(by)
    placed: list[str] = []
    for at, event in enumerate(history):
        match event:
            case ("pod", *_):
                before = Counter(cluster.wrongs())
                _happens(cluster, f"pod-{at}", event, placed)
                assert Counter(cluster.wrongs()) <= before
            case ("policy", Rules() as other):
                cluster.adopt(other)
            case ("namespace", str(name), str(team)):
                cluster.relabel_namespace(name, team)
            case ("node", str(name), dict(labels)):
                cluster.relabel_node(name, labels)
            case _:
                _happens(cluster, f"pod-{at}", event, placed)


def _happens(cluster: Cluster, pod: str, event: tuple[object, ...], placed: list[str]) -> None:
    """Let one of the *events* happen; *pod* is who comes, *placed* are those who have a place."""
    match event:
        case ("pod", str(namespace), tuple(shape), int(priority)):
            if _arrives(cluster, pod, namespace, shape, priority):
                placed.append(pod)
        case ("gone", int(which)) if placed:
            cluster.take_back(placed.pop(which % len(placed)))
        case ("agent", str(name)):
            cluster.follow(name)
        case ("restart",):
            cluster.start()


def _arrives(
    cluster: Cluster, pod: str, namespace: str, shape: Sequence[str], priority: int
) -> bool:
    knowledge = cluster.knowledge
    raw = asks(*shape, namespace=namespace, pod=pod, priority=priority)
    asked = knowledge.bounded(raw)
    answer = filter(knowledge.fleet, knowledge.ledger, asked, tuple(NODES))
    for name in NODES:
        found = place(knowledge.views[name], knowledge.ledger, asked)
        assert isinstance(found, Choice) == (name in answer.passed), "bind judges as filter did"
    if not answer.passed:
        return False
    ranked = prioritize(knowledge.fleet, knowledge.ledger, asked, answer.passed)
    assert ranked.choice is not None
    _keeps_headroom(cluster, namespace, asked.priority, [(ranked.winner, ranked.choice)])
    cluster.give(raw, ranked.winner, ranked.choice)
    return True


def _keeps_headroom(
    cluster: Cluster, namespace: str, priority: int, given: Sequence[tuple[str, Choice]]
) -> None:
    tenant = cluster.rules.tenant_of({"team": cluster.namespaces[namespace]})
    places = [(node, each) for node, choice in given for each in choice.placed]
    for kept in cluster.rules.headroom:
        if not kept.released("" if tenant is None else tenant.name, priority):
            before = cluster.room(kept.pool, kept.profile)
            after = cluster.room(kept.pool, kept.profile, besides=places)
            assert after >= min(before, kept.keep), "headroom is kept"


queues = st.lists(
    st.tuples(
        st.sampled_from(sorted(NAMESPACES)),
        st.sampled_from(SHAPES),
        st.integers(0, 6),
        st.sampled_from(["", "", "x", "y"]),
    ),
    min_size=2,
    max_size=10,
)


@settings(deadline=None, max_examples=60)
@given(policies(), st.lists(arrivals, max_size=6), queues)
def test_no_joint_plan_breaks_the_rules(
    by: Rules,
    before: list[tuple[str, str, tuple[str, ...], int]],
    queue: list[tuple[str, tuple[str, ...], int, str]],
) -> None:
    cluster = Cluster(by)
    for at, (_, namespace, shape, priority) in enumerate(before):
        _arrives(cluster, f"before-{at}", namespace, shape, priority)
    knowledge = cluster.knowledge
    raw = {
        f"pod-{at}": msgspec.structs.replace(
            asks(*shape, namespace=namespace, pod=f"pod-{at}", priority=priority),
            gang=Gang(namespace, gang, 2) if gang else None,
        )
        for at, (namespace, shape, priority, gang) in enumerate(queue)
    }
    waiting = [
        Waiting(knowledge.bounded(each), frozenset(NODES), since=float(at))
        for at, each in enumerate(raw.values())
    ]

    found = staged_plan(
        knowledge.views,
        knowledge.ledger,
        waiting,
        Limits(pods=100, seconds=5.0),
        knowledge.tenancy.left(knowledge.ledger),
        clock=time.monotonic,
    )

    gangs = {each.request.gang for each in waiting} - {None}
    for gang in gangs:
        fates = {each.uid in found.places for each in waiting if each.request.gang == gang}
        assert len(fates) == 1, "all of a gang or none"
    for uid, (node, placed) in found.places.items():
        cluster.give(raw[uid], node, Choice(0, 0, placed))
    assert list(cluster.wrongs()) == []


@settings(deadline=None, max_examples=150)
@given(policies(), queues)
def test_what_is_planned_can_be_followed_in_any_order(
    by: Rules,
    queue: list[tuple[str, tuple[str, ...], int, str]],
) -> None:
    cluster = Cluster(by)
    knowledge = cluster.knowledge
    raw = [
        asks(*shape, namespace=namespace, pod=f"pod-{at}", priority=priority)
        for at, (namespace, shape, priority, _) in enumerate(queue)
    ]
    waiting = [
        Waiting(knowledge.bounded(each), frozenset(NODES), since=float(at))
        for at, each in enumerate(raw)
    ]
    found = staged_plan(
        knowledge.views,
        knowledge.ledger,
        waiting,
        Limits(pods=100, seconds=5.0),
        knowledge.tenancy.left(knowledge.ledger),
        clock=time.monotonic,
    )
    namespaces = {each.pod.uid: each.pod.namespace for each in raw}
    knowledge.ledger = knowledge.ledger.plan(found.planned(until=9.0, namespaces=namespaces))

    for each in reversed(raw):
        if each.pod.uid in found.places:
            node, placed = found.places[each.pod.uid]
            choice = place(knowledge.views[node], knowledge.ledger, knowledge.bounded(each))
            assert isinstance(choice, Choice)
            assert choice.placed == placed, "the plan is what bind follows"
            _keeps_headroom(
                cluster, each.pod.namespace, knowledge.bounded(each).priority, [(node, choice)]
            )
            cluster.give(each, node, choice)
            knowledge.ledger = knowledge.ledger.confirm(each.pod.uid)
    assert list(cluster.wrongs()) == []
