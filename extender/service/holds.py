"""The places held for owners whose pods come back, and since when we have seen each held.

A hold's time goes by our own clock, from when this process first saw the entry without a pod. What
time the entry bears is for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Set

from extender.claims import is_claim, is_move
from extender.service.seam import Call, restores, restoring
from extender.snapshot import NodeView
from nodeagent.api.gpunode import OwnerRef, Plan


class Holds:
    """Reservations by node; each ``lasts`` so many seconds of *clock*.

    Claims have a time of their own, which begins anew while those in their way may yet end. What is
    held for an order of moves lasts as long as that does.
    """

    def __init__(
        self, lasts: float, clock: Callable[[], float], *, claims_last: float | None = None
    ) -> None:
        self.lasts = lasts
        self._claims_last = lasts if claims_last is None else claims_last
        self._clock = clock
        self._since: dict[str, dict[str, float]] = {}
        self._claims: dict[str, frozenset[str]] = {}
        self._moves: set[str] = set()
        self._total: Counter[OwnerRef] = Counter()
        self._nodes: dict[OwnerRef, set[str]] = {}

    def planned(self, node: str, before: NodeView | None, now: NodeView | None) -> None:
        """Take in that the plan of *node* is another."""
        for owner in _owners(before):
            self._nodes[owner].discard(node)
            if not self._nodes[owner]:
                del self._nodes[owner]
        for owner in _owners(now):
            self._nodes.setdefault(owner, set()).add(node)
        self._count(before, now)
        known, here = self._since.pop(node, {}), now.reservations if now else ()
        if here:
            at = self._clock()
            self._since[node] = {e.id: known.get(e.id, at) for e in here if not is_move(e)}
        self._claims.pop(node, None)
        if claims := frozenset(each.id for each in here if is_claim(each)):
            self._claims[node] = claims
        self._moves.discard(node)
        if any(map(is_move, here)):
            self._moves.add(node)

    def _count(self, before: NodeView | None, now: NodeView | None) -> None:
        """Take what was counted of the view *before* from the totals, and add what is *now*."""
        if before is not None and now is not None and _in_force(before) == _in_force(now):
            return  # nearly always: a report about something else
        for owner in _planned_for(before):
            self._total[owner] -= 1
            if not self._total[owner]:
                del self._total[owner]
        self._total.update(_planned_for(now))

    def entries_of(self, owner: OwnerRef) -> int:
        """Return how many places the owner has in all plans, with a pod or held for one."""
        return self._total[owner]

    def nodes_of(self, owner: OwnerRef | None) -> frozenset[str]:
        """Return the nodes on which a place is held for the owner, or a device of its is kept."""
        return frozenset(self._nodes.get(owner, ())) if owner is not None else frozenset()

    @property
    def claimed(self) -> Collection[str]:
        """The nodes on which somebody waits for others to leave."""
        return self._claims.keys()

    @property
    def moving(self) -> Collection[str]:
        """The nodes on which something is held for an order of moves."""
        return self._moves

    def begin_anew(self, node: str, ids: Collection[str]) -> None:
        """Let the time of some of a node's reservations begin now."""
        if ids:
            now, since = self._clock(), self._since[node]
            self._since[node] = {id: now if id in ids else at for id, at in since.items()}

    def over(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Yield each node with the ids of its reservations whose time is over."""
        now = self._clock()
        for node, since in self._since.items():
            claims = self._claims.get(node, frozenset())
            ids = frozenset(
                id
                for id, at in since.items()
                if now - at >= (self._claims_last if id in claims else self.lasts)
            )
            if ids:
                yield node, ids

    def restated(self) -> Call:
        """Return what leads here once all plans are known."""
        return restoring(
            "Holds.restore", self.lasts, claims_last=self._claims_last, since=self._since.copy()
        )

    @restores
    def restore(
        self, lasts: float, claims_last: float, since: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Take in for how long holds last, and since when each was seen."""
        self.lasts, self._claims_last = lasts, claims_last
        self._since = {node: dict(here) for node, here in since.items()}


def _in_force(view: NodeView) -> tuple[Plan, frozenset[str]]:
    return view.node.spec, view.lapsed


def _planned_for(view: NodeView | None) -> Iterator[OwnerRef]:
    """Yield the owner of each place in a view's plan, as often as it has one."""
    for entry in view.in_force if view else ():
        if entry.owner is not None:
            yield entry.owner


def _owners(view: NodeView | None) -> Set[OwnerRef]:
    return frozenset() if view is None else view.held.keys() | view.keepers
