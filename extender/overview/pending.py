"""The pods that wait for a place, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from extender.overview.documents import Pending
from extender.planning.joint import Waiting
from extender.request import Request
from extender.verbs.reasons import Code, no_room

MOST_PENDING = 500
"""Pods told of at most, those that wait longest first."""

MEANING: Mapping[Code, str] = {
    Code.NO_ROOM: "no free placement",  # of what it asks for, which is said instead
    Code.UNKNOWN_RESOURCE: "no GPU there offers what it asks for",
    Code.NO_INVENTORY: "the node reports no GPU inventory",
    Code.STALE: "the node's agent does not report",
    Code.CORDONED: "the node is cordoned",
    Code.AGENT_FAILING: "the node's agent keeps failing to create GPU instances",
    Code.UNSETTLED: "the node's agent has yet to answer for the plan found there",
    Code.MIG_DISABLED: "MIG mode is off on the node's GPUs",
    Code.UNHEALTHY: "the node's GPUs are not healthy",
    Code.STATIC_LAYOUT: "the layout of the node's GPUs is static",
    Code.UNMANAGED: "the node's GPUs are not Tangram's to use",
    Code.RIVAL: "something else owns the node's GPUs",
    Code.FOREIGN_INSTANCE: "a GPU instance that Tangram did not create stands in the way",
    Code.RESERVED_ELSEWHERE: "it has its place on another node",
    Code.PLANNING: "it is being placed together with the pods that came with it",
    Code.GANG_INCOMPLETE: "it waits for the rest of its gang",
    Code.GANG_NO_ROOM: "no free placement for its whole gang",
    Code.GANG_MALFORMED: "its gang's pods differ about the gang's size",
    Code.PROFILE_NOT_ALLOWED: "the policy does not allow it that profile there",
    Code.POOL_NOT_ALLOWED: "the policy does not allow it that pool",
    Code.NOT_IN_POOL: "the policy does not allow that profile in the node's pool",
    Code.NOT_SHARED: "the GPUs there are shared with nobody, or with others than it may be with",
    Code.OVER_CAP: "its tenant has as much as it may",
    Code.HEADROOM: "what is free there is kept free for others",
}
"""What a code means, in general; the verdict of each node says it more exactly."""


def waiting(
    pods: Iterable[Waiting],
    refused: Callable[[str], Collection[Code]],
    tenant_of: Callable[[str], str],
    since: Callable[[float], str],
    profiles_of: Callable[[str], Iterable[str]],
) -> Iterator[Pending]:
    """Tell of pods that wait; *since* writes as RFC 3339 when something was by the service's clock.

    *refused* tells by UID what a pod was refused for, nothing if it was not; *profiles_of* which
    profiles serve a resource.
    """
    for each in pods:
        request, codes = each.request, sorted(refused(each.request.pod.uid))
        yield Pending(
            namespace=request.pod.namespace,
            pod=request.pod.name,
            uid=request.pod.uid,
            wanted=request.wanted,
            vm=request.owner.name if request.owner else "",
            tenant=tenant_of(request.pod.namespace),
            since=since(each.since),
            codes=tuple(code.value for code in codes),
            reasons=tuple(_reason(code, request) for code in codes),
            profiles=tuple(sorted({name for each in request.wanted for name in profiles_of(each)})),
        )


def _reason(code: Code, request: Request) -> str:
    if code is Code.NO_ROOM:
        return no_room(request.wanted).reason
    return f"vGPU: {MEANING[code]}"
