"""How much of each headroom there is: on each node by its plan, and beside what is promised."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from extender.ledger import Ledger
from extender.packing.headroom import room
from extender.policy.rules import Rules
from extender.request import Request
from extender.snapshot import NodeView, Taken


class Rooms:
    """Counts the instances that there is room for in the *views*, for each headroom of *rules*."""

    def __init__(self, views: Mapping[str, NodeView], rules: Rules) -> None:
        self._views = views
        self._rules = rules
        self._on: dict[str, tuple[int, ...]] = {}
        self._total = [0] * len(rules.headroom)

    def changed(self, name: str, now: NodeView | None) -> None:
        """Take in that a node's view is another."""
        for at, count in enumerate(self._on.pop(name, ())):
            self._total[at] -= count
        if now is not None and self._rules.headroom:
            self._on[name] = tuple(self._of(now))
            for at, count in enumerate(self._on[name]):
                self._total[at] += count

    @property
    def planned(self) -> tuple[int, ...]:
        """For how many of each headroom's instances there is room by the plans."""
        return tuple(self._total)

    def beside(self, at: int, ledger: Ledger, request: Request) -> int:
        """Return how much of a headroom there is beside what others are certain to get."""
        total = self._total[at]
        for node in {promise.node for _, promise in ledger.certain} & self._on.keys():
            promised = ledger.assumed_on(node, besides=request.pod.uid)
            if promised:
                there = tuple(self._of(self._views[node], promised))
                total += there[at] - self._on[node][at]
        return total

    def _of(self, view: NodeView, promised: Collection[Taken] = ()) -> Iterator[int]:
        """Yield how much of each headroom a node has."""
        bins = view.bins(promised) if view.takes_new else ()
        for kept in self._rules.headroom:
            yield room(bins, kept.profile) if self._rules.concerns(kept, view.labels) else 0
