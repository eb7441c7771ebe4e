"""Every node at a glance, for lists: what it has, what is used, and what would still fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from extender.explain.groups import gpus_of
from extender.packing.choose import Bin
from extender.policy.rules import Rules
from extender.snapshot import NodeView
from extender.verbs.verdicts import unsuitable
from nodeagent.api.geometry import Occupancy

READY = "ready"


class _Told(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """How every value of this module looks as JSON."""


class NodeRow(_Told, frozen=True):
    """One node. ``state`` is "ready", or the code of what keeps new VMs from it; ``why`` says so.

    ``slices`` are those of all its GPUs, ``used`` those taken on GPUs that are usable, ``unusable``
    the free ones there that no profile can use. ``fits`` counts by profile, the largest first, how
    many would fit if nothing else came.
    """

    name: str
    pool: str
    state: str
    why: str
    gpus: str
    slices: int
    used: int
    unusable: int
    vms: int
    fits: Mapping[str, int]

    @property
    def largest(self) -> str:
        """The largest profile that fits, "" if none does."""
        return next(iter(self.fits), "")


class Roster(_Told, frozen=True):
    """All nodes, by name, and how many pods wait (``refused``: of them, those refused last time).

    ``leader`` is who decides, "" where nobody is elected.
    """

    policy: str
    policy_version: str
    pending: int
    refused: int
    leader: str
    nodes: tuple[NodeRow, ...]


def roster(
    views: Mapping[str, NodeView],
    rules: Rules,
    *,
    policy: str,
    policy_version: str,
    pending: int,
    refused: int,
    leader: str,
) -> Roster:
    """Return every node at a glance."""
    reader = _Reader(rules)
    rows = tuple(reader.row(views[name]) for name in sorted(views))
    return Roster(policy, policy_version, pending, refused, leader, rows)


class _Reader:
    """Reads nodes; what a GPU's state comes to is worked out once for all that are in it."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._unusable: dict[tuple[int, Occupancy], int] = {}

    def row(self, view: NodeView) -> NodeRow:
        """Return a node at a glance."""
        why_not, pool, bins = unsuitable(view, ()), self._rules.pool_of(view.labels), view.bins()
        status = view.node.status
        slices = sum(
            status.geometries[gpu.geometry].memory_slices
            for gpu in status.gpus
            if gpu.geometry in status.geometries
        )
        return NodeRow(
            view.name,
            "" if pool is None else pool.name,
            READY if why_not is None else why_not.code.value,
            "" if why_not is None else why_not.reason.removeprefix("vGPU: "),
            gpus_of(view),
            slices,
            view.fullness,
            sum(map(self._unusable_on, bins)),
            len({each.pod.uid for each in view.node.spec.assignments if each.pod is not None}),
            _fits(bins) if why_not is None else {},
        )

    def _unusable_on(self, bin: Bin) -> int:
        """Return how many free slices no profile can use: none of its placements covers them."""
        key = (id(bin.tables), bin.occupancy)
        known = self._unusable.get(key)
        if known is None:
            geometry, state = bin.tables.geometry, bin.occupancy
            reached = 0
            for profile in geometry.profiles:
                for placement in geometry.legal(state, profile):
                    reached |= placement.mask
            free = geometry.full_mask & ~state.mask
            known = self._unusable[key] = (free & ~reached).bit_count()
        return known


def _fits(bins: Iterable[Bin]) -> Mapping[str, int]:
    """Return how many of each profile would fit at once, if nothing else came; none where none."""
    found: Counter[str] = Counter()
    sizes: dict[str, tuple[int, int]] = {}
    for bin in bins:
        served = frozenset(bin.serves.values())
        for profile in bin.tables.geometry.profiles:
            count = bin.tables.at_once(bin.occupancy, profile) if profile.id in served else 0
            if count:
                found[profile.name] += count
                sizes[profile.name] = (profile.size, profile.compute_slices)
    order = sorted(found, key=lambda name: (sizes[name], name), reverse=True)
    return {name: found[name] for name in order}
