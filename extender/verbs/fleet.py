"""All nodes, and how they stand to each equivalence class of requests.

Requests that want the same are one *equivalence class*, whoever makes them: a cluster of thousands
of pods has a dozen. Rules of the policy make some more: for each tenant, and by what is left of its
caps where that is little. Whether and how well they fit a node rests on the node's view alone, so a
hook looks up each name it was sent, and judges only the nodes that have changed since. What the
ledger promises besides concerns few nodes; the hooks judge those by themselves.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from extender.packing.choose import Choice
from extender.policy.bounds import Bounds
from extender.request import Wanted
from extender.snapshot import NodeView
from extender.verbs.permitted import avoided
from extender.verbs.verdicts import UNREPORTED, Code, Fits, verdict

MOST_CLASSES = 64
"""How many are kept; tenants choose what they ask for, but not how much is remembered of it."""

KEPT_UP = 16
"""How many of these are judged as nodes change, those asked about last; the others when asked."""

Shape = Wanted | tuple[Wanted, Bounds]
"""What tells classes apart: what is wanted, and within which bounds where rules set any."""

_LAST = 1 << 60
"""More than any placement costs: values are sums in millionths over a GPU's profiles."""

Rank = tuple[int, int, int, str]
"""Cost, tie, fullness (negative), name: the least is the best node."""


class EquivalenceClass:
    """What is *wanted*, and how every node stands to it.

    ``refusals`` maps each node to the reason why it is refused, "" where the request fits;
    ``codes`` maps each reason to its code; ``order`` ranks the nodes where it fits, the best first.
    The *names* are those of the views, as the keys to be looked up.
    """

    def __init__(
        self,
        wanted: Wanted,
        views: Mapping[str, NodeView],
        names: Iterable[str] = (),
        bounds: Bounds | None = None,
    ) -> None:
        self.wanted = wanted
        self.bounds = bounds
        self.refusals: dict[str, str] = dict.fromkeys(names, "")
        self.codes: dict[str, Code] = {UNREPORTED.reason: UNREPORTED.code}
        self.order: list[Rank] = []
        self._ranks: dict[str, Rank] = {}
        self._views = views
        for name, view in views.items():
            self._judge(name, view)
        self.order = sorted(self._ranks.values())
        self._behind: set[str] = set()

    def changed(self, name: str) -> None:
        """Note that a node has come, changed or gone."""
        self._behind.add(name)

    def catch_up(self, *, most: int | None = None) -> bool:
        """Judge anew the nodes that have changed, at *most* so many; tell whether all are."""
        count = len(self._behind) if most is None else min(most, len(self._behind))
        for _ in range(count):
            name = self._behind.pop()
            former, view = self._ranks.pop(name, None), self._views.get(name)
            if view is None:
                self.refusals.pop(name, None)
            else:
                self._judge(name, view)
            self._move(former, self._ranks.get(name))
        return not self._behind

    def _move(self, former: Rank | None, latter: Rank | None) -> None:
        if former == latter:
            return
        if former is not None:
            del self.order[bisect_left(self.order, former)]
        if latter is not None:
            insort(self.order, latter)

    def _judge(self, name: str, view: NodeView) -> None:
        found = verdict(view, self.wanted, bounds=self.bounds)
        if isinstance(found, Fits):
            self.refusals[name] = ""
            last = avoided(view, self.wanted, self.bounds)
            self._ranks[name] = rank(view, found.choice, last=last)
        else:
            self.refusals[name] = found.reason
            self.codes[found.reason] = found.code


class Fleet:
    """The nodes' *views*, which others change, and the classes asked about of late."""

    def __init__(self, views: Mapping[str, NodeView]) -> None:
        self.views = views
        self._classes: OrderedDict[Shape, EquivalenceClass] = OrderedDict()
        self._names: dict[str, str] = {}

    def to(self, wanted: Wanted, bounds: Bounds | None = None) -> EquivalenceClass:
        """Return how the nodes stand to what is *wanted* within *bounds*, as of now."""
        shape = wanted if bounds is None else (wanted, bounds)
        known = self._classes.get(shape)
        if known is None:
            known = EquivalenceClass(wanted, self.views, self._side_by_side(), bounds)
            self._classes[shape] = known
            if len(self._classes) > MOST_CLASSES:
                self._classes.popitem(last=False)
        else:
            self._classes.move_to_end(shape)
            known.catch_up()
        return known

    def _side_by_side(self) -> Iterable[str]:
        """Return the views' names as strings that lie together in memory.

        Those that came with the nodes lie as far apart as the nodes: of thousands of look-ups each
        misses the processor's caches, and all take four times as long (measured).
        """
        if self._names.keys() != self.views.keys():
            copies = " ".join(self.views).split(" ")
            self._names = dict(zip(self.views, copies, strict=True)) if self.views else {}
        return self._names.values()

    def changed(self, name: str) -> None:
        """Note that a node has come, changed or gone."""
        for each in self._classes.values():
            each.changed(name)

    def begin_anew(self) -> None:
        """Forget all that was judged: by other rules, or by other values."""
        self._classes.clear()

    def catching_up(self, *, at_once: int) -> Iterator[None]:
        """Judge anew the changed nodes for each class in use, pausing after so many *at once*."""
        for each in tuple(islice(reversed(self._classes.values()), KEPT_UP)):
            while not each.catch_up(most=at_once):
                yield


def rank(view: NodeView, choice: Choice, *, last: bool = False) -> Rank:
    """Rank a node where the request fits; one that is to be the *last* comes behind all others."""
    cost = choice.cost + _LAST if last else choice.cost
    return cost, choice.tie, -view.fullness, view.name
