"""How the fleet stands, added up when Prometheus asks.

Only the leader tells: the sums of several replicas would count every GPU several times. Nodes that
have not changed since the last time are not read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from extender.metrics.capacity import Capacity, capacity
from extender.snapshot import NodeView

MOST_NAMESPACES = 200
"""With a series of their own, those that hold most: series must not grow with the tenants."""

OTHER_NAMESPACES = "(others)"  # no namespace can be named so


class FleetState(msgspec.Struct, frozen=True):
    """What is known at a moment; ``pending``, ``refused`` and ``presumed`` are numbers of pods."""

    views: Mapping[str, NodeView]
    leads: bool
    ready: bool
    policy: str
    version: str
    pending: int
    refused: int
    presumed: int


class Fleet(Collector):
    """The gauges of the fleet as it was at the last look; to be collected in any thread."""

    def __init__(self) -> None:
        self._state: FleetState | None = None
        self._known: dict[str, tuple[NodeView, Capacity]] = {}

    def look(self, state: FleetState) -> None:
        """Tell this from now on."""
        self._state = state

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: that would read the fleet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        state = self._state
        if state is None:
            return
        yield from _process(state)
        if state.leads:
            yield from _queue(state)
            yield _gauge(
                "tangram_nodes",
                "GPU nodes, by the first thing that keeps them from taking pods.",
                ("state",),
                _node_states(state.views.values()),
            )
            yield from self._capacity(state.views)

    def _capacity(self, views: Mapping[str, NodeView]) -> Iterator[Metric]:
        before, self._known = self._known, {}
        for name, view in views.items():
            known = before.get(name)
            unchanged = known is not None and known[0] is view
            self._known[name] = known if unchanged and known else (view, capacity(view))
        each = [known for _, known in self._known.values()]
        yield _gauge(
            "tangram_gpus",
            "GPUs, by model and by what keeps instances from being placed on them.",
            ("model", "state"),
            _sum(one.gpus for one in each),
        )
        yield _gauge(
            "tangram_memory_slices",
            "Memory slices of usable GPUs: used (an instance, a promise, or one being released)"
            " or free.",
            ("model", "state"),
            _sum(one.slices for one in each),
        )
        yield _gauge(
            "tangram_unusable_memory_slices",
            "Free memory slices that no legal placement of the profile covers: fragmentation.",
            ("model", "profile"),
            _sum(one.unusable for one in each),
        )
        yield _gauge(
            "tangram_placements_left",
            "GPU instances of the profile that would still fit, if nothing else were placed.",
            ("model", "profile"),
            _sum(one.left for one in each),
        )
        yield _gauge(
            "tangram_namespace_memory_slices",
            f"Memory slices planned for a namespace's pods; the {MOST_NAMESPACES} largest, and all"
            f" others as {OTHER_NAMESPACES}.",
            ("namespace",),
            _largest(_sum(one.held for one in each)),
        )


_NODE_STATES = ("ready", "unreported", "stale", "cordoned", "failing")


def _node_states(views: Iterable[NodeView]) -> Counter[tuple[str, ...]]:
    states: Counter[tuple[str, ...]] = Counter({(each,): 0 for each in _NODE_STATES})
    states.update((_node_state(view),) for view in views)
    return states


def _node_state(view: NodeView) -> str:
    if not view.reported:
        return "unreported"
    if view.stale:
        return "stale"
    if view.cordoned:
        return "cordoned"
    return "failing" if view.failing else "ready"


def _process(state: FleetState) -> Iterator[Metric]:
    yield _gauge(
        "tangram_build_info",
        "1, with the version of this process and the policy it decides by.",
        ("version", "policy"),
        {(state.version, state.policy): 1},
    )
    yield _gauge("tangram_leader", "1 where the hooks are answered.", (), {(): int(state.leads)})
    yield _gauge(
        "tangram_ready",
        "1 where the inventory is complete and current, so that this process answers or could.",
        (),
        {(): int(state.ready)},
    )


def _queue(state: FleetState) -> Iterator[Metric]:
    for name, text, pods in (
        ("tangram_pods_pending", "Pods that were filtered and have no place yet.", state.pending),
        ("tangram_pods_refused", "Pods that fitted nowhere when last asked about.", state.refused),
        ("tangram_pods_presumed", "Pods kept a place for until their bind.", state.presumed),
    ):
        yield _gauge(name, text, (), {(): pods})


def _sum(parts: Iterable[Counter[tuple[str, ...]]]) -> Counter[tuple[str, ...]]:
    total: Counter[tuple[str, ...]] = Counter()
    for part in parts:
        total.update(part)
    return total


def _largest(held: Counter[tuple[str, ...]]) -> Mapping[tuple[str, ...], int]:
    ordered = sorted(held.items(), key=lambda each: (-each[1], each[0]))
    others = sum(slices for _, slices in ordered[MOST_NAMESPACES:])
    return dict(ordered[:MOST_NAMESPACES]) | ({(OTHER_NAMESPACES,): others} if others else {})


def _gauge(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], int]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family
