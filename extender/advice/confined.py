"""Which nodes VMs may not move to, for kube-scheduler would not let their pods run there.

What is said of itself by a pod as it is now counts: its owner may make the next one otherwise. Of
what pods say as much is looked at as time allows, and of what comes of it as many kinds are told
apart as a plan is made for, in both the commonest first: a VM left out stays where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from extender.advice.asked import Asked
from extender.advice.setting import Setting
from extender.kubescheduler.eligible import Constraints, Traits, why_not
from nodeagent.api.gpunode import Mode

MOST_CHECKS = 10_000_000
"""Labels, values and tolerations compared with nodes: for 5,000 of these, those of some forty pods
that differ, each with forty labels, in 2 s (measured; the worst that pods can say takes 3 s). For
125, which a thousand GPUs are, it is forty times as many pods."""

MOST_KINDS = 32
"""Sets of nodes that VMs are kept from: with each, GPUs that were alike come to differ."""

MOST_REASONS = 3
MOST_NODES = 2
"""For which nodes are not open to a VM, and nodes named for each."""

NOWHERE = "of a VM whose pod may run on no node that takes something new ({})"
TOO_MANY = "of a VM whose pod may run on other nodes than most: so many kinds are not told apart"


class KeptFrom(NamedTuple):
    """Nodes that a VM may not move to, and how that is told; ``stays`` if it can move nowhere."""

    nodes: frozenset[str] = frozenset()
    told: str = ""
    stays: str = ""


ANYWHERE = KeptFrom()


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
    )


class Confined:
    """Where VMs may not move to, by the UIDs of their pods; *nodes* are all they might move to."""

    def __init__(
        self,
        constraints: Mapping[str, Constraints],
        traits: Mapping[str, Traits],
        pods: Iterable[str],
        nodes: Collection[str],
    ) -> None:
        self._constraints = constraints
        self._nodes = [traits.get(name, Traits(name)) for name in nodes]
        # Pods alike share one value: by identity, for there are many and it may be long.
        counts: Counter[int] = Counter()
        values: dict[int, Constraints] = {}
        for uid in pods:
            each = self._of(uid)
            counts[id(each)] += 1
            values[id(each)] = each
        ranked = [values[at] for at, _ in counts.most_common()]
        found = {id(each): self._kept_from(each) for each in self._looked_at(ranked)}
        kinds: Counter[frozenset[str]] = Counter()
        for at, kept in found.items():
            if kept.nodes and not kept.stays:
                kinds[kept.nodes] += counts[at]
        told_apart = {nodes for nodes, _ in kinds.most_common(MOST_KINDS)}
        self._found = {
            at: kept
            if kept.stays or not kept.nodes or kept.nodes in told_apart
            else KeptFrom(kept.nodes, kept.told, TOO_MANY)
            for at, kept in found.items()
        }

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

    def _kept_from(self, constraints: Constraints) -> KeptFrom:
        reasons = {node.name: why for node in self._nodes if (why := why_not(constraints, node))}
        if not reasons:
            return ANYWHERE
        told = _told(reasons)
        stays = NOWHERE.format(told) if len(reasons) == len(self._nodes) else ""
        return KeptFrom(frozenset(reasons), told, stays)


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
