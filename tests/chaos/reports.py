"""What agents have told of their nodes, in whatever order their writes arrive."""

from __future__ import annotations

from nodeagent.api.gpunode import Inventory


class Reports:
    """By node, what was told last.

    A write that came too late, of the same agent or of one before it, takes the place of a newer
    one; that one was told all the same.
    """

    def __init__(self) -> None:
        self._last: dict[str, Inventory] = {}
        self._before: dict[str, set[str]] = {}  # the agents that others have come after

    def hear(self, node: str, status: Inventory) -> None:
        """Hear a report."""
        last, before = self._last.get(node), self._before.setdefault(node, set())
        if status.agent_epoch in before:
            return
        if last is not None and last.agent_epoch != status.agent_epoch:
            before.add(last.agent_epoch)
        elif last is not None and last.sequence > status.sequence:
            return
        self._last[node] = status

    def realized(self, node: str) -> frozenset[str]:
        """Return the ids of the entries that are realized."""
        last = self._last.get(node)
        return frozenset(each.id for each in last.realized) if last else frozenset()

    def forget(self, node: str) -> None:
        """See a node's object deleted: whoever reports next begins anew."""
        self._last.pop(node, None)
        self._before.pop(node, None)
