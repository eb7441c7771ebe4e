"""Rules that are well formed and make no sense: who wrote them meant something else."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from extender.policy.rules import Pool, Rules, Tenant
from extender.policy.selectors import Selector
from extender.policy.strict import Problem


def nonsense(rules: Rules) -> Iterator[Problem]:
    """Yield what cannot have been meant."""
    pools = {pool.name: pool for pool in rules.pools}
    tenants = {tenant.name for tenant in rules.tenants}
    yield from _twice("$.pools", [pool.name for pool in rules.pools])
    yield from _twice("$.tenants", [tenant.name for tenant in rules.tenants])
    yield from _selecting("$.pools", "nodes", [pool.nodes for pool in rules.pools])
    yield from _selecting("$.tenants", "namespaces", [each.namespaces for each in rules.tenants])
    for at, tenant in enumerate(rules.tenants):
        path = f"$.tenants[{at}]"
        yield from _unknown(f"{path}.pools", "pool", tenant.pools, pools)
        yield from _of_tenant(path, tenant, [pools[n] for n in tenant.pools if n in pools])
    kept = []
    for at, room in enumerate(rules.headroom):
        path = f"$.headroom[{at}]"
        yield from _unknown(f"{path}.pool", "pool", [room.pool] if room.pool else [], pools)
        yield from _unknown(
            f"{path}.releasedTo.tenants", "tenant", room.released_to.tenants, tenants
        )
        pool = pools.get(room.pool)
        if pool is not None and pool.profiles and room.profile not in pool.profiles:
            text = f"keeps {room.profile} free, which pool {pool.name} does not offer"
            yield Problem(f"{path}.profile", text, "use one of the pool's profiles")
        if (room.pool, room.profile) in kept:
            yield Problem(path, "the same pool and profile twice", "keep one of the two")
        kept.append((room.pool, room.profile))
    for at, avoided in enumerate(rules.avoid):
        path = f"$.avoid[{at}]"
        yield from _unknown(f"{path}.tenants", "tenant", avoided.tenants, tenants)
        for where, text, remedy in avoided.nodes.faults():
            yield Problem(f"{path}.nodes{where}", text, remedy)


def _twice(path: str, names: Sequence[str]) -> Iterator[Problem]:
    for at, name in enumerate(names):
        if name in names[:at]:
            yield Problem(f"{path}[{at}].name", f"{name} is there already", "rename one of them")


def _selecting(path: str, field: str, selectors: Sequence[Selector]) -> Iterator[Problem]:
    for at, selector in enumerate(selectors):
        if selector.empty and at < len(selectors) - 1:
            yield Problem(
                f"{path}[{at}].{field}",
                "selects everything, so that those after it are never used",
                "put it last, or give it labels",
            )
        for where, text, remedy in selector.faults():
            yield Problem(f"{path}[{at}].{field}{where}", text, remedy)


def _unknown(
    path: str, what: str, named: Collection[str], known: Collection[str]
) -> Iterator[Problem]:
    for name in named:
        if name not in known:
            there = f"use one of {', '.join(sorted(known))}" if known else f"define the {what}"
            yield Problem(path, f"there is no {what} {name}", there)


def _of_tenant(path: str, tenant: Tenant, pools: Sequence[Pool]) -> Iterator[Problem]:
    for name in tenant.caps.profiles:
        if tenant.profiles and name not in tenant.profiles:
            text = f"caps {name}, which the tenant may not use at all"
            yield Problem(f"{path}.caps.profiles", text, "remove it, or add it to profiles")
    if tenant.profiles and pools and all(pool.profiles for pool in pools):
        offered = {profile for pool in pools for profile in pool.profiles}
        if offered.isdisjoint(tenant.profiles):
            text = "its pools offer none of its profiles, so that it can have nothing"
            yield Problem(path, text, "add a pool or a profile")
