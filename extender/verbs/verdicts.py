"""Whether a request fits a node, and if not, why.

Texts are for the person reading ``kubectl describe pod``. They are few and stable: no counts, times
or node names, for a text that varies between attempts makes kube-scheduler retry without end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice, Infeasible, Placed, choose
from extender.request import Request, Wanted
from extender.snapshot import NodeView, Standing, Taken
from nodeagent.api import keys
from nodeagent.api.gpunode import Layout


class Code(StrEnum):
    """Why a node is refused; stable, for metrics and for programs."""

    NO_ROOM = "no-room"
    UNKNOWN_RESOURCE = "unknown-resource"
    NO_INVENTORY = "no-inventory"
    STALE = "stale"
    CORDONED = "cordoned"
    AGENT_FAILING = "agent-failing"
    MIG_DISABLED = "mig-disabled"
    UNHEALTHY = "unhealthy"
    STATIC_LAYOUT = "static-layout"
    UNMANAGED = "unmanaged"
    RIVAL = "rival"
    FOREIGN_INSTANCE = "foreign-instance"
    RESERVED_ELSEWHERE = "reserved-elsewhere"
    PLANNING = "planning"
    GANG_INCOMPLETE = "gang-incomplete"
    GANG_NO_ROOM = "gang-no-room"
    GANG_MALFORMED = "gang-malformed"


class Fits(msgspec.Struct, frozen=True, gc=False):
    """The request fits, best so."""

    choice: Choice


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The request does not fit; evicting somebody would help only where ``code`` is no-room."""

    code: Code
    reason: str


Verdict = Fits | Refused

SPENDS_NOTHING = -(2**53)
"""What a device costs that stands there already: less than any that is to be made."""

_MEMO_LIMIT = 256  # shapes remembered for each state of a node; tenants name few resources


def verdict(
    view: NodeView,
    wanted: Wanted,
    promised: tuple[Taken, ...] = (),
    own: tuple[Taken, ...] = (),
) -> Verdict:
    """Judge what is *wanted* on a node on which *promised* slices are taken besides.

    What is the pod's *own*, kept there for its owner alone, is free to it.
    """
    key = (wanted, promised, own)
    known = view.memo.get(key)
    if known is None:
        if len(view.memo) >= _MEMO_LIMIT:
            view.memo.clear()
        known = view.memo[key] = _judged(view, wanted, promised, own)
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
    if view.failing:
        return Refused(
            Code.AGENT_FAILING, "vGPU: the node's agent keeps failing to create GPU instances"
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


def _judged(
    view: NodeView, wanted: Wanted, promised: tuple[Taken, ...], own: tuple[Taken, ...]
) -> Verdict:
    standing = _standing(view, wanted, promised) if view.standing else ()
    if standing:
        return _with_standing(view, wanted, standing, promised, own)
    why_not = unsuitable(view, wanted)
    if why_not is not None:
        return why_not
    match choose(view.bins(promised, leaving=own), wanted):
        case Choice() as choice:
            return Fits(choice)
        case Infeasible():
            return Refused(Code.NO_ROOM, f"vGPU: no free placement for {_together(wanted)}")


def _standing(view: NodeView, wanted: Wanted, promised: tuple[Taken, ...]) -> tuple[Placed, ...]:
    """Return devices that stand there for what is *wanted*, as far as there are any.

    The kubelet would give them to the pod whatever else were made for it.
    """
    if not view.takes_new:
        return ()
    left, placed = list(view.standing_for(None, promised)), []
    for resource in wanted:
        found = next((each for each in left if each.resource == resource), None)
        if found is not None:
            left.remove(found)
            placed.append(placed_at(found))
    return tuple(placed)


def placed_at(standing: Standing) -> Placed:
    """Return the place of a device that stands there."""
    taken = standing.taken
    return Placed(standing.resource, standing.index, taken.gpu, taken.profile_id, taken.placement)


def _with_standing(
    view: NodeView,
    wanted: Wanted,
    standing: tuple[Placed, ...],
    promised: tuple[Taken, ...],
    own: tuple[Taken, ...],
) -> Verdict:
    """Judge what is *wanted* besides the devices that stand there."""
    rest = tuple(sorted((Counter(wanted) - Counter(each.wanted for each in standing)).elements()))
    if not rest:
        return Fits(Choice(SPENDS_NOTHING, 0, standing))
    why_not = unsuitable(view, rest)
    if why_not is not None:
        return why_not
    match choose(view.bins(promised, leaving=own), rest):
        case Choice(cost=cost, tie=tie, placed=placed):
            return Fits(Choice(cost, tie, (*standing, *placed)))
        case Infeasible():
            return Refused(Code.NO_ROOM, f"vGPU: no free placement for {_together(wanted)}")


def _together(wanted: Sequence[str]) -> str:
    """Say what is asked for, so that the same request always reads the same."""
    return " together with ".join(
        name if count == 1 else f"{count} x {name}" for name, count in Counter(wanted).items()
    )


class Best(msgspec.Struct, frozen=True):
    """The verdict on a node; ``contested`` if it takes what is presumed for another pod."""

    verdict: Verdict
    contested: bool = False


def best(view: NodeView, ledger: Ledger, request: Request) -> Best:
    """Judge *request* on a node, avoiding what is presumed for others where that is possible."""
    assumed = ledger.assumed_on(view.name, besides=request.pod.uid)
    presumed = ledger.presumed_on(view.name, besides=request.pod.uid)
    own = view.kept_for(request.owner)
    undisturbed = verdict(view, request.wanted, assumed + presumed, own)
    if isinstance(undisturbed, Fits) or not presumed:
        return Best(undisturbed)
    return Best(verdict(view, request.wanted, assumed, own), contested=True)


PLANNING = Refused(Code.PLANNING, "vGPU: being placed together with the pods that came with it")
GANG_INCOMPLETE = Refused(Code.GANG_INCOMPLETE, "vGPU: waiting for the rest of the gang")
GANG_NO_ROOM = Refused(Code.GANG_NO_ROOM, "vGPU: no free placement for the whole gang")
GANG_MALFORMED = Refused(
    Code.GANG_MALFORMED, "vGPU: tangram.dev/gang-size differs among the pods of the gang"
)

UNREPORTED = Refused(Code.NO_INVENTORY, "vGPU: the node reports no GPU inventory")


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
