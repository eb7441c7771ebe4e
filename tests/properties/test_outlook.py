"""What a policy is said to come to is what comes of it once it is in force."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from extender.outlook import Tally, outlook
from extender.packing.choose import Choice
from extender.policy import InForce, Policy, PolicyName
from extender.policy.rules import Rules
from extender.request import Request
from extender.server.proposed import known
from extender.service.ports import PodFacts
from extender.verbs.bind import place
from extender.verbs.filter import filter
from extender.verbs.inherit import inherited
from nodeagent.api.gpunode import OwnerRef, PodRef
from tests.properties.test_tenancy import SHAPES, policies
from tests.tenancy import NAMESPACES, NODES, Cluster, asks

pods = st.tuples(
    st.sampled_from(sorted(NAMESPACES)), st.sampled_from(SHAPES), st.integers(0, 6), st.booleans()
)
"""A pod's namespace, what it asks for, its priority, and whether it waits all the same."""


@given(policies(), policies(), st.lists(pods, min_size=1, max_size=14))
def test_pods_stand_as_it_was_foreseen(
    by: Rules, other: Rules, coming: list[tuple[str, tuple[str, ...], int, bool]]
) -> None:
    cluster = Cluster(by)
    placed, waiting = came(cluster, coming)
    proposed = InForce(Policy(PolicyName.DEFAULT), other, version="another")

    foreseen = outlook(known(cluster.knowledge), proposed)

    now = [fits(cluster, each) for each in waiting], [again(cluster, each) for each in placed]
    cluster.adopt(other)
    then = [fits(cluster, each) for each in waiting], [again(cluster, each) for each in placed]
    told = foreseen.waiting, foreseen.placed
    for tally, before, after in zip(told, now, then, strict=True):
        stands(tally, before, after)
    assert foreseen.version == "test"


def came(
    cluster: Cluster, coming: Sequence[tuple[str, tuple[str, ...], int, bool]]
) -> tuple[list[tuple[Request, str]], list[Request]]:
    """Let pods come; return those that have a place, with its node, and those that have none."""
    placed, waiting = [], []
    for at, (namespace, shape, priority, waits) in enumerate(coming):
        owner = OwnerRef("VirtualMachineInstance", namespace, f"vm-{at}")
        raw = asks(*shape, namespace=namespace, pod=f"pod-{at}", priority=priority)
        raw = msgspec.structs.replace(raw, owner=owner)
        node = "" if waits else _taken_in(cluster, raw)
        cluster.knowledge.pod(PodFacts(raw.pod, raw, node, "Running" if node else "Pending"))
        if node:
            placed.append((raw, node))
        else:
            waiting.append(raw)
    return placed, waiting


def _taken_in(cluster: Cluster, raw: Request) -> str:
    """Give a pod the first place there is; return its node, "" if there is none."""
    knowledge = cluster.knowledge
    for name in NODES:
        found = place(knowledge.views[name], knowledge.ledger, knowledge.bounded(raw))
        if isinstance(found, Choice):
            cluster.give(raw, name, found)
            return name
    return ""


def fits(cluster: Cluster, raw: Request) -> bool:
    """Tell whether filter lets a pod pass on any node."""
    knowledge = cluster.knowledge
    asked = knowledge.bounded(raw)
    return bool(filter(knowledge.fleet, knowledge.ledger, asked, tuple(NODES)).passed)


def again(cluster: Cluster, had: tuple[Request, str]) -> bool:
    """Tell whether a VM's next pod finds its place again, where the one that has it ends."""
    raw, node = had
    plan = cluster.plans[node]
    held = [
        msgspec.structs.replace(each, pod=None) if each.pod == raw.pod else each for each in plan
    ]
    cluster.write(node, held)
    knowledge = cluster.knowledge
    successor = msgspec.structs.replace(raw, pod=PodRef(raw.pod.namespace, "next", "next"))
    view = knowledge.views[node]
    found = inherited(view, knowledge.ledger, knowledge.bounded(successor))
    cluster.write(node, plan)
    cluster.follow(node)
    return found is not None


def stands(tally: Tally, now: Sequence[bool], then: Sequence[bool]) -> None:
    """Compare what was counted with how each pod really stands before and after."""
    assert (tally.pods, tally.unjudged) == (len(now), 0)
    assert tally.refused_now == now.count(False)
    assert tally.refused == then.count(False)
    changes = list(zip(now, then, strict=True))
    assert tally.newly == changes.count((True, False))
    assert tally.no_longer == changes.count((False, True))
    for each in tally.because:
        assert each.newly is not None
        assert 0 <= each.newly <= each.pods <= tally.refused
    assert bool(tally.because) == bool(tally.refused)
