"""What disruption budgets allow, as they were read a moment ago."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from extender.service.ports import Budgets

KNOWN_SECONDS = 30.0
"""For how long a budget is gone by as it was read."""

_Named = tuple[str, str]
"""A budget, by namespace and name."""


class Disruptions:
    """Knows the *budgets* of whole namespaces: of all pods there, whoever was asked about."""

    def __init__(self, budgets: Budgets, clock: Callable[[], float]) -> None:
        self._budgets = budgets
        self._clock = clock
        self._namespaces: set[str] = set()
        self._left: dict[_Named, int] = {}
        self._guards: dict[str, tuple[_Named, ...]] = {}
        self._until = 0.0

    async def read(self, namespaces: Collection[str], *, anew: bool = False) -> None:
        """Read the budgets of these namespaces, but for those known already, unless *anew*.

        Raises:
            ClusterUnavailable: they could not be read.
        """
        if self._clock() >= self._until:
            self._forget(self._namespaces)
            self._until = self._clock() + KNOWN_SECONDS
        fresh = set(namespaces) if anew else set(namespaces) - self._namespaces
        found = await self._budgets.budgets(fresh) if fresh else ()
        self._forget(fresh)
        for each in found:
            named = (each.namespace, each.name)
            self._left[named] = each.allows
            for uid in each.pods:
                self._guards[uid] = (*self._guards.get(uid, ()), named)
        self._namespaces |= fresh

    def _forget(self, namespaces: Collection[str]) -> None:
        kept = (
            (uid, tuple(named for named in guards if named[0] not in namespaces))
            for uid, guards in self._guards.items()
        )
        self._guards = {uid: guards for uid, guards in kept if guards}
        self._left = {n: left for n, left in self._left.items() if n[0] not in namespaces}
        self._namespaces = self._namespaces.difference(namespaces)

    def allow(self, uids: Collection[str]) -> bool:
        """Tell whether the budgets, as far as they are known, let all these pods go together.

        One that several are about never goes: the API server evicts no such pod.
        """
        needed = Counter[_Named]()
        for uid in uids:
            guards = self._guards.get(uid, ())
            if len(guards) > 1:
                return False
            needed.update(guards)
        return all(count <= self._left[named] for named, count in needed.items())
