"""Whether a request fits a node, and if not, why."""

from __future__ import annotations

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice, Infeasible, choose
from extender.packing.spread import Spread
from extender.policy.bounds import Bounds
from extender.request import Request, Wanted
from extender.snapshot import NodeView, Taken
from extender.verbs.permitted import bounds_among, forbidden, not_as_it_stands, within
from extender.verbs.reasons import Code as Code
from extender.verbs.reasons import Fits as Fits
from extender.verbs.reasons import Refused as Refused
from extender.verbs.reasons import Verdict as Verdict
from extender.verbs.reasons import no_room
from extender.verbs.standing import besides, standing_for_anybody, together
from nodeagent.api import keys
from nodeagent.api.gpunode import Layout

_MEMO_LIMIT = 256  # shapes remembered for each state of a node; tenants name few resources


def verdict(
    view: NodeView,
    wanted: Wanted,
    promised: tuple[Taken, ...] = (),
    own: tuple[Taken, ...] = (),
    bounds: Bounds | None = None,
    spread: Spread = Spread.ANY,
    presumed: tuple[Taken, ...] = (),
) -> Verdict:
    """Judge what is *wanted* on a node on which *promised* slices are taken besides.

    What is the pod's *own*, kept there for its owner alone, is free to it; *bounds* are what the
    policy's rules leave it; *spread* is how what it gets is to lie on the GPUs. What is *presumed*
    for others is avoided, but it excuses no loss of headroom: it may come to nothing.
    """
    key = (wanted, promised, own, bounds, spread, presumed)
    known = view.memo.get(key)
    if known is None:
        if len(view.memo) >= _MEMO_LIMIT:
            view.memo.clear()
        known = view.memo[key] = judged(view, wanted, promised, own, bounds, spread, presumed)
    assert isinstance(known, Fits | Refused)
    return known


def unsuitable(view: NodeView, wanted: Wanted) -> Refused | None:
    """Return why a node cannot serve *wanted* whatever room it has, None if it can."""
    if not view.reported:
        return UNREPORTED
    if view.stale:
        return Refused(Code.STALE, "vGPU: the node's agent does not report")
    if view.cordoned:
        return Refused(Code.CORDONED, "vGPU: the node is cordoned")
    if view.rival is not None:
        return Refused(
            Code.RIVAL,
            f"vGPU: {view.rival.name} owns the node's GPUs, {view.rival.remedy}",
        )
    if view.failing:
        return Refused(
            Code.AGENT_FAILING, "vGPU: the node's agent keeps failing to create GPU instances"
        )
    if view.unsettled:
        return Refused(
            Code.UNSETTLED, "vGPU: the node's agent has yet to answer for the plan found there"
        )
    if not view.usable:
        return _why_unusable(view)
    for resource in wanted:
        if resource not in view.offered:
            return Refused(Code.UNKNOWN_RESOURCE, f"vGPU: no GPU here offers {resource}")
        if resource in view.node.status.rivals:
            return Refused(
                Code.RIVAL,
                f"vGPU: another device plugin advertises {resource} on the node, remove it there",
            )
        if resource not in view.obtainable:
            return Refused(
                Code.FOREIGN_INSTANCE,
                f"vGPU: a free GPU instance that Tangram did not create would take {resource},"
                " remove it",
            )
    return None


def judged(
    view: NodeView,
    wanted: Wanted,
    promised: tuple[Taken, ...],
    own: tuple[Taken, ...],
    bounds: Bounds | None,
    spread: Spread,
    presumed: tuple[Taken, ...] = (),
) -> Verdict:
    """Judge as :func:`verdict` does, and remember nothing of it."""
    standing = standing_for_anybody(view, wanted, promised + presumed)
    made = besides(wanted, standing) if standing else wanted
    why_not = unsuitable(view, made) if made else None
    if why_not is None and bounds is not None:
        why_not = forbidden(view, wanted, bounds) or not_as_it_stands(view, standing, bounds)
    if why_not is not None:
        return why_not
    lying = [each.uuid for each in standing]
    if lying and not spread.allows(lying):
        return no_room(wanted, spread)
    if not made:
        return together(standing)
    bins = view.bins(promised + presumed, leaving=own)
    if lying:
        bins = tuple(bin for bin in bins if spread.allows((*lying, bin.uuid)))
    if bounds is not None:
        certain = view.bins(promised, leaving=own) if presumed and bounds.spare else bins
        return within(view, bins, made, bounds, standing, spread, certain=certain)
    match choose(bins, made, spread):
        case Choice() as choice:
            return together(standing, choice) if standing else Fits(choice)
        case Infeasible():
            return no_room(made, spread)


class Best(msgspec.Struct, frozen=True):
    """The verdict on a node; ``contested`` if it takes what is presumed for another pod."""

    verdict: Verdict
    contested: bool = False


def best(view: NodeView, ledger: Ledger, request: Request) -> Best:
    """Judge *request* on a node, avoiding what is presumed for others where that is possible."""
    assumed = ledger.assumed_on(view.name, besides=request.pod.uid)
    presumed = ledger.presumed_on(view.name, besides=request.pod.uid)
    own = view.kept_for(request.owner)
    bounds = bounds_among(request, ledger, view.name, presumed=True)
    spread = request.spread
    undisturbed = verdict(view, request.wanted, assumed, own, bounds, spread, presumed)
    if isinstance(undisturbed, Fits) or not presumed:
        return Best(undisturbed)
    bounds = bounds_among(request, ledger, view.name)
    return Best(verdict(view, request.wanted, assumed, own, bounds, spread), contested=True)


PLANNING = Refused(Code.PLANNING, "vGPU: being placed together with the pods that came with it")
GANG_INCOMPLETE = Refused(Code.GANG_INCOMPLETE, "vGPU: waiting for the rest of the gang")
GANG_NO_ROOM = Refused(Code.GANG_NO_ROOM, "vGPU: no free placement for the whole gang")
GANG_MALFORMED = Refused(
    Code.GANG_MALFORMED, "vGPU: tangram.dev/gang-size differs among the pods of the gang"
)

UNREPORTED = Refused(Code.NO_INVENTORY, "vGPU: the node reports no GPU inventory")


def gang_over_cap(tenant: str, of: str) -> Refused:
    """Refuse a gang that takes its *tenant* beyond a cap: *of* memory slices, or a profile."""
    return Refused(Code.OVER_CAP, f"vGPU: the whole gang is beyond tenant {tenant}'s cap of {of}")


def _why_unusable(view: NodeView) -> Refused:
    listed = view.node.status.gpus
    managed = [gpu for gpu in listed if gpu.layout is not Layout.UNMANAGED]
    if listed and not managed:
        return Refused(
            Code.UNMANAGED,
            f"vGPU: the node's GPUs are not Tangram's to use ({keys.GPUS_ANNOTATION} of its"
            " GpuNode chooses them)",
        )
    gpus = [gpu for gpu in managed if gpu.mig_enabled]
    if any(gpu.unhealthy for gpu in gpus):
        return Refused(Code.UNHEALTHY, "vGPU: the node's GPUs are not healthy")
    if any(gpu.layout is Layout.STATIC for gpu in gpus):
        return Refused(Code.STATIC_LAYOUT, "vGPU: the layout of the node's GPUs is static")
    if managed and not gpus:
        return Refused(Code.MIG_DISABLED, "vGPU: MIG mode is off on the node's GPUs")
    return UNREPORTED
