"""A service that knows a small cluster, and a pod that waits for what moves would make room for."""

from __future__ import annotations

from datetime import UTC, datetime

from extender.cluster import KubernetesCluster
from extender.policy import InForce, Policy, PolicyName
from extender.service import Service
from extender.service.ports import Evictor, Feed, PodFacts
from nodeagent.api.gpunode import OwnerRef
from nodeagent.apiserver.memory import InMemoryApi
from tests.builders import request
from tests.explained import Small, Vm
from tests.tenancy import rules

FOUR, TWO, ONE = 5, 14, 19
NOW = datetime(2026, 1, 3, tzinfo=UTC)
"""Two days after all VMs came to their places."""

CROWDED = Small.of(
    [
        Vm("big", FOUR, "a", 0, 0),
        Vm("x", ONE, "a", 0, 4),
        Vm("w", FOUR, "b", 0, 0),
        Vm("v", TWO, "b", 0, 4),
    ],
    a=1,
    b=1,
)
"""Three slices are free on one GPU, two on the other, none where a 3g.40gb could be."""


def extender(
    small: Small = CROWDED, *, by: str = "", namespaces: dict[str, str] | None = None
) -> Service:
    return known(small, evictor=None, by=by, namespaces=namespaces or {})


def known(
    small: Small, *, evictor: Evictor | None, by: str = "", namespaces: dict[str, str] | None = None
) -> Service:
    policy = InForce(Policy(PolicyName.DEFAULT), rules=rules(by)) if by else PolicyName.DEFAULT
    made = Service(
        KubernetesCluster(InMemoryApi()),
        policy=policy,
        evictor=evictor,
        utc_now=lambda: NOW,
    )
    for feed in Feed:
        made.knowledge.feed_synced(feed)
    for name, team in (namespaces or {}).items():
        made.knowledge.namespace(name, {"team": team})
    for name, there in small.views.items():
        made.knowledge.node(name, cordoned=False)
        made.knowledge.lease(name, "1")
        made.knowledge.gpu_node(there.node)
    for vm in small.vms.values():
        asked = request("1-10C", pod=vm.name)
        made.knowledge.pod(PodFacts(asked.pod, asked, vm.node, "Running", movable=vm.movable))
    asked = request("3-40C", pod="me", owner=OwnerRef("VirtualMachineInstance", "default", "mine"))
    made.knowledge.pod(PodFacts(asked.pod, asked))
    made.knowledge.pending.filtered(asked, small.views)
    return made
