"""Which nodes have changed since when, for readers who come back at their own pace.

A reader is told what has changed since the version they have, however long ago that was: nobody is
kept a queue for, so that a slow one costs no memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from extender.snapshot import NodeView

MOST_GONE = 20_000
"""Nodes remembered that are no more; whoever has not heard of an older one starts anew."""


class Changed(msgspec.Struct, frozen=True):
    """The names of nodes that are other than they were, and of those that are no more."""

    nodes: Sequence[str]
    gone: Sequence[str]


class Journal:
    """Versions of the fleet, as it was at each look that found it changed."""

    def __init__(self) -> None:
        self.version = 0
        self._seen: dict[str, NodeView | None] = {}
        self._changed: OrderedDict[str, int] = OrderedDict()
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._whole_since = 0

    def look(self, views: Mapping[str, NodeView]) -> None:
        """Note what is other than at the last look; nodes that are not cost a comparison each."""
        seen = self._seen
        changed = [name for name, view in views.items() if seen.get(name) is not view]
        gone = seen.keys() - views.keys() if len(seen) + len(changed) > len(views) else ()
        if not changed and not gone:
            return
        self.version += 1
        for name in gone:
            del seen[name]
            self._changed.pop(name, None)
            self._gone[name] = self.version
        for name in changed:
            seen[name] = views[name]
            self._gone.pop(name, None)
            self._changed[name] = self.version
            self._changed.move_to_end(name)
        while len(self._gone) > MOST_GONE:
            _, self._whole_since = self._gone.popitem(last=False)

    def renew(self) -> None:
        """Take every node for changed at the next look: something about them all is other."""
        self._seen = dict.fromkeys(self._seen)

    def since(self, version: int) -> Changed | None:
        """Return what has changed after a *version*; None if that is not known any more."""
        if not self._whole_since <= version <= self.version:
            return None
        return Changed(_after(self._changed, version), _after(self._gone, version))


def _after(versions: OrderedDict[str, int], version: int) -> Sequence[str]:
    found = []
    for name in reversed(versions):
        if versions[name] <= version:
            break
        found.append(name)
    return found[::-1]
