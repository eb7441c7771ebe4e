"""What the rules of the policy allow on a node: pools, profiles, sharing, caps, headroom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from extender.ledger import Ledger
from extender.occupants import occupants
from extender.packing.choose import Bin, Choice, Infeasible, Placed, choose
from extender.packing.headroom import frugal, lost
from extender.packing.spread import Spread
from extender.policy.bounds import Bounds
from extender.policy.rules import Apart
from extender.request import Request, Wanted
from extender.snapshot import NodeView
from extender.verbs.reasons import Code, Refused, Verdict, no_room
from extender.verbs.standing import together

NODE_NOT_SHARED = Refused(
    Code.NOT_SHARED, "vGPU: the node is another tenant's, and they do not share nodes"
)
GPUS_NOT_SHARED = Refused(
    Code.NOT_SHARED, "vGPU: what is free is on other tenants' GPUs, and they do not share GPUs"
)


def bounds_among(
    request: Request, ledger: Ledger, node: str, *, presumed: bool = False
) -> Bounds | None:
    """Return a request's bounds beside what others are promised on a node."""
    bounds = request.bounds
    if bounds is None or not bounds.terms.isolating:
        return bounds
    beside = ledger.beside(node, besides=request.pod.uid, presumed=presumed)
    return msgspec.structs.replace(bounds, beside=beside) if beside else bounds


def forbidden(view: NodeView, wanted: Wanted, bounds: Bounds) -> Refused | None:
    """Return why the rules keep a request from a node, whatever room it has."""
    terms = bounds.terms
    tenant, pool = terms.tenant, terms.rules.pool_of(view.labels)
    if tenant is not None and tenant.pools and (pool is None or pool.name not in tenant.pools):
        return Refused(
            Code.POOL_NOT_ALLOWED, f"vGPU: tenant {tenant.name} may not use the node's pool"
        )
    for profile in (view.profile_of(resource) for resource in wanted):
        if tenant is not None and tenant.profiles and profile not in tenant.profiles:
            text = f"vGPU: tenant {tenant.name} may not use {profile}"
            return Refused(Code.PROFILE_NOT_ALLOWED, text)
        if pool is not None and pool.profiles and profile not in pool.profiles:
            text = f"vGPU: pool {pool.name} does not serve {profile}"
            return Refused(Code.NOT_IN_POOL, text)
    if terms.isolating and any(
        terms.apart(namespace) is Apart.NODE for _, namespace in _there(view, bounds)
    ):
        return NODE_NOT_SHARED
    return None


def shut(view: NodeView, bounds: Bounds) -> frozenset[str]:
    """Return the GPUs that are not to be shared with whom they are used by."""
    if not bounds.terms.isolating:
        return frozenset()
    apart = bounds.terms.apart
    return frozenset(
        gpu for gpu, whose in _there(view, bounds) if apart(whose) is not Apart.NOTHING
    )


def not_as_it_stands(view: NodeView, standing: Sequence[Placed], bounds: Bounds) -> Refused | None:
    """Return why the rules do not allow devices that stand there already; None if they do.

    They take no room from anybody, so no headroom is lost.
    """
    if not shut(view, bounds).isdisjoint(each.uuid for each in standing):
        return GPUS_NOT_SHARED
    return _over_cap(view, standing, bounds)


def within(
    view: NodeView,
    bins: Sequence[Bin],
    wanted: Wanted,
    bounds: Bounds,
    standing: tuple[Placed, ...] = (),
    spread: Spread = Spread.ANY,
    *,
    certain: Sequence[Bin] | None = None,
) -> Verdict:
    """Choose the best places that the rules allow on the *bins* of a node that is not forbidden.

    Besides what is *standing* there for the same request. The *certain* bins are the same ones
    with less on them, where some of what the *bins* hold is only presumed: whoever it is presumed
    for may never come, so that is where headroom is counted.
    """
    found = _chosen(view, bins, wanted, bounds, standing, spread, certain or bins)
    return together(standing, found) if isinstance(found, Choice) else found


def _chosen(
    view: NodeView,
    bins: Sequence[Bin],
    wanted: Wanted,
    bounds: Bounds,
    standing: tuple[Placed, ...],
    spread: Spread,
    certain: Sequence[Bin],
) -> Choice | Refused:
    closed = shut(view, bounds)
    usable = tuple(bin for bin in bins if bin.uuid not in closed) if closed else bins
    match choose(usable, wanted, spread):
        case Infeasible():
            elsewhere = closed and isinstance(choose(bins, wanted, spread), Choice)
            return GPUS_NOT_SHARED if elsewhere else no_room(wanted, spread)
        case Choice() as choice:
            over = _over_cap(view, (*standing, *choice.placed), bounds)
            if over is not None:
                return over
            costly = _costs_headroom(view, certain, choice.placed, bounds)
            if costly is None:
                return choice
            # One instance may go elsewhere on the node; of several, no other arrangement is tried.
            limits = tuple(_limits(view, bounds))
            cheaper = frugal(usable, wanted[0], limits, certain) if len(wanted) == 1 else costly
            return cheaper if isinstance(cheaper, Choice) else costly


def objection(
    view: NodeView, bins: Sequence[Bin], placed: Sequence[Placed], bounds: Bounds
) -> Refused | None:
    """Return why the rules do not allow these very places; None if they do."""
    why_not = forbidden(view, tuple(each.wanted for each in placed), bounds)
    if why_not is not None:
        return why_not
    if not shut(view, bounds).isdisjoint(each.uuid for each in placed):
        return GPUS_NOT_SHARED
    return _over_cap(view, placed, bounds) or _costs_headroom(view, bins, placed, bounds)


def avoided(view: NodeView, wanted: Wanted, bounds: Bounds | None) -> bool:
    """Tell whether a node is to be taken only where no other will do."""
    if bounds is None:
        return False
    return any(
        rule.nodes.matches(view.labels)
        and (not rule.tenants or bounds.terms.name in rule.tenants)
        and (not rule.profiles or any(view.profile_of(each) in rule.profiles for each in wanted))
        for rule in bounds.terms.rules.avoid
    )


def _there(view: NodeView, bounds: Bounds) -> frozenset[tuple[str, str]]:
    return occupants(view) | bounds.beside


def _over_cap(view: NodeView, placed: Sequence[Placed], bounds: Bounds) -> Refused | None:
    name = bounds.terms.name
    if bounds.slices is not None and sum(each.placement.size for each in placed) > bounds.slices:
        return Refused(Code.OVER_CAP, f"vGPU: tenant {name} is at its cap of memory slices")
    profiles = [view.profile_named(each.uuid, each.profile_id) for each in placed]
    for profile, left in bounds.counts:
        if profiles.count(profile) > left:
            return Refused(Code.OVER_CAP, f"vGPU: tenant {name} is at its cap of {profile}")
    return None


def _limits(view: NodeView, bounds: Bounds) -> Iterator[tuple[str, int]]:
    """Yield the headroom kept in the node's pool, and how much less of each there may be."""
    for kept, spare in zip(bounds.terms.kept, bounds.spare, strict=True):
        if bounds.terms.rules.concerns(kept, view.labels):
            yield kept.profile, spare


def _costs_headroom(
    view: NodeView, bins: Sequence[Bin], placed: Sequence[Placed], bounds: Bounds
) -> Refused | None:
    for profile, spare in _limits(view, bounds):
        if lost(bins, placed, profile) > spare:
            return Refused(Code.HEADROOM, f"vGPU: what is free is kept for {profile}")
    return None
