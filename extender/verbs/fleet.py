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
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice

from extender.packing.choose import Choice
from extender.packing.spread import Spread
from extender.policy.bounds import Bounds
from extender.request import Wanted
from extender.snapshot import NodeView
from extender.verbs.alike import alike
from extender.verbs.permitted import avoided
from extender.verbs.verdicts import UNREPORTED, Code, Fits, verdict

MOST_CLASSES = 64
"""How many are kept; tenants choose what they ask for, but not how much is remembered of it."""

KEPT_UP = 16
"""How many of these are judged as nodes change, those asked about last; the others when asked."""

Shape = Wanted | tuple[Wanted, Bounds | None, Spread]
"""What tells classes apart: what is wanted, within which bounds, and how it is to lie on GPUs.

What is wanted alone, as of most, where nothing else is said.
"""

_LAST = 1 << 60
"""More than any placement costs: values are sums in millionths over a GPU's profiles."""

FEW = 64
"""Nodes that are judged in a millisecond: whoever asks about all has these judged at once."""

Rank = tuple[int, int, int, str]
"""Cost, tie (precedence, negative), fullness (negative), name: the least is the best node."""


class EquivalenceClass:
    """What is *wanted*, and how every node stands to it once it has been judged.

    ``refusals`` maps each node to the reason why it is refused, "" where the request fits;
    ``codes`` maps each reason to its code; ``order`` ranks the nodes where it fits, the best first;
    ``behind`` are the nodes that have changed since.
    The *names* are those of the views, as the keys to be looked up.
    """

    def __init__(
        self,
        wanted: Wanted,
        views: Mapping[str, NodeView],
        names: Iterable[str] = (),
        bounds: Bounds | None = None,
        spread: Spread = Spread.ANY,
    ) -> None:
        self.wanted = wanted
        self.bounds = bounds
        self.spread = spread
        self.refusals: dict[str, str] = dict.fromkeys(names, "")
        self.codes: dict[str, Code] = {UNREPORTED.reason: UNREPORTED.code}
        self.order: list[Rank] = []
        self._ranks: dict[str, Rank] = {}
        self._views = views
        self.behind = set(views)

    def changed(self, name: str) -> None:
        """Note that a node has come, changed or gone."""
        self.behind.add(name)

    def catch_up(self, among: Collection[str] | None = None) -> None:
        """Judge the nodes that have changed, of many names only those *among* some of them.

        A node costs as much as to look up hundreds of names, and of what has changed a sample of
        the nodes has little. Where all are asked about, all are judged: few at least.
        """
        if among is not None and (len(among) < len(self._views) or len(self.behind) > FEW):
            behind = self.behind.intersection(among)
            self.behind -= behind
        else:
            behind, self.behind = self.behind, set()
        if len(behind) <= FEW:
            for name in behind:
                self._move(self._ranks.pop(name, None), self._judge(name))
        else:  # to put them in order and merge is quicker then than to put each in its place
            for name in behind:
                self._ranks.pop(name, None)
            judged = sorted(each for each in map(self._judge, behind) if each is not None)
            self.order = sorted([each for each in self.order if each[-1] not in behind] + judged)

    def catch_up_some(self, *, most: int) -> bool:
        """Judge at *most* so many of the nodes that have changed; tell whether these were all."""
        for _ in range(min(most, len(self.behind))):
            name = self.behind.pop()
            self._move(self._ranks.pop(name, None), self._judge(name))
        return not self.behind

    def _move(self, former: Rank | None, latter: Rank | None) -> None:
        if former == latter:
            return
        if former is not None:
            del self.order[bisect_left(self.order, former)]
        if latter is not None:
            insort(self.order, latter)

    def _judge(self, name: str) -> Rank | None:
        """Judge a node anew, and return its rank, None where the request does not fit."""
        view = self._views.get(name)
        if view is None:
            self.refusals.pop(name, None)
            return None
        found = verdict(view, self.wanted, bounds=self.bounds, spread=self.spread)
        if isinstance(found, Fits):
            self.refusals[name] = ""
            last = avoided(view, self.wanted, self.bounds)
            self._ranks[name] = ranked = rank(view, found.choice, last=last)
            return ranked
        self.refusals[name] = found.reason
        self.codes[found.reason] = found.code
        return None


