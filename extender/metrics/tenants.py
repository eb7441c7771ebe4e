"""Who has what: by namespace, and by tenant of the policy beside its caps and the headroom kept.

Tenants, headroom and capped profiles are the policy's own. Namespaces anybody may make who may
make namespaces: those that have most are told by name, the others together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import Metric

from extender.metrics.capacity import Capacity, Key
from extender.metrics.series import OTHERS, gauge, largest, only, total
from extender.metrics.state import FleetState

MOST_NAMESPACES = 200
MOST_TENANTS = 200
MOST_PROFILES = 64

NO_TENANT = "(none)"
"""Pods of no tenant; the policy cannot name one so."""

ALL_NODES = "(all)"
"""Headroom that is kept over all pools."""


def of_tenants(state: FleetState, nodes: Iterable[Capacity]) -> Iterator[Metric]:
    """Yield the gauges of what is planned for whom; *nodes* are the views' capacities."""
    each = tuple(nodes)
    held, slices = total(one.held for one in each), total(one.slices_held for one in each)
    by_namespace: Counter[Key] = Counter()
    for (namespace, _), count in slices.items():
        by_namespace[namespace,] += count
    told = {namespace for (namespace,) in largest(by_namespace, MOST_NAMESPACES)}
    yield gauge(
        "tangram_namespace_memory_slices",
        f"Memory slices planned for a namespace's pods; the {MOST_NAMESPACES} largest, and all"
        f" others as {OTHERS}.",
        ("namespace",),
        only(by_namespace, 0, told),
    )
    yield from _used(state, held, by_namespace)
    yield from _caps(state)
    yield from _headroom(state)


def _used(state: FleetState, held: Counter[Key], by_namespace: Counter[Key]) -> Iterator[Metric]:
    slices: Counter[Key] = Counter({(each.name,): 0 for each in state.rules.tenants})
    for (namespace,), count in by_namespace.items():
        slices[_tenant(state, namespace),] += count
    told = {tenant for (tenant,) in largest(slices, MOST_TENANTS)}
    yield gauge(
        "tangram_tenant_memory_slices",
        "Memory slices planned for a tenant's pods.",
        ("tenant",),
        only(slices, 0, told),
    )
    instances: Counter[Key] = Counter()
    profiles: Counter[Key] = Counter()
    for (namespace, profile), count in held.items():
        instances[_tenant(state, namespace), profile] += count
        profiles[profile,] += count
    for each in state.rules.tenants:
        for profile in each.caps.profiles:
            instances[each.name, profile] += 0
            profiles[profile,] += 0
    named = {profile for (profile,) in largest(profiles, MOST_PROFILES)}
    yield gauge(
        "tangram_tenant_instances",
        "GPU instances planned for a tenant's pods.",
        ("tenant", "profile"),
        only(only(instances, 0, told), 1, named),
    )


def _tenant(state: FleetState, namespace: str) -> str:
    return state.tenants.get(namespace) or NO_TENANT


def _caps(state: FleetState) -> Iterator[Metric]:
    tenants = state.rules.tenants[:MOST_TENANTS]
    yield gauge(
        "tangram_tenant_memory_slices_cap",
        "The most memory slices a tenant may have at once, where they are capped.",
        ("tenant",),
        {
            (each.name,): each.caps.memory_slices
            for each in tenants
            if each.caps.memory_slices is not None
        },
    )
    yield gauge(
        "tangram_tenant_instances_cap",
        "The most GPU instances of a profile a tenant may have at once, where they are capped.",
        ("tenant", "profile"),
        {
            (each.name, profile): cap
            for each in tenants
            for profile, cap in each.caps.profiles.items()
        },
    )


def _headroom(state: FleetState) -> Iterator[Metric]:
    kept: Counter[Key] = Counter()
    free: Counter[Key] = Counter()
    for each, room in state.headroom:
        key = (each.pool or ALL_NODES, each.profile)
        kept[key] = max(kept[key], each.keep)
        free[key] = room
    yield gauge(
        "tangram_headroom_placements",
        "GPU instances of the profile for which there is room where the policy keeps headroom.",
        ("pool", "profile"),
        free,
    )
    yield gauge(
        "tangram_headroom_placements_kept",
        "For how many the policy keeps room.",
        ("pool", "profile"),
        kept,
    )
