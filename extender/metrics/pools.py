"""What is free, and what it is worth, by pool of the policy and by GPU model.

Pools are the policy's own. Models and profiles are what agents report: so that one gone mad does
not make series without end, only those that most GPUs (nodes) have are told by name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import Metric

from extender.metrics.capacity import Capacity, Key
from extender.metrics.series import OTHERS, gauge, largest, only, total
from extender.metrics.state import FleetState

NO_POOL = "(none)"
"""Nodes of no pool; the policy cannot name one so."""

MOST_MODELS = 32
MOST_PROFILES = 64
"""Told by name; an H100 has seven profiles, and their names differ with its memory."""


def of_pools(state: FleetState, nodes: Mapping[str, Capacity]) -> Iterator[Metric]:
    """Yield the gauges of what nodes have; *nodes* are the capacities of the state's views."""
    pools: dict[str, list[Capacity]] = defaultdict(list)
    for name, each in nodes.items():
        pool = state.rules.pool_of(state.views[name].labels)
        pools[NO_POOL if pool is None else pool.name].append(each)
    told = _Told(nodes.values())

    def by_pool(of: Callable[[Capacity], Counter[Key]], *, profiles: bool = False) -> Counter[Key]:
        found: Counter[Key] = Counter()
        for pool, members in pools.items():
            for key, value in told.of(total(map(of, members)), profiles=profiles).items():
                found[(pool, *key)] += value
        return found

    yield gauge(
        "tangram_gpus",
        "GPUs, by model and by what keeps instances from being placed on them.",
        ("pool", "model", "state"),
        by_pool(lambda one: one.gpus),
    )
    yield gauge(
        "tangram_gpus_quarantined",
        "GPUs whose agent has closed them to new instances, by the kind of trouble.",
        ("pool", "model", "ailment"),
        by_pool(lambda one: one.ailing),
    )
    yield gauge(
        "tangram_memory_slices",
        "Memory slices of usable GPUs: used (an instance, a promise, or one being released)"
        " or free.",
        ("pool", "model", "state"),
        by_pool(lambda one: one.slices),
    )
    yield gauge(
        "tangram_unusable_memory_slices",
        "Free memory slices that no legal placement of the profile covers: fragmentation.",
        ("pool", "model", "profile"),
        by_pool(lambda one: one.unusable, profiles=True),
    )
    yield gauge(
        "tangram_placements_left",
        "GPU instances of the profile that would still fit, if nothing else were placed.",
        ("pool", "model", "profile"),
        by_pool(lambda one: one.left, profiles=True),
    )
    yield gauge(
        "tangram_largest_placeable_memory_slices",
        "Memory slices of the largest profile of which one would still fit; 0: none would.",
        ("pool", "model"),
        {
            (pool, *model): size
            for pool, members in pools.items()
            for model, size in told.largest(members).items()
        },
    )


class _Told:
    """Which models and profiles are told by name."""

    def __init__(self, nodes: Iterable[Capacity]) -> None:
        models: Counter[Key] = Counter()
        profiles: Counter[Key] = Counter()
        for each in nodes:
            for (model, _), gpus in each.gpus.items():
                models[model,] += gpus
            profiles.update((profile,) for _, profile in each.left)
        self._models = {model for (model,) in largest(models, MOST_MODELS)}
        self._profiles = {profile for (profile,) in largest(profiles, MOST_PROFILES)}

    def of(self, values: Mapping[Key, int], *, profiles: bool) -> Counter[Key]:
        """Return values by model and another label with the names told, the others added up."""
        found = only(values, 0, self._models)
        return only(found, 1, self._profiles) if profiles else found

    def largest(self, members: Iterable[Capacity]) -> Mapping[Key, int]:
        """Return by model the slices of the largest profile that would fit on any of the nodes."""
        found: dict[Key, int] = {}
        for each in members:
            for model, _ in each.gpus:
                found.setdefault((self._name(model),), 0)
            for (model, _), size in each.sizes.items():
                name = (self._name(model),)
                found[name] = max(found[name], size)
        return found

    def _name(self, model: str) -> str:
        return model if model in self._models else OTHERS
