"""What a policy would come to in a cluster: whom its selectors match, and what is over already."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path

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


class Effects:
    """What a policy comes to, told in lines; what is likely a mistake begins with WARNING."""

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

    def lines(self) -> Iterator[str]:
        """Yield what there is to tell."""
        for pool in self._rules.pools:
            yield from self._of_pool(pool)
        for tenant in self._rules.tenants:
            yield from self._of_tenant(tenant)
        for kept in self._rules.headroom:
            yield from self._of_headroom(kept)
        for at, avoided in enumerate(self._rules.avoid):
            found = [n for n, view in self._views.items() if avoided.nodes.matches(view.labels)]
            yield f"{_warned(found)}avoid[{at}]: GPU nodes: {_some(found)}"

    def _of_pool(self, pool: Pool) -> Iterator[str]:
        found = {
            name: view
            for name, view in self._views.items()
            if self._rules.pool_of(view.labels) is pool
        }
        gpus = sum(len(view.usable) for view in found.values())
        yield f"{_warned(found)}pool {pool.name}: GPUs: {gpus} on nodes: {_some(found)}"
        yield from self._unheard_of(f"pool {pool.name}", pool.profiles, found.values())

    def _of_tenant(self, tenant: Tenant) -> Iterator[str]:
        found = [
            name
            for name, labels in self._there.namespaces.items()
            if self._rules.tenant_of(labels) is tenant
        ]
        yield f"{_warned(found)}tenant {tenant.name}: namespaces: {_some(found)}"
        profiles = {*tenant.profiles, *tenant.caps.profiles}
        yield from self._unheard_of(f"tenant {tenant.name}", profiles, self._views.values())
        slices, counts = self._tenancy.used(tenant.name, Ledger())
        cap = tenant.caps.memory_slices
        if cap is not None:
            yield f"{_over(slices, cap)}tenant {tenant.name}: has {slices} of {cap} memory slices"
        for profile, most in tenant.caps.profiles.items():
            has = counts[profile]
            yield f"{_over(has, most)}tenant {tenant.name}: has {has} of {most} x {profile}"

    def _of_headroom(self, kept: Headroom) -> Iterator[str]:
        views = [v for v in self._views.values() if self._rules.concerns(kept, v.labels)]
        free = sum(room(view.bins(), kept.profile) for view in views)
        where = f"pool {kept.pool}" if kept.pool else "all nodes"
        yield (
            f"{_over(kept.keep, free)}headroom: {free} x {kept.profile} free in {where},"
            f" {kept.keep} to be kept"
        )

    def _unheard_of(
        self, whose: str, profiles: Collection[str], views: Collection[NodeView]
    ) -> Iterator[str]:
        offered = {profile for view in views for _, profile, _ in view.sizes}
        for profile in sorted({*profiles} - offered):
            yield f"WARNING: {whose}: no GPU there serves {profile}"


def _no_time() -> float:
    return 0.0


def _warned(found: Collection[str]) -> str:
    return "" if found else "WARNING: "


def _over(has: int, most: int) -> str:
    return "WARNING: " if has > most else ""


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN]) or "none"
    return f"{len(names)} ({shown}{', …' if len(names) > SHOWN else ''})" if names else "none"
