"""What a decision costs at the least: hooks that look names up, and decide nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from extender import wire
from extender.service.hooks import Hooks

Answers = tuple[wire.FilterResult, Sequence[wire.HostPriority]]
"""What filter and prioritize answered about one pod."""


class Floor(Hooks):
    """Answers as it is told to, deciding nothing; ``reasons`` are "" where a pod fits."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.scores: dict[str, int] = {}

    def filter(self, args: wire.ExtenderArgs) -> wire.FilterResult:
        """Look each name up."""
        names = args.node_names or ()
        found = list(map(self.reasons.get, names))  # by the quickest idioms, as filter does
        if not any(found):
            return wire.FilterResult(tuple(names))
        passed = tuple([name for name, why in zip(names, found, strict=True) if not why])
        refused = {name: why for name, why in zip(names, found, strict=True) if why}
        return wire.FilterResult(passed, failed_and_unresolvable_nodes=refused)

    def prioritize(self, args: wire.ExtenderArgs) -> tuple[wire.HostPriority, ...]:
        """Look each name up."""
        names = args.node_names or ()
        return tuple(map(wire.HostPriority, names, map(self.scores.__getitem__, names)))


class Known:
    """What the hooks answered last for pods of a kind, by node: all that the floor goes by."""

    def __init__(
        self,
        names: Sequence[str],
        filtered: wire.FilterResult,
        scored: Sequence[wire.HostPriority],
    ) -> None:
        """Begin with the first answers about *names*, which are to lie together in memory."""
        self.reasons = dict.fromkeys(names, "")
        self.scores = dict.fromkeys(names, 0)
        self.learn(filtered, scored)

    def learn(self, filtered: wire.FilterResult, scored: Sequence[wire.HostPriority]) -> None:
        """Take in the hooks' latest answers."""
        self.reasons.update(dict.fromkeys(filtered.node_names or (), ""))
        for name, why in filtered.failed_and_unresolvable_nodes.items():
            self.reasons[name] = sys.intern(why)
        for each in scored:
            self.scores[each.host] = each.score
