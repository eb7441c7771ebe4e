"""What each version of a GpuNode says is realized, and which of them a process may go by.

Whoever binds a pod goes by the version it has read last. The next may be written while the Binding
is on its way, or not have been brought by the watch.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from nodeagent.api.gpunode import Inventory
from tests.chaos.upheavals import in_trouble


class _Version(msgspec.Struct, frozen=True):
    """A version, when it was written, and the ids of the entries it says are realized."""

    number: int
    at: float
    realized: frozenset[str]


class Said:
    """By node, all versions there were of its GpuNode."""

    def __init__(self) -> None:
        self._versions: dict[str, list[_Version]] = defaultdict(list)

    def wrote(self, node: str, version: int, status: Inventory, *, now: float) -> None:
        """See a version written; one that is deleted says nothing."""
        realized = () if in_trouble(status) else status.realized
        ids = frozenset(each.id for each in realized)
        self._versions[node].append(_Version(version, now, ids))

    def may_be_realized(self, id: str, node: str, *, read: tuple[int, float], sent: float) -> bool:
        """Tell whether an entry was realized as far as who *sent* something may have known.

        That had *read* a version of the GpuNode, 0 if none, and a list asked for at a time.
        """
        number, asked = read
        possible: list[_Version] = []
        for each in self._versions[node]:
            if each.at > sent:
                break
            if each.number <= number or each.at < asked:
                possible.clear()  # it had read this one, or one after it
            possible.append(each)
        return any(id in each.realized for each in possible)
