"""What a pod asks for, in profiles and slices, and which other profiles would do for now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile

from extender.explain.census import Census
from extender.explain.explanation import Alternative, Amount, Asked
from extender.explain.situation import Judged, Situation
from extender.policy.bounds import Bounds
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.permitted import forbidden
from extender.verbs.verdicts import Fits, judged

MOST_ALTERNATIVES = 6
"""Profiles looked at besides the one asked for."""

MOST_NEAREST = 3
"""Names told of that are like one that no GPU serves."""

Sizes = Mapping[str, frozenset[tuple[str, int]]]
"""By resource: the profiles that serve it somewhere, and their memory slices."""


def sizes(views: Iterable[NodeView]) -> Sizes:
    """Return what each resource may come to on these nodes; nodes of a kind are read once."""
    kinds = {view.kind: view for view in views if view.reported}
    found: dict[str, set[tuple[str, int]]] = {}
    for view in kinds.values():
        for resource, profile, size in view.sizes:
            found.setdefault(resource, set()).add((profile, size))
    return {resource: frozenset(each) for resource, each in found.items()}


def asked(request: Request, known: Sizes) -> Asked:
    """Return a request in words and numbers."""
    amounts = []
    for resource, count in Counter(request.wanted).items():
        profiles = sorted(known.get(resource, ()), key=lambda each: (each[1], each[0]))
        least = profiles[0][1] if profiles else 0
        nearest = () if profiles else tuple(get_close_matches(resource, known, n=MOST_NEAREST))
        names = tuple(name for name, _ in profiles)
        amounts.append(Amount(resource, count, names, least, nearest))
    owner = request.owner
    return Asked(
        tuple(amounts),
        sum(each.count * each.slices for each in amounts),
        request.priority,
        "" if request.gang is None else request.gang.name,
        "" if owner is None else f"{owner.kind} {owner.name}",
    )


def alternatives(
    situation: Situation, known: Sizes, judged: Sequence[Judged], census: Census
) -> tuple[Alternative, ...]:
    """Return profiles no larger than the one asked for, as many of which fit somewhere now.

    Only for a pod that asks for one kind of thing; the largest profiles first.
    """
    wanted = situation.request.wanted
    if len(set(wanted)) != 1 or wanted[0] not in known:
        return ()
    # Where devices stand for whoever comes, it is more than room that counts.
    standing = [each.view for each in judged if each.view.standing and each.candidate]
    found = []
    for resource, profile, size in _others(wanted[0], known)[:MOST_ALTERNATIVES]:
        instead = (resource,) * len(wanted)
        nodes = _fitting(situation, census, instead)
        nodes += sum(_fits(situation, view, instead) for view in standing)
        if nodes:
            found.append(Alternative(resource, profile, size, nodes))
    return tuple(found)


def _others(wanted: str, known: Sizes) -> list[tuple[str, str, int]]:
    """Return a resource for each other profile, with the profile and its slices, largest first.

    Of resources with the same profile, the one whose name is most like that of what is wanted: of
    vGPU types, one of the same board and series.
    """
    own = known[wanted]
    most = max(size for _, size in own)
    best: dict[tuple[str, int], tuple[int, str]] = {}
    for resource, profiles in known.items():
        for profile, size in profiles - own:
            if size <= most:
                likeness = (-_likeness(resource, wanted), resource)
                best[profile, size] = min(best.get((profile, size), likeness), likeness)
    ordered = sorted(best, key=lambda each: (-each[1], each[0]))
    return [(best[profile, size][1], profile, size) for profile, size in ordered]


def _likeness(one: str, other: str) -> int:
    return _alike(one, other) + _alike(one[::-1], other[::-1])


def _alike(one: str, other: str) -> int:
    """Return how many characters two names begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _fitting(situation: Situation, census: Census, wanted: tuple[str, ...]) -> int:
    """Return on how many nodes so many of one resource would fit now, as filter would judge it.

    Of nodes where nothing stands for whoever comes.
    """
    by_room = census.takes(wanted[0], len(wanted), situation.request.spread)
    there = [view for view in by_room if not view.standing]
    if situation.request.bounds is None:
        return len(there)
    allowed = _Allowed(situation, situation.request.bounds, wanted)
    return sum(map(allowed.on, there))


class _Allowed:
    """Tells on which nodes with room for it the rules would let a pod have what is *wanted*.

    Rules that look at what is on a node, or count what is taken, are asked anew for each.
    """

    def __init__(self, situation: Situation, bounds: Bounds, wanted: tuple[str, ...]) -> None:
        self._situation = situation
        self._bounds = bounds
        self._wanted = wanted
        counting = bounds.slices is not None or bounds.counts or bounds.terms.kept
        self._by_kind = not counting and not bounds.terms.isolating
        self._known: dict[object, bool] = {}

    def on(self, view: NodeView) -> bool:
        """Tell whether the rules would let it be on a node."""
        if not self._by_kind:
            return _fits(self._situation, view, self._wanted)
        key = (view.kind, frozenset(view.labels.items()))
        known = self._known.get(key)
        if known is None:
            known = forbidden(view, self._wanted, self._bounds) is None
            self._known[key] = known
        return known


def _fits(situation: Situation, view: NodeView, wanted: tuple[str, ...]) -> bool:
    bounds, spread = situation.bounds(view), situation.request.spread
    promised, own = situation.promised(view), situation.own(view)
    return isinstance(judged(view, wanted, promised, own, bounds, spread), Fits)
