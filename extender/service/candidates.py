"""The nodes that pods may go to: thousands of names, of which most pods have the same.

Every request brings names of its own, in any order. Of 300 pods that wait on 5,000 nodes they would
take 100 MB; and a plan, which has a third of a second, would spend a third of it reading them. A
sample, as kube-scheduler takes of many nodes, is hardly ever the same as another, and small.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

KEPT = 16
"""Sets remembered: one for each kind of node selector that pods come with, or nearly so."""


SAMPLE = 1_000
"""Names that may be a sample of the nodes: to make a set of 500 takes as long as to judge two."""


class Candidates:
    """Gives pods with the same nodes the same set of them; samples it leaves as they are."""

    def __init__(self) -> None:
        self._kept: deque[frozenset[str]] = deque(maxlen=KEPT)

    def of(self, names: Collection[str]) -> frozenset[str] | tuple[str, ...]:
        """Return the *names*, none of which is there twice, as a set if they are many.

        Of 5,000 that are known it takes up to 1 ms to see that they are, since none of them is in
        the processor's caches. Where they are known to be all there are, a filter passes the set.
        """
        if isinstance(names, frozenset):
            return names
        if len(names) <= SAMPLE:
            return tuple(names)
        return self.set_of(names)

    def set_of(self, names: Collection[str]) -> frozenset[str]:
        """Return the *names* as a set, however few."""
        for each in self._kept:
            if len(each) == len(names) and each.issuperset(names):
                return each
        made = frozenset(names)
        self._kept.append(made)
        return made

    def forget(self) -> None:
        """Forget them all: nobody waits any more who could have the same."""
        self._kept.clear()
