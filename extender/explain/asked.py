"""What a pod asks for, in profiles and slices, and which other profiles would do for now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import takewhile

from extender.explain.explanation import Alternative, Amount, Asked
from extender.explain.situation import Situation
from extender.packing.choose import Choice, choose
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.permitted import forbidden
from extender.verbs.verdicts import Fits, judged, unsuitable

MOST_ALTERNATIVES = 6
"""Profiles looked at besides the one asked for: each is judged on every node."""

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


def alternatives(situation: Situation, known: Sizes) -> tuple[Alternative, ...]:
    """Return profiles no larger than the one asked for, as many of which fit somewhere now.

    Only for a pod that asks for one kind of thing; the largest profiles first.
    """
    wanted = situation.request.wanted
    if len(set(wanted)) != 1 or wanted[0] not in known:
        return ()
    found = []
    for resource, profile, size in _others(wanted[0], known)[:MOST_ALTERNATIVES]:
        instead = (resource,) * len(wanted)
        nodes = sum(_fits(situation, view, instead) for view in situation.views.values())
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


def _fits(situation: Situation, view: NodeView, wanted: tuple[str, ...]) -> bool:
    if not situation.is_candidate(view):
        return False
    if situation.request.bounds is None and not view.standing:
        # What judging comes to without rules, at half the price: there are thousands of nodes.
        if unsuitable(view, wanted) is not None:
            return False
        bins = view.bins(situation.promised(view), leaving=situation.own(view))
        return isinstance(choose(bins, wanted, spread=situation.request.spread), Choice)
    bounds = situation.bounds(view)
    if bounds is not None and forbidden(view, wanted, bounds) is not None:
        return False
    promised, own = situation.promised(view), situation.own(view)
    return isinstance(judged(view, wanted, promised, own, bounds, situation.request.spread), Fits)
