"""Mixes of demand: which profiles are asked for, and how often.

Four of the named mixes are those by which placement policies are compared in the literature
(uniform, skew-small, skew-big and bimodal: Zambianco et al., arXiv 2511.18906); the others are
ours. They are given by kind of profile and fitted to a model's profiles, so that every model can be
tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nodeagent.api.geometry import Geometry, Profile

KINDS = ("whole", "4g", "3g", "2g", "1g-double", "1g")
"""Kinds of profile that any model may have: the whole GPU, and parts by compute slices."""

NAMED: Mapping[str, tuple[float, ...]] = {  # weights by kind
    "uniform": (1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6),
    "skew-small": (0.05, 0.10, 0.10, 0.20, 0.25, 0.30),
    "skew-big": (0.30, 0.25, 0.20, 0.10, 0.10, 0.05),
    "bimodal": (0.30, 0.15, 0.05, 0.05, 0.15, 0.30),
    "very-small": (0.02, 0.03, 0.05, 0.25, 0.05, 0.60),
    "mid": (0.10, 0.05, 0.30, 0.20, 0.15, 0.20),
    "no-4g": (0.20, 0.00, 0.20, 0.30, 0.00, 0.30),
}

_TERM = re.compile(r"(?P<profile>[^=,\s]+)=(?P<weight>[0-9]*\.?[0-9]+)")


class UnknownMix(Exception):
    """The mix cannot be read, or names a profile the model does not have."""


def mix(text: str, geometry: Geometry, servable: frozenset[int]) -> dict[int, float]:
    """Return the share of each profile id, adding up to 1.

    *text* is a mix's name, or such as ``7g.80gb=.3,1g.10gb=.7``. Only *servable* profiles count: a
    vGPU host offers no type for some.

    Raises:
        UnknownMix: saying which names there are.
    """
    if text in NAMED:
        weights = dict(zip(KINDS, NAMED[text], strict=True))
        shares = {p.id: weights[kind] for p, kind in by_kind(geometry, servable)}
    else:
        shares = {}
        by_name = {p.name: p.id for p in geometry.profiles if p.id in servable}
        for name, weight in terms(text, tuple(by_name)):
            shares[by_name[name]] = shares.get(by_name[name], 0.0) + weight
    total = sum(shares.values())
    if total <= 0:
        raise UnknownMix(f"mix {text!r} asks for nothing that this model can serve")
    return {profile: share / total for profile, share in shares.items() if share > 0}


def by_kind(
    geometry: Geometry, servable: frozenset[int] | None = None
) -> Iterator[tuple[Profile, str]]:
    """Yield the profile standing for each kind; a kind the model lacks is left out.

    Only *servable* profile ids count, if they are given.
    """
    plain = [
        p for p in geometry.profiles if (servable is None or p.id in servable) and not p.limited
    ]
    smallest = min((p.size for p in plain), default=0)
    taken: set[str] = set()
    for profile in plain:
        if profile.size == geometry.memory_slices:
            kind = "whole"
        elif profile.compute_slices == 1:
            kind = "1g" if profile.size == smallest else "1g-double"
        else:
            kind = f"{profile.compute_slices}g"
        if kind in KINDS and kind not in taken:
            taken.add(kind)
            yield profile, kind


def terms(text: str, known: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Yield profile names and weights from such as ``7g.80gb=.3,1g.10gb=.7``.

    Raises:
        UnknownMix: if *text* reads differently, or names none of the *known* profiles.
    """
    for term in text.split(","):
        match = _TERM.fullmatch(term.strip())
        if match is None:
            raise UnknownMix(
                f"mix {text!r} is neither one of {', '.join(NAMED)} nor like 7g.80gb=.3,1g.10gb=.7"
            )
        if match["profile"] not in known:
            raise UnknownMix(
                f"mix {text!r}: no profile {match['profile']}; this model has {', '.join(known)}"
            )
        yield match["profile"], float(match["weight"])
