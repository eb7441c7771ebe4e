"""A small cluster with rules, and a judge of who has what that shares no code with the rules."""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from extender.packing.choose import Choice, Placed
from extender.policy import InForce, Policy, PolicyName
from extender.policy.file import parsed
from extender.policy.rules import Rules
from extender.request import Request
from extender.service.knowledge import Knowledge
from extender.service.ports import Feed
from extender.service.tenure import Tenure
from extender.settings import Settings
from extender.verbs.bind import assignments
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Instance, PodRef, Realized
from tests.builders import H100, gpu, gpu_node, request

HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
NODES = {"a": {"pool": "big"}, "b": {"pool": "big"}, "c": {}}
NAMESPACES = {"r1": "red", "r2": "red", "b1": "blue", "g1": "green", "free": "none"}


@functools.cache  # a property asks for the same ones hundreds of times
def rules(text: str) -> Rules:
    """Return the rules of a policy in YAML, without its head."""
    return parsed((HEAD + text).encode(), "test").rules


def asks(*wanted: str, namespace: str = "free", pod: str = "pod-1", priority: int = 0) -> Request:
    """Return a pod's request for vGPU types such as 1-10C."""
    ref = PodRef(namespace, f"name-{pod}", pod)
    return msgspec.structs.replace(request(*wanted), pod=ref, priority=priority)


class Cluster:
    """Nodes of H100s, plans that are followed by agents when told to, and what is known of both."""

    def __init__(
        self,
        by: Rules,
        *,
        nodes: Mapping[str, Mapping[str, str]] = NODES,
        namespaces: Mapping[str, str] = NAMESPACES,
        gpus: int = 2,
    ) -> None:
        self.nodes, self.namespaces, self.gpus = dict(nodes), dict(namespaces), gpus
        self.plans: dict[str, tuple[Assignment, ...]] = dict.fromkeys(nodes, ())
        self.instances: dict[str, tuple[Assignment, ...]] = dict.fromkeys(nodes, ())
        self.leaving: dict[str, tuple[Assignment, ...]] = dict.fromkeys(nodes, ())
        self.generation = dict.fromkeys(nodes, 1)
        self.observed = dict.fromkeys(nodes, 1)
        self._version = 0
        self._ids = 0
        self.rules = by
        self.start()

    def start(self) -> None:
        """Begin anew with the objects that are there, as a restarted extender does."""
        self.leaving = dict.fromkeys(self.nodes, ())
        self.knowledge = Knowledge(
            Settings(),
            InForce(Policy(PolicyName.DEFAULT), self.rules, version="test"),
            clock=lambda: 0.0,
            tenure=Tenure(lambda: 0.0, until=math.inf),
        )
        for feed in Feed:
            self.knowledge.feed_synced(feed)
        for name, team in self.namespaces.items():
            self.knowledge.namespace(name, {"team": team})
        for name, labels in self.nodes.items():
            self.knowledge.node(name, cordoned=False, labels=labels)
            self.knowledge.lease(name, "1")
            self.tell(name)

    def adopt(self, by: Rules) -> None:
        """Let other rules be in force; who has a place keeps it."""
        self.rules = by
        self.knowledge.adopt(InForce(Policy(PolicyName.DEFAULT), by, version="another"))

    def relabel_namespace(self, name: str, team: str) -> None:
        """Let a namespace, with all that is in it, be another team's."""
        self.namespaces[name] = team
        self.knowledge.namespace(name, {"team": team})

    def relabel_node(self, name: str, labels: Mapping[str, str]) -> None:
        """Let a node, with all that is on it, be in another pool."""
        self.nodes[name] = labels
        self.knowledge.node(name, cordoned=False, labels=labels)

    def tell(self, name: str) -> None:
        """Report a node as it is."""
        self._version += 1
        gpus = [
            gpu(
                index,
                uuid=f"{name}-{index}",
                instances=tuple(
                    Instance(at, each.profile_id, each.start, each.size, each.id)
                    for at, each in enumerate(self.instances[name])
                    if each.gpu == f"{name}-{index}"
                ),
            )
            for index in range(self.gpus)
        ]
        self.knowledge.gpu_node(
            gpu_node(
                name,
                uid=f"uid-{name}",
                gpus=gpus,
                plan=self.plans[name],
                generation=self.generation[name],
                version=self._version,
                observed=self.observed[name],
                realized=[Realized(each.id) for each in self.instances[name]],
            )
        )

    def follow(self, name: str) -> None:
        """Let the agent make what exists equal the plan."""
        self.instances[name], self.leaving[name] = self.plans[name], ()
        self.observed[name] = self.generation[name]
        self.tell(name)

    def write(self, name: str, plan: Iterable[Assignment]) -> None:
        """Change a plan."""
        self.plans[name] = tuple(plan)
        self.generation[name] += 1
        self.tell(name)

    def give(self, asked: Request, node: str, placed: Choice) -> None:
        """Write a pod's places to the plan."""
        self._ids += 1
        ids = (f"{self._ids}-{at}" for at in range(len(placed.placed)))
        entries = assignments(asked, placed, ids=ids, since="2026-01-01T00:00:00Z")
        self.write(node, (*self.plans[node], *entries))

    def take_back(self, uid: str) -> None:
        """Withdraw a pod's places."""
        for name, plan in self.plans.items():
            kept = [each for each in plan if each.pod is None or each.pod.uid != uid]
            if len(kept) < len(plan):
                # The agent may be making them at this moment.
                self.leaving[name] += tuple(each for each in plan if each not in kept)
                self.write(name, kept)

    def wrongs(self) -> Iterator[str]:
        """Yield what is there and must not be; rules as they always were."""
        here = [(name, entry) for name, plan in self.plans.items() for entry in plan]
        there = [(name, entry) for name, made in self.instances.items() for entry in made]
        there += [(name, entry) for name, gone in self.leaving.items() for entry in gone]
        yield from wrongs(self.rules, self.nodes, self.namespaces, here, present=[*here, *there])

    def room(self, pool: str, profile: str, *, besides: Iterable[tuple[str, Placed]] = ()) -> int:
        """Return how many instances of a profile fit in a pool at once, counted slice by slice."""
        taken: dict[str, int] = defaultdict(int)
        for where in (self.plans, self.instances):
            for entries in where.values():
                for each in entries:
                    taken[each.gpu] |= each.placement.mask
        for _, place in besides:
            taken[place.uuid] |= place.placement.mask
        starts = next(p for p in H100.geometry.profiles if p.name == profile).placements
        count = 0
        for name, labels in self.nodes.items():
            if pool and labels.get("pool") != pool:
                continue
            for index in range(self.gpus):
                mask = taken[f"{name}-{index}"]
                count += max(_most(mask, starts, at) for at in range(len(starts)))
        return count


