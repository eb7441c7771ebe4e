"""What a plan says of a pod and what the pod says: where it is equal, one object for both.

A hundred thousand VMs would otherwise have two of each name in memory, and of what is made of them.
The values are frozen, so that nobody can tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from extender.request import Request
from extender.service.ports import PodFacts
from nodeagent.api.gpunode import Assignment, OwnerRef, PodRef


def entries_as_pods(entries: Iterable[Assignment], pods: Mapping[str, PodFacts]) -> None:
    """Let the entries of a plan that has just been read refer to what is known of their *pods*."""
    for entry in entries:
        known = None if entry.pod is None else pods.get(entry.pod.uid)
        if known is not None:
            _share(entry, "pod", known.ref)
            _share(entry, "owner", _owner(known))


def pod_as_known(pod: PodFacts, before: PodFacts | None, entries: Iterable[Assignment]) -> None:
    """Let a pod that has just been read refer to what was known *before*, or to its entries'."""
    if before is not None:
        _refer(pod, before.ref, _owner(before))
    else:
        for entry in entries:
            _refer(pod, entry.pod, entry.owner)


def _refer(pod: PodFacts, ref: PodRef | None, owner: OwnerRef | None) -> None:
    _share(pod, "ref", ref)
    _share(pod.asked, "pod", ref)
    if isinstance(pod.asked, Request):
        _share(pod.asked, "owner", owner)


def _owner(pod: PodFacts) -> OwnerRef | None:
    return pod.asked.owner if isinstance(pod.asked, Request) else None


def _share(value: msgspec.Struct, field: str, known: PodRef | OwnerRef | None) -> None:
    if known is not None and getattr(value, field) == known:
        msgspec.structs.force_setattr(value, field, known)
