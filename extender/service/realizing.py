"""How long agents take: from a place in the plan to "realized", and from taken back to free.

Told by our own clock from what the watch and our writes' replies bring, so that no agent's clock
and no agent's word is needed. What was in the plan when we came is only known to be older.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from extender.metrics import Work
from extender.service.seam import Call, restores, restoring
from extender.snapshot import NodeView, Releasing


class Since(msgspec.Struct, frozen=True):
    """When something was seen first, and whether that was when it began."""

    at: float
    exact: bool


class Realizing:
    """What agents have yet to do, by node; *clock* is monotonic, in seconds."""

    def __init__(self, work: Work, clock: Callable[[], float]) -> None:
        self._work = work
        self._clock = clock
        self._unrealized: dict[str, dict[str, Since]] = {}
        self._releasing: dict[str, dict[Releasing, Since]] = {}

    def changed(self, name: str, before: NodeView | None, now: NodeView | None) -> None:
        """Take in that a node's view is another."""
        if now is None:
            self._unrealized.pop(name, None)
            self._releasing.pop(name, None)
            return
        if before is None or before.node is not now.node:
            self._realized(name, before, now)
        if self._releasing.get(name) or now.releasing:
            self._released(name, before, now)

    def _realized(self, name: str, before: NodeView | None, now: NodeView) -> None:
        known = self._unrealized.get(name, {})
        if not known and before is not None and _plan(before) == _plan(now):
            return  # nearly always: a report about something else
        realized = {each.id for each in now.node.status.realized}
        planned = {each.id for each in now.node.spec.assignments if each.pod is not None}
        at = self._clock()
        for id, since in known.items():
            if since.exact and id in realized and id in planned:
                self._work.realized(at - since.at)
        had = frozenset() if before is None else {each.id for each in before.node.spec.assignments}
        left = {
            id: known.get(id) or Since(at, before is not None and id not in had)
            for id in planned - realized
        }
        if left:
            self._unrealized[name] = left
        else:
            self._unrealized.pop(name, None)

    def _released(self, name: str, before: NodeView | None, now: NodeView) -> None:
        known, at = self._releasing.pop(name, {}), self._clock()
        there = frozenset(now.releasing)
        for each, since in known.items():
            if since.exact and each not in there:
                self._work.released(at - since.at)
        if there:
            self._releasing[name] = {
                each: known.get(each) or Since(at, before is not None) for each in there
            }

    def unrealized(self) -> tuple[int, float]:
        """Return how many places no agent has answered for, and how long the first has waited."""
        since = [each.at for here in self._unrealized.values() for each in here.values()]
        return len(since), self._clock() - min(since) if since else 0.0

    def restated(self) -> Call:
        """Return what leads here once all nodes are known."""
        return restoring("Realizing.restore", self._unrealized.copy())

    @restores
    def restore(self, unrealized: Mapping[str, Mapping[str, Since]]) -> None:
        """Take in which places no agent has answered for, by node and id."""
        self._unrealized = {node: dict(here) for node, here in unrealized.items()}


def _plan(view: NodeView) -> tuple[str, int]:
    return view.node.metadata.uid, view.node.metadata.generation