def _most(mask: int, starts: tuple[Placement, ...], first: int) -> int:
    count = 0
    for each in starts[first:]:
        if not each.mask & mask:
            count, mask = count + 1, mask | each.mask
    return count


def wrongs(
    by: Rules,
    nodes: Mapping[str, Mapping[str, str]],
    namespaces: Mapping[str, str],
    planned: Iterable[tuple[str, Assignment]],
    *,
    present: Iterable[tuple[str, Assignment]],
) -> Iterator[str]:
    """Yield what breaks the rules of what is *planned*, and of what is *present* on GPUs."""
    of = {name: by.tenant_of({"team": team}) for name, team in namespaces.items()}
    names = {profile.id: profile.name for profile in H100.geometry.profiles}
    slices: Counter[str] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    for node, each in planned:
        assert each.pod is not None
        tenant, pool = of[each.pod.namespace], by.pool_of(nodes[node])
        profile = names[each.profile_id]
        if pool is not None and pool.profiles and profile not in pool.profiles:
            yield f"{profile} in pool {pool.name}"
        if tenant is None:
            continue
        if tenant.profiles and profile not in tenant.profiles:
            yield f"{profile} of tenant {tenant.name}"
        if tenant.pools and (pool is None or pool.name not in tenant.pools):
            yield f"tenant {tenant.name} on node {node}"
        slices[tenant.name] += each.size
        counts[tenant.name, profile] += 1
    for tenant in by.tenants:
        cap = tenant.caps.memory_slices
        if cap is not None and slices[tenant.name] > cap:
            yield f"tenant {tenant.name} has {slices[tenant.name]} slices of {cap}"
        for profile, most in tenant.caps.profiles.items():
            if counts[tenant.name, profile] > most:
                yield f"tenant {tenant.name} has too many {profile}"
    for level in ("gpu", "node"):
        together: dict[str, set[str]] = defaultdict(set)
        for node, each in present:
            assert each.pod is not None
            tenant = of[each.pod.namespace]
            place = each.gpu if level == "gpu" else node
            together[place].add("" if tenant is None else tenant.name)
        apart = {t.name for t in by.tenants if t.dedicated in (level, "node")}
        for where, who in together.items():
            if len(who) > 1 and who & apart:
                yield f"{sorted(who)} share {level} {where}"
