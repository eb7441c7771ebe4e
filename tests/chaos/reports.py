"""What agents have told of their nodes, in whatever order their writes arrive."""

from __future__ import annotations

from nodeagent.api.gpunode import Inventory


class Reports:
    """By node, what was told last.

    A write that came too late, of the same agent or of one before it, takes the place of a newer
    one; that one was told all the same, and agents keep what they tell. They are processes, whose
    numbers say who came first.
    """

    def __init__(self) -> None:
        self._last: dict[str, Inventory] = {}

    def hear(self, node: str, status: Inventory) -> None:
        """Hear a report."""
        last = self._last.get(node)
        if last is None or _age(status) >= _age(last):
            self._last[node] = status

    def realized(self, node: str) -> frozenset[str]:
        """Return the ids of the entries that are realized."""
        last = self._last.get(node)
        return frozenset(each.id for each in last.realized) if last else frozenset()

    def forget(self, node: str) -> None:
        """See a node's object deleted: agents keep what they tell, and begin anew with that."""
        self._last.pop(node, None)


def _age(status: Inventory) -> tuple[int, int]:
    """Return which agent told it, and its how manieth word it was; a new object bears no word."""
    number = status.agent_epoch.rpartition("_")[2]
    return int(number) if number else 0, status.sequence
