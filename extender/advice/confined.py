"""Which nodes VMs may not move to, for kube-scheduler would not let their pods run there.

What is said of itself by a pod as it is now counts: its owner may make the next one otherwise. Of
what pods say as much is looked at as time allows, and of what comes of it as many kinds are told
apart as a plan is made for. In both those of VMs on what is to be emptied come first, then the
commonest; a VM left out stays where it is, and nothing is proven then to be impossible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from extender.advice.asked import Asked
from extender.advice.setting import Setting
from extender.kubescheduler.eligible import Constraints, Traits, why_not
from nodeagent.api.gpunode import Mode

MOST_CHECKS = 10_000_000
"""Labels, values and tolerations compared with nodes: for 5,000 of these, those of some forty pods
that differ, each with forty labels, in 2 s, or 5,000 pods that are each pinned to a node in 6 s
(measured). For 125 nodes, which a thousand GPUs are, it is forty times as many pods."""

MOST_KINDS = 32
"""Sets of nodes that VMs are kept from: with each, GPUs that were alike come to differ."""

MOST_REASONS = 3
MOST_NODES = 2
"""For which nodes are not open to a VM, and nodes named for each."""

NOWHERE = "of a VM whose pod may run on no node that takes something new ({})"
UNTOLD = "so many kinds are not told apart"
TOO_MANY = f"of a VM whose pod may run on other nodes than most: {UNTOLD}"


class KeptFrom(NamedTuple):
    """Nodes that a VM may not move to, and how that is told; ``stays`` if it is not to move.

    ``number`` tells sets of nodes apart, 0 for none: in the order of their nodes' names. Of a VM
    that stays neither is kept.
    """

    nodes: frozenset[str] = frozenset()
    told: str = ""
    stays: str = ""
    number: int = 0


class _Shut(NamedTuple):
    """Nodes that are shut to a pod, as bits: for each pod that differs there may be thousands."""

    nodes: int = 0
    told: str = ""
    stays: str = ""


def confined(setting: Setting, asked: Asked) -> Confined:
    """Return where VMs may not move to, of all nodes that take them and are not to be drained."""
    return Confined(
        setting.constraints,
        setting.traits,
        (uid for uid, pod in setting.pods.items() if pod.node),
        [
            view.name
            for view in setting.views.values()
            if view.takes_new
            and view.node.status.mode is not Mode.HARVESTER
            and view.name not in asked.drain
        ],
        frozenset(_leaving(setting, asked)),
    )


def _leaving(setting: Setting, asked: Asked) -> Iterator[str]:
    """Yield the UIDs of the pods on what is to be drained."""
    nodes, gpus = frozenset(asked.drain), frozenset(asked.drain_gpus)
    if nodes or gpus:
        for view in setting.views.values():
            drained = view.name in nodes
            for entry in view.node.spec.assignments:
                if entry.pod is not None and (drained or entry.gpu in gpus):
                    yield entry.pod.uid


class Confined:
    """Where VMs may not move to, by the UIDs of their pods; *nodes* are all they might move to.

    *leaving* are the pods that are asked to leave: what they say comes before what others say.
    """

    def __init__(
        self,
        constraints: Mapping[str, Constraints],
        traits: Mapping[str, Traits],
        pods: Iterable[str],
        nodes: Collection[str],
        leaving: Container[str] = frozenset(),
    ) -> None:
        self._constraints = constraints
        self._nodes = [traits.get(name, Traits(name)) for name in sorted(nodes)]
        pods = list(pods)
        most = len(pods) + 1  # one that is to leave weighs more than all that are not
        # Pods alike share one value: by identity, for there are many and it may be long.
        weights: Counter[int] = Counter()
        values: dict[int, Constraints] = {}
        first: dict[int, str] = {}
        for uid in pods:
            each = self._of(uid)
            weights[id(each)] += most if uid in leaving else 1
            values[id(each)] = each
            first[id(each)] = min(uid, first.get(id(each), uid))
        ranked = sorted(values, key=lambda at: (-weights[at], first[at]))
        looked_at = self._looked_at(values[at] for at in ranked)
        found = {id(each): self._shut_to(each) for each in looked_at}
        self._kinds = dict(self._told_apart(found, weights))
        self._found = {at: self._kept(shut) for at, shut in found.items()}

    def kept_from(self, uid: str) -> KeptFrom:
        """Return where a VM may not move to."""
        return self._found.get(id(self._of(uid)), KeptFrom(stays=TOO_MANY))

    def _of(self, uid: str) -> Constraints:
        return self._constraints.get(uid, _NONE)

    def _looked_at(self, ranked: Iterable[Constraints]) -> Iterator[Constraints]:
        """Yield those that there is time for, the first first."""
        nodes, taints = len(self._nodes), sum(len(node.taints) for node in self._nodes)
        left = MOST_CHECKS
        for each in ranked:
            left -= each.checks(nodes, taints)
            if left < 0:
                return
            yield each

    def _shut_to(self, constraints: Constraints) -> _Shut:
        reasons = {node.name: why for node in self._nodes if (why := why_not(constraints, node))}
        if not reasons:
            return _Shut()
        told = _told(reasons)
        stays = NOWHERE.format(told) if len(reasons) == len(self._nodes) else ""
        bits = "".join("1" if node.name in reasons else "0" for node in self._nodes)
        return _Shut(int(bits, 2), told, stays)

    def _told_apart(
        self, found: Mapping[int, _Shut], weights: Mapping[int, int]
    ) -> Iterator[tuple[int, KeptFrom]]:
        """Yield the sets of nodes that are told apart, numbered alike whoever comes first."""
        yield 0, KeptFrom()
        kinds: Counter[int] = Counter()
        for at, shut in found.items():
            if shut.nodes and not shut.stays:
                kinds[shut.nodes] += weights[at]
        ranked = sorted(kinds, key=lambda nodes: (-kinds[nodes], nodes))
        for number, nodes in enumerate(sorted(ranked[:MOST_KINDS]), 1):
            yield nodes, KeptFrom(self._names(nodes), number=number)

    def _names(self, nodes: int) -> frozenset[str]:
        bits = f"{nodes:0{len(self._nodes)}b}"
        return frozenset(
            node.name for node, bit in zip(self._nodes, bits, strict=True) if bit == "1"
        )

    def _kept(self, shut: _Shut) -> KeptFrom:
        """Return where something is kept from: all that are shut out alike share one set."""
        kind = self._kinds.get(shut.nodes)
        if shut.stays or kind is None:
            return KeptFrom(told=shut.told, stays=shut.stays or TOO_MANY)
        return kind._replace(told=shut.told)


_NONE = Constraints()


def _told(reasons: Mapping[str, str]) -> str:
    """Return why nodes are not open to a VM: the commonest reasons, each with some of the nodes."""
    named: dict[str, list[str]] = {}
    for name, why in sorted(reasons.items()):
        named.setdefault(why, []).append(name)
    ranked = sorted(named.items(), key=lambda each: -len(each[1]))
    parts = [f"{_some(names)}: {why}" for why, names in ranked[:MOST_REASONS]]
    left = sum(len(names) for _, names in ranked[MOST_REASONS:])
    return "; ".join([*parts, *([f"and {left} more for other reasons"] if left else [])])


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NODES
    some = ", ".join(names[:MOST_NODES])
    return f"{some} and {more} more" if more > 0 else some
