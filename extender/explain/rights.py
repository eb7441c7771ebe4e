"""What the policy's rules say to a pod's tenant: what it may use, has, and must leave free."""

from __future__ import annotations

from collections.abc import Iterator

from extender.explain.asked import Sizes
from extender.explain.explanation import Cap, KeptFree, Rights
from extender.explain.situation import Holdings, Situation
from extender.packing.headroom import room
from extender.policy.bounds import Terms
from extender.policy.rules import Tenant

MOST_HEADROOM = 8
"""Kinds of headroom told of: for each the room on all nodes is counted."""


def rights(situation: Situation, known: Sizes) -> Rights | None:
    """Return what the rules say; None where there are no rules."""
    bounds = situation.request.bounds
    if bounds is None:
        return None
    terms, tenant = bounds.terms, bounds.terms.tenant
    kept = tuple(_kept_free(situation, terms))
    if tenant is None:
        return Rights("", headroom=kept)
    ours = situation.ours or Holdings(0, {})
    return Rights(
        tenant.name,
        tenant.profiles,
        tenant.pools,
        tenant.dedicated or "",
        tuple(_caps(situation, tenant, ours, known)),
        kept,
    )


def _caps(situation: Situation, tenant: Tenant, ours: Holdings, known: Sizes) -> Iterator[Cap]:
    """Yield each cap, and whether what the pod asks for, at its smallest, is within it."""
    wanted = situation.request.wanted
    most = tenant.caps.memory_slices
    if most is not None:
        least = sum(min((size for _, size in known.get(each, ())), default=0) for each in wanted)
        yield Cap("", ours.slices, most, ours.slices + least <= most)
    for profile, count in tenant.caps.profiles.items():
        # Of a resource that other profiles serve as well, it may be given one of those.
        asked = sum({name for name, _ in known.get(each, ())} == {profile} for each in wanted)
        has = ours.profiles.get(profile, 0)
        yield Cap(profile, has, count, has + asked <= count)


def _kept_free(situation: Situation, terms: Terms) -> Iterator[KeptFree]:
    for kept in terms.kept[:MOST_HEADROOM]:
        free = sum(
            room(view.bins(situation.promised(view)), kept.profile)
            for view in situation.views.values()
            if view.takes_new and terms.rules.concerns(kept, view.labels)
        )
        yield KeptFree(kept.profile, kept.pool, kept.keep, free)
