"""Whether who waits would fit: found by trying every placement, by nobody's planner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nodeagent.api import keys
from nodeagent.api.geometry import Geometry, Occupancy
from nodeagent.api.gpunode import GpuNode
from nodeagent.api.occupancy import occupancy
from tests.e2e.stack import RESOURCES

PROFILES = {resource: profile for profile, resource in RESOURCES.items()}

Wanted = tuple[int, ...]
"""The profile ids that one pod asks for, on one node."""

_Gpu = tuple[str, Occupancy]
"""A GPU by the hash of its geometry and what is taken on it."""

_Node = tuple[_Gpu, ...]


def missed(nodes: Iterable[GpuNode], pods: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the pending pods for which there are legal free placements, by name.

    All that a pod asks for must be had on one node. Of a gang without a bound member either all
    members fit together, or none is missed.
    """
    nodes = tuple(nodes)
    geometries = {key: each for node in nodes for key, each in node.status.geometries.items()}
    there = tuple(
        tuple(
            (gpu.geometry, occupancy(geometries[gpu.geometry], gpu, node.spec.assignments))
            for gpu in node.status.gpus
        )
        for node in nodes
    )
    search = _Search(geometries)
    for names in _together(pods):
        if search.fit(there, sorted((_wanted(pods[name]) for name in names), reverse=True)):
            yield from names


def _together(pods: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """Yield the pending pods, each by itself, or as many of a gang as are placed all or none."""
    gangs: dict[str, list[str]] = defaultdict(list)
    for name, pod in pods.items():
        gangs[_annotation(pod, keys.GANG)].append(name)
    for gang, members in gangs.items():
        pending = [name for name in members if not pods[name]["spec"].get("nodeName")]
        if not gang or len(pending) < len(members):
            yield from ([name] for name in pending)
        elif len(pending) >= int(_annotation(pods[members[0]], keys.GANG_SIZE)):
            yield pending


def _annotation(pod: Mapping[str, Any], key: str) -> str:
    return str(pod["metadata"].get("annotations", {}).get(key, ""))


def _wanted(pod: Mapping[str, Any]) -> Wanted:
    amounts: Mapping[str, str] = pod["spec"]["containers"][0]["resources"]["requests"]
    asked = [
        PROFILES[name] for name, n in amounts.items() if name in PROFILES for _ in range(int(n))
    ]
    return tuple(sorted(asked))


class _Search:
    """Tries all there is to try; what led nowhere is tried once."""

    def __init__(self, geometries: Mapping[str, Geometry]) -> None:
        self._geometries = geometries
        self._in_vain: set[tuple[tuple[_Node, ...], tuple[Wanted, ...]]] = set()

    def fit(self, nodes: Sequence[_Node], pods: Sequence[Wanted]) -> bool:
        """Tell whether all pods fit on these nodes together."""
        if not pods:
            return True
        key = (tuple(sorted(tuple(sorted(node)) for node in nodes)), tuple(pods))
        if key in self._in_vain:
            return False
        distinct = sorted(set(key[0]))
        for node in distinct:
            others = list(key[0])
            others.remove(node)
            for after in self._placed(node, pods[0]):
                if self.fit([*others, after], pods[1:]):
                    return True
        self._in_vain.add(key)
        return False

    def _placed(self, node: _Node, wanted: Wanted) -> Iterator[_Node]:
        """Yield each state of a node in which it serves all that is wanted besides."""
        if not wanted:
            yield node
            return
        for at, (key, taken) in enumerate(node):
            if (key, taken) in node[:at]:
                continue  # one such GPU is as good as the other
            geometry = self._geometries[key]
            for place in geometry.legal(taken, geometry.by_id[wanted[0]]):
                after = (key, geometry.occupied(taken, wanted[0], place))
                yield from self._placed((*node[:at], after, *node[at + 1 :]), wanted[1:])
