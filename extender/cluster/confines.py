"""What of a pod's spec keeps it from nodes, as the watch shows it.

What kube-scheduler sends is not asked for it: it has looked at that itself. Pods are alike in it by
the thousand, and share one value; it is kept as it came until then, and read once.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from extender import wire
from extender.kubescheduler.eligible import Constraints, Term, Toleration

MOST_BYTES = 16_384
"""Of one pod: KubeVirt's for a CPU of the host's model have some four thousand."""

MOST_PARTS = 512
"""Labels, tolerations, terms, requirements and values of one pod, together."""

_NOTHING = msgspec.Raw(b"null")


class _NodeAffinity(msgspec.Struct, frozen=True, rename="camel"):
    required_during_scheduling_ignored_during_execution: msgspec.Raw = _NOTHING


class _Affinity(msgspec.Struct, frozen=True, rename="camel"):
    node_affinity: _NodeAffinity | None = None


class Spec(wire.PodSpec, frozen=True, rename="camel"):
    """A pod's spec, with what keeps it from nodes as it came."""

    node_selector: msgspec.Raw = _NOTHING
    affinity: _Affinity | None = None
    tolerations: msgspec.Raw = _NOTHING


class _Required(msgspec.Struct, frozen=True, rename="camel"):
    node_selector_terms: tuple[Term, ...] | None = None


_SELECTOR = msgspec.json.Decoder(dict[str, str] | None)
_REQUIRED = msgspec.json.Decoder(_Required | None)
_TOLERATIONS = msgspec.json.Decoder(tuple[Toleration, ...] | None)
_UNREAD = Constraints(unread=True)


def constraints(spec: Spec) -> Constraints | None:
    """Return what keeps a pod from nodes, None for nothing; of what is too much, that it is."""
    affinity = None if spec.affinity is None else spec.affinity.node_affinity
    required = (
        _NOTHING
        if affinity is None
        else affinity.required_during_scheduling_ignored_during_execution
    )
    parts = bytes(spec.node_selector), bytes(required), bytes(spec.tolerations)
    return _UNREAD if sum(map(len, parts)) > MOST_BYTES else _read(*parts)


@lru_cache(maxsize=1024)  # with what is read of them, some tens of megabytes at the very most
def _read(selector: bytes, required: bytes, tolerations: bytes) -> Constraints | None:
    try:
        labels = _SELECTOR.decode(selector) or {}
        affinity = _REQUIRED.decode(required)
        tolerated = _TOLERATIONS.decode(tolerations) or ()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _UNREAD
    terms = None if affinity is None else affinity.node_selector_terms or ()
    if len(labels) + len(tolerated) + sum(each.parts for each in terms or ()) > MOST_PARTS:
        return _UNREAD
    return Constraints.of(labels, terms, tolerated) if labels or affinity or tolerated else None