class Fleet:
    """The nodes' *views*, which others change, and the *classes*; last those asked about last."""

    def __init__(self, views: Mapping[str, NodeView]) -> None:
        self.views = views
        self.classes: OrderedDict[Shape, EquivalenceClass] = OrderedDict()
        self._names: dict[str, str] = {}
        self._all = frozenset[str]()
        self._offers_unread = set(views)

    def to(
        self,
        wanted: Wanted,
        bounds: Bounds | None = None,
        spread: Spread = Spread.ANY,
        *,
        among: Collection[str] | None = None,
    ) -> EquivalenceClass:
        """Return how nodes stand to what is *wanted* within *bounds*, so *spread*, as of now.

        All of them, or at least those *among* the names.
        """
        shape = _shape(wanted, bounds, spread)
        known = self.classes.get(shape) or self._begun(wanted, bounds, spread)
        self.classes.move_to_end(shape)
        known.catch_up(among)
        return known

    def _begun(
        self, wanted: Wanted, bounds: Bounds | None = None, spread: Spread = Spread.ANY
    ) -> EquivalenceClass:
        begun = EquivalenceClass(wanted, self.views, self._side_by_side(), bounds, spread)
        self.classes[_shape(wanted, bounds, spread)] = begun
        if len(self.classes) > MOST_CLASSES:
            self.classes.popitem(last=False)
        return begun

    @property
    def names(self) -> frozenset[str]:
        """The names of all nodes: the same object for as long as none comes or goes."""
        if len(self._all) != len(self.views):
            self._all = frozenset(self._side_by_side())
        return self._all

    def _side_by_side(self) -> Iterable[str]:
        """Return the views' names as strings that lie together in memory.

        Those that came with the nodes lie as far apart as the nodes: of thousands of look-ups each
        misses the processor's caches, and all take four times as long (measured).
        """
        if self._names.keys() != self.views.keys():
            copies = " ".join(self.views).split(" ")
            self._names = dict(zip(self.views, copies, strict=True)) if self.views else {}
        return self._names.values()

    def changed(self, name: str, before: NodeView | None = None) -> None:
        """Note that a node has come, changed or gone; *before* is how it was, where that is known.

        What was judged stays where that shows that nothing has changed which anybody asks about.
        """
        self._offers_unread.add(name)
        now = self.views.get(name)
        if (name in self._all) is (now is None):
            self._all = frozenset()
        if before is not None and now is not None:
            ruled = any(each.bounds is not None for each in self.classes.values())
            if alike(before, now, ruled=ruled):
                return
        for each in self.classes.values():
            each.changed(name)

    def begin_anew(self) -> None:
        """Forget all that was judged: by other rules, or by other values."""
        self.classes.clear()
        self._offers_unread.update(self.views)

    def catching_up(self, *, at_once: int) -> Iterator[None]:
        """Judge the changed nodes for each class in use, pausing after so many *at once*.

        Then for what nodes offer and nobody has asked for yet.
        """
        yield from self._judging(at_once)
        while self._offers_unread:
            for _ in range(min(at_once, len(self._offers_unread))):
                view = self.views.get(self._offers_unread.pop())
                if view is not None:
                    self._foresee(view.offered)
            yield
        yield from self._judging(at_once)

    def _judging(self, at_once: int) -> Iterator[None]:
        for each in tuple(islice(reversed(self.classes.values()), KEPT_UP)):
            while each.behind and not each.catch_up_some(most=at_once):
                yield

    def _foresee(self, offered: Iterable[str]) -> None:
        """Begin the classes of single resources, while there is room for them.

        Most pods ask for one. The first of them would wait until every node is judged.
        """
        for resource in offered:
            if len(self.classes) < KEPT_UP and (resource,) not in self.classes:
                self._begun((resource,))
                self.classes.move_to_end((resource,), last=False)


def _shape(wanted: Wanted, bounds: Bounds | None, spread: Spread) -> Shape:
    return wanted if bounds is None and spread is Spread.ANY else (wanted, bounds, spread)


def cost_of(found: Rank) -> int:
    """Return what a place costs, whether or not its node is to be the last taken."""
    cost = found[0]
    return cost - _LAST if cost > _LAST // 2 else cost


def rank(view: NodeView, choice: Choice, *, last: bool = False) -> Rank:
    """Rank a node where the request fits; one that is to be the *last* comes behind all others."""
    cost = choice.cost + _LAST if last else choice.cost
    return cost, choice.tie, -view.fullness, view.name
