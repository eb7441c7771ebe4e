"""What a policy would come to in a cluster: whom its selectors match, and what is over already."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from extender.cluster.census import Census, census
from extender.ledger import Ledger
from extender.packing.headroom import room
from extender.policy.file import PolicyFile
from extender.policy.rules import Headroom, Pool, Tenant
from extender.service.assigned import Assigned
from extender.service.holds import Holds
from extender.service.tenancy import Tenancy
from extender.snapshot import NodeView
from nodeagent.apiserver.rest import RestApi

SHOWN = 5  # names in a line


def look(kubeconfig: Path | None) -> Census:
    """List what the rules look at, with the credentials of a kubeconfig.

    Raises:
        ClusterUnavailable: it could not be listed.
        ApiError: the credentials cannot be used.
    """

    async def listed() -> Census:
        async with RestApi(kubeconfig=kubeconfig) as api:
            return await census(api)

    return asyncio.run(listed())


class Effect(msgspec.Struct, frozen=True, rename="camel"):
    """What one rule comes to, in words; ``warning``: it is likely a mistake, or is broken.

    ``kind`` and ``name`` are those of the rule.
    """

    kind: str
    name: str
    text: str
    warning: bool = False


class Effects:
    """What a policy comes to, rule by rule."""

    def __init__(self, file: PolicyFile, there: Census) -> None:
        self._rules = file.rules
        self._there = there
        self._views = {
            node.name: NodeView(
                node, file.policy, stale=False, labels=there.nodes.get(node.name, {})
            )
            for node in there.gpu_nodes
        }
        # No pod asks, so that it does not matter whose entries are whose.
        assigned, holds = Assigned(_no_time), Holds(0.0, _no_time)
        self._tenancy = Tenancy(self._views, assigned, holds, file.rules)
        for name, labels in there.namespaces.items():
            self._tenancy.namespace(name, labels)

    def told(self) -> Iterator[Effect]:
        """Yield what there is to tell."""
        for pool in self._rules.pools:
            yield from self._of_pool(pool)
        for tenant in self._rules.tenants:
            yield from self._of_tenant(tenant)
        for kept in self._rules.headroom:
            yield self._of_headroom(kept)
        for at, avoided in enumerate(self._rules.avoid):
            found = [n for n, view in self._views.items() if avoided.nodes.matches(view.labels)]
            yield Effect("avoid", f"[{at}]", f"GPU nodes: {_some(found)}", warning=not found)

    def _of_pool(self, pool: Pool) -> Iterator[Effect]:
        found = {
            name: view
            for name, view in self._views.items()
            if self._rules.pool_of(view.labels) is pool
        }
        gpus = sum(len(view.usable) for view in found.values())
        text = f"GPUs: {gpus} on nodes: {_some(found)}"
        yield Effect("pool", pool.name, text, warning=not found)
        for text in _unheard_of(pool.profiles, found.values()):
            yield Effect("pool", pool.name, text, warning=True)

    def _of_tenant(self, tenant: Tenant) -> Iterator[Effect]:
        found = [
            name
            for name, labels in self._there.namespaces.items()
            if self._rules.tenant_of(labels) is tenant
        ]
        yield Effect("tenant", tenant.name, f"namespaces: {_some(found)}", warning=not found)
        for text in _unheard_of({*tenant.profiles, *tenant.caps.profiles}, self._views.values()):
            yield Effect("tenant", tenant.name, text, warning=True)
        slices, counts = self._tenancy.used(tenant.name, Ledger())
        cap = tenant.caps.memory_slices
        if cap is not None:
            text = f"has {slices} of {cap} memory slices"
            yield Effect("tenant", tenant.name, text, warning=slices > cap)
        for profile, most in tenant.caps.profiles.items():
            text = f"has {counts[profile]} of {most} x {profile}"
            yield Effect("tenant", tenant.name, text, warning=counts[profile] > most)

    def _of_headroom(self, kept: Headroom) -> Effect:
        views = [v for v in self._views.values() if self._rules.concerns(kept, v.labels)]
        free = sum(room(view.bins(), kept.profile) for view in views)
        where = f"pool {kept.pool}" if kept.pool else "all nodes"
        text = f"{free} x {kept.profile} free in {where}, {kept.keep} to be kept"
        return Effect("headroom", kept.pool, text, warning=kept.keep > free)


def _unheard_of(profiles: Collection[str], views: Collection[NodeView]) -> Iterator[str]:
    offered = {profile for view in views for _, profile, _ in view.sizes}
    for profile in sorted({*profiles} - offered):
        yield f"no GPU there serves {profile}"


def _no_time() -> float:
    return 0.0


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN]) or "none"
    return f"{len(names)} ({shown}{', …' if len(names) > SHOWN else ''})" if names else "none"
