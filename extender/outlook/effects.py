"""What the rules of a policy come to: whom their selectors match, and what is over already."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from extender.outlook.document import Effect
from extender.outlook.there import Side
from extender.policy.rules import Headroom, Pool, Tenant
from extender.snapshot import NodeView

SHOWN = 5  # names in a line


def effects(side: Side) -> Iterator[Effect]:
    """Yield what each rule comes to, in the order of the file."""
    rules = side.policy.rules
    for pool in rules.pools:
        yield from _of_pool(side, pool)
    for tenant in rules.tenants:
        yield from _of_tenant(side, tenant)
    for kept, free in side.tenancy.headroom:
        yield _of_headroom(kept, free)
    for at, avoided in enumerate(rules.avoid):
        found = [name for name, view in side.views.items() if avoided.nodes.matches(view.labels)]
        yield Effect("avoid", f"[{at}]", f"GPU nodes: {_some(found)}", warning=not found)


def _of_pool(side: Side, pool: Pool) -> Iterator[Effect]:
    rules = side.policy.rules
    found = {name: view for name, view in side.views.items() if rules.pool_of(view.labels) is pool}
    gpus = sum(len(view.usable) for view in found.values())
    text = f"GPUs: {gpus} on nodes: {_some(found)}"
    yield Effect("pool", pool.name, text, warning=not found)
    for text in _unheard_of(pool.profiles, found.values()):
        yield Effect("pool", pool.name, text, warning=True)


def _of_tenant(side: Side, tenant: Tenant) -> Iterator[Effect]:
    rules, namespaces = side.policy.rules, side.there.namespaces
    found = [name for name, labels in namespaces.items() if rules.tenant_of(labels) is tenant]
    yield Effect("tenant", tenant.name, f"namespaces: {_some(found)}", warning=not found)
    for text in _unheard_of({*tenant.profiles, *tenant.caps.profiles}, side.views.values()):
        yield Effect("tenant", tenant.name, text, warning=True)
    slices, counts = side.tenancy.used(tenant.name, side.there.ledger)
    cap = tenant.caps.memory_slices
    if cap is not None:
        text = f"has {slices} of {cap} memory slices"
        yield Effect("tenant", tenant.name, text, warning=slices > cap)
    for profile, most in tenant.caps.profiles.items():
        text = f"has {counts[profile]} of {most} x {profile}"
        yield Effect("tenant", tenant.name, text, warning=counts[profile] > most)


def _of_headroom(kept: Headroom, free: int) -> Effect:
    where = f"pool {kept.pool}" if kept.pool else "all nodes"
    text = f"{free} x {kept.profile} free in {where}, {kept.keep} to be kept"
    return Effect("headroom", kept.pool, text, warning=kept.keep > free)


def _unheard_of(profiles: Collection[str], views: Collection[NodeView]) -> Iterator[str]:
    offered = {profile for view in views for _, profile, _ in view.sizes}
    for profile in sorted({*profiles} - offered):
        yield f"no GPU there serves {profile}"


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN]) or "none"
    return f"{len(names)} ({shown}{', …' if len(names) > SHOWN else ''})" if names else "none"
