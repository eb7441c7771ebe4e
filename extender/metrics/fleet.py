"""How the fleet stands, added up when Prometheus asks.

Only the leader tells of the fleet: the sums of several replicas would count every GPU several
times. Nodes that have not changed since the last time are not read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.registry import Collector

from extender.metrics.capacity import STATUSES, Capacity, Key, capacity
from extender.metrics.pools import of_pools
from extender.metrics.series import gauge, single, total
from extender.metrics.state import FleetState
from extender.metrics.tenants import of_tenants
from extender.snapshot import NodeView
from nodeagent.api import keys


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
            each = self._capacities(state.views)
            yield from _nodes(state, each.values())
            yield from of_pools(state, each)
            yield from of_tenants(state, each.values())

    def _capacities(self, views: Mapping[str, NodeView]) -> Mapping[str, Capacity]:
        before, self._known = self._known, {}
        for name, view in views.items():
            known = before.get(name)
            unchanged = known is not None and known[0] is view
            self._known[name] = known if unchanged and known else (view, capacity(view))
        return {name: known for name, (_, known) in self._known.items()}


def _process(state: FleetState) -> Iterator[Metric]:
    yield gauge(
        "tangram_build_info",
        "1, with the version of this process and the policy it decides by.",
        ("version", "policy"),
        {(state.version, state.policy): 1},
    )
    yield gauge(
        "tangram_policy_info",
        "1, with the version of the policy in force, as every decision's log line has it.",
        ("policy_version",),
        {(state.policy_version,): 1},
    )
    yield single("tangram_leader", "1 where the hooks are answered.", int(state.leads))
    yield single(
        "tangram_ready",
        "1 where the inventory is complete and current, so that this process answers or could.",
        int(state.ready),
    )
    yield gauge(
        "tangram_feed_silence_seconds",
        "For how long nothing could be heard from the API server of what is watched.",
        ("feed",),
        {(feed,): seconds for feed, seconds in state.silences.items()},
    )


def _queue(state: FleetState) -> Iterator[Metric]:
    for name, text, pods in (
        ("tangram_pods_pending", "Pods that were filtered and have no place yet.", state.pending),
        ("tangram_pods_refused", "Pods that fitted nowhere when last asked about.", state.refused),
        ("tangram_pods_presumed", "Pods kept a place for until their bind.", state.presumed),
        (
            "tangram_assignments_unrealized",
            "Places in plans of which no agent has said yet that they are there.",
            state.unrealized,
        ),
    ):
        yield single(name, text, pods)
    yield single(
        "tangram_oldest_unrealized_seconds",
        "How long the first of these has waited; 0 without any.",
        state.oldest_unrealized,
    )
    yield single(
        "tangram_joint_plan_age_seconds",
        "Time since pods were last planned jointly.",
        state.plan_age,
    )


_NO_CONDITIONS: Counter[Key] = Counter(
    {(name, status): 0 for name in keys.CONDITIONS for status in STATUSES}
)

_NODE_STATES = ("ready", "unreported", "stale", "cordoned", "failing")


def _nodes(state: FleetState, each: Iterable[Capacity]) -> Iterator[Metric]:
    states: Counter[Key] = Counter({(name,): 0 for name in _NODE_STATES})
    states.update((_node_state(view),) for view in state.views.values())
    yield gauge(
        "tangram_nodes",
        "GPU nodes, by the first thing that keeps them from taking pods.",
        ("state",),
        states,
    )
    yield gauge(
        "tangram_node_conditions",
        "GPU nodes by what their agents say of themselves, as conditions of the GpuNode.",
        ("condition", "status"),
        total((_NO_CONDITIONS, *(one.conditions for one in each))),
    )
    yield single(
        "tangram_oldest_agent_renewal_seconds",
        "Time since the agent was last heard of that has been silent longest.",
        state.oldest_renewal,
    )
    yield single(
        "tangram_gpus_avoided",
        "GPUs chosen last, for instances could not be made there of late.",
        state.avoided,
    )


def _node_state(view: NodeView) -> str:
    if not view.reported:
        return "unreported"
    if view.stale:
        return "stale"
    if view.cordoned:
        return "cordoned"
    return "failing" if view.failing else "ready"
