"""The fleet drawn from what the service knows, once for all who look."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from extender.explain.asked import Sizes, sizes
from extender.overview import MOST_PENDING, Changed, Journal, Node, Sight, drawn, waiting
from extender.overview.documents import About, Geometry, Queue
from extender.overview.draw import geometry
from extender.service.knowledge import Knowledge
from extender.snapshot import NodeView
from extender.verbs.reasons import Code
from nodeagent.api import rfc3339

KEPT = 512
"""Nodes kept as they were last drawn: several readers ask for the same changes at once."""

PENDING_SECONDS = 0.5
"""How often the pods that wait are looked through; there may be thousands."""

SERVED_SECONDS = 5.0
"""How often the nodes are looked through for what serves a resource; it hardly ever changes."""


class Drawing:
    """What readers are shown of *knowledge*; from its event loop alone.

    *wall* tells the time of day, in seconds since 1970.
    """

    def __init__(self, knowledge: Knowledge, *, wall: Callable[[], float] = time.time) -> None:
        self._knowledge = knowledge
        self._journal = Journal()
        self._kept: OrderedDict[str, tuple[NodeView, Node]] = OrderedDict()
        self._edition = 0
        self._queues: dict[Sight, Queue] = {}
        self._queues_until = -math.inf
        self._served: Sizes = {}
        self._served_until = -math.inf
        # Once, so that a moment is always told as the same one.
        self._began = wall() - knowledge.clock()
        self._version = version("tangram-vgpu")

    @property
    def views(self) -> Mapping[str, NodeView]:
        """The nodes as decisions see them."""
        return self._knowledge.views

    def look(self) -> int:
        """Note what has changed, and return the version of the fleet."""
        if self._edition != self._knowledge.tenancy.edition:
            self._edition = self._knowledge.tenancy.edition
            self._kept.clear()
            self._journal.renew()
        self._journal.look(self.views)
        return self._journal.version

    def since(self, version: int) -> Changed | None:
        """Return what has changed after a version; None if that is not known any more."""
        return self._journal.since(version)

    def fresh(self, names: Iterable[str]) -> Iterator[Node]:
        """Yield those of the nodes that are there, as they are now."""
        for name in names:
            view = self.views.get(name)
            if view is not None:
                yield self._drawn(name, view)

    def _drawn(self, name: str, view: NodeView) -> Node:
        kept = self._kept.get(name)
        if kept is None or kept[0] is not view:
            kept = (view, drawn(view, self._knowledge.tenancy.tenant_of))
            self._kept[name] = kept
        self._kept.move_to_end(name)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return kept[1]

    def pending(self, sight: Sight) -> Queue:
        """Return the pods that wait, longest first; equal to the last while nothing changes.

        Only what the reader may know of counts among those told of at most.
        """
        now = self._knowledge.clock()
        if now >= self._queues_until:
            self._queues_until = now + PENDING_SECONDS
            self._queues.clear()
        queue = self._queues.get(sight)
        if queue is None:
            queue = self._queues[sight] = self._queue(sight)
        return queue

    def _queue(self, sight: Sight) -> Queue:
        knowledge = self._knowledge
        seen = [
            each
            for each in knowledge.pending.waiting.values()
            if sight.knows(each.request.pod.namespace)
        ]
        told = waiting(
            seen[:MOST_PENDING],
            self._codes,
            knowledge.tenancy.tenant_of,
            self._told,
            self._profiles_of,
        )
        return Queue(tuple(told), len(seen))

    def _profiles_of(self, resource: str) -> Iterator[str]:
        now = self._knowledge.clock()
        if now >= self._served_until:
            self._served_until = now + SERVED_SECONDS
            self._served = sizes(self.views.values())
        return (profile for profile, _ in self._served.get(resource, ()))

    def _told(self, moment: float) -> str:
        return rfc3339.seconds(datetime.fromtimestamp(self._began + moment, UTC))

    def _codes(self, uid: str) -> frozenset[Code]:
        refused = self._knowledge.refused.get(uid)
        return frozenset() if refused is None else refused.codes

    def about(self, sight: Sight) -> About:
        """Tell who tells this."""
        names = sight.namespaces
        return About(
            self._version,
            self._knowledge.in_force.policy.effective.value,
            self._knowledge.not_ready(),
            None if names is None else tuple(sorted(names)),
        )

    def geometries(self) -> Mapping[str, Geometry]:
        """Return every geometry in the fleet by its key."""
        return {
            key: geometry(each)
            for view in self.views.values()
            for key, each in view.node.status.geometries.items()
        }

    def geometries_of(self, nodes: Iterable[Node]) -> Mapping[str, Geometry]:
        """Return the geometries of some nodes by their keys."""
        views = (self.views.get(node.name) for node in nodes)
        return {
            key: geometry(each)
            for view in views
            if view is not None
            for key, each in view.node.status.geometries.items()
        }
