"""Whether a request fits a node, and if not, why.

Texts are for the person reading ``kubectl describe pod``. They are few and stable: no counts, times
or node names, for a text that varies between attempts makes kube-scheduler retry without end.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice, choose
from extender.request import Request
from extender.snapshot import NodeView, Taken


class Code(StrEnum):
    """Why a node is refused; stable, for metrics and for programs."""

    NO_ROOM = "no-room"
    UNKNOWN_RESOURCE = "unknown-resource"
    NO_INVENTORY = "no-inventory"
    STALE = "stale"
    CORDONED = "cordoned"
    MIG_DISABLED = "mig-disabled"
    UNHEALTHY = "unhealthy"
    RESERVED_ELSEWHERE = "reserved-elsewhere"
    UNANSWERABLE = "unanswerable"


class Fits(msgspec.Struct, frozen=True):
    """The request fits, best so."""

    choice: Choice


class Refused(msgspec.Struct, frozen=True):
    """The request does not fit; evicting somebody would help only where ``code`` is no-room."""

    code: Code
    reason: str


Verdict = Fits | Refused

_MEMO_LIMIT = 256  # shapes remembered for each state of a node; tenants name few resources


def verdict(view: NodeView, request: Request, promised: tuple[Taken, ...] = ()) -> Verdict:
    """Judge *request* on a node on which *promised* slices are taken besides."""
    key = (request.wanted, promised)
    known = view.memo.get(key)
    if known is None:
        if len(view.memo) >= _MEMO_LIMIT:
            view.memo.clear()
        known = view.memo[key] = _judged(view, request.wanted, promised)
    assert isinstance(known, Fits | Refused)
    return known


def _judged(view: NodeView, wanted: tuple[str, ...], promised: tuple[Taken, ...]) -> Verdict:
    if not view.reported:
        return UNREPORTED
    if view.stale:
        return Refused(Code.STALE, "vGPU: the node's agent does not report")
    if view.cordoned:
        return Refused(Code.CORDONED, "vGPU: the node is cordoned")
    if not view.usable:
        return _why_unusable(view)
    for resource in wanted:
        if resource not in view.offered:
            return Refused(Code.UNKNOWN_RESOURCE, f"vGPU: no GPU here offers {resource}")
    choice = choose(view.bins(promised), wanted)
    if choice is None:
        names = dict.fromkeys(wanted)
        together = " together with ".join(
            name if wanted.count(name) == 1 else f"{wanted.count(name)} x {name}" for name in names
        )
        return Refused(Code.NO_ROOM, f"vGPU: no free placement for {together}")
    return Fits(choice)


def best(view: NodeView, ledger: Ledger, request: Request) -> tuple[bool, Choice | None]:
    """Return the best choice on a node, and whether it takes what is presumed for another."""
    assumed = ledger.assumed_on(view.name, besides=request.pod.uid)
    presumed = ledger.presumed_on(view.name, besides=request.pod.uid)
    for contested, promised in ((False, assumed + presumed), (True, assumed)):
        match verdict(view, request, promised):
            case Fits(choice=choice):
                return contested, choice
    return True, None


UNREPORTED = Refused(Code.NO_INVENTORY, "vGPU: the node reports no GPU inventory")


def _why_unusable(view: NodeView) -> Refused:
    gpus = view.node.status.gpus
    if any(gpu.mig_enabled and gpu.unhealthy for gpu in gpus):
        return Refused(Code.UNHEALTHY, "vGPU: the node's GPUs are not healthy")
    if gpus:
        return Refused(Code.MIG_DISABLED, "vGPU: MIG mode is off on the node's GPUs")
    return UNREPORTED
