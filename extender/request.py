"""From a pod to what it asks of us, or "not ours".

A pod is ours if it asks for a GPU instance by an extended resource (``nodeagent.api.resources``).
How much it asks for follows Kubernetes: the sum over containers and restartable init containers, or
the most any ordinary init container needs beside the restartable ones started before it. The
kubelet hands an init container's devices on to the containers after it; nothing adds up twice.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from extender import wire
from extender.packing.spread import Spread
from extender.policy.bounds import Bounds
from nodeagent.api import keys, resources
from nodeagent.api.gpunode import OwnerRef, PodRef


class Gang(msgspec.Struct, frozen=True):
    """Pods of a namespace that are placed together or not at all; ``size`` is the fewest."""

    namespace: str
    name: str
    size: int


Wanted = tuple[str, ...]
"""What is asked for, whoever asks: one resource for each GPU instance, sorted."""


class Request(msgspec.Struct, gc=False, frozen=True, tag="request"):
    """What a pod asks for; ``bounds`` are what the policy's rules leave it at the moment.

    ``spread`` is how its GPU instances lie on the GPUs of its node; of one alone nothing is said.
    ``preempts`` is whether pods of lower priority may be evicted for it.
    """

    pod: PodRef
    wanted: Wanted
    owner: OwnerRef | None = None
    waits_for_volumes: bool = False
    gang: Gang | None = None
    priority: int = 0
    spread: Spread = Spread.ANY
    bounds: Bounds | None = None
    preempts: bool = True


class NotOurs(msgspec.Struct, frozen=True, tag="not-ours"):
    """The pod asks for no GPU instance."""

    pod: PodRef


class Unanswerable(msgspec.Struct, frozen=True, tag="unanswerable"):
    """The pod asks for GPU instances in a way that can never be met; ``reason`` says why."""

    pod: PodRef
    reason: str


Asked = Request | NotOurs | Unanswerable

LARGEST_GANG = 256
"""Pods in one gang at most; all of them are held in memory, and their binds at once."""

MOST_TEXT = 63  # of what a tenant wrote, in a reason

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
# Kubernetes canonicalises 1000 to "1k"; extended resources are whole numbers.
_QUANTITY = re.compile(r"([0-9]{1,18})(k|M|G|T|Ki|Mi|Gi|Ti|e[0-9]{1,2})?")
# What a GpuNode's schema takes; Kubernetes itself bounds neither in an owner reference.
_LONGEST_KIND, _LONGEST_NAME = 128, 253
_MULTIPLES: dict[str, int] = {"": 1} | {
    suffix: base**power
    for base, suffixes in ((1000, ("k", "M", "G", "T")), (1024, ("Ki", "Mi", "Gi", "Ti")))
    for power, suffix in enumerate(suffixes, start=1)
}


def of_pod(pod: wire.Pod, *, devices_per_pod: int) -> Asked:
    """Read what *pod* asks for; *devices_per_pod* bounds how many instances are considered."""
    meta = pod.metadata
    ref = PodRef(meta.namespace, meta.name, meta.uid)
    try:
        amounts = _amounts(pod.spec, devices_per_pod)
    except ValueError as error:
        return Unanswerable(ref, str(error))
    if not amounts:
        return NotOurs(ref)
    if not meta.uid or not meta.name or not meta.namespace:
        return Unanswerable(ref, "vGPU: the pod has no name, namespace or UID")
    try:
        gang, spread = _gang(pod), _spread(meta)
    except ValueError as error:
        return Unanswerable(ref, str(error))
    return Request(
        pod=ref,
        wanted=tuple(sorted(amounts.elements())),
        spread=spread if amounts.total() > 1 else Spread.ANY,
        owner=_owner(meta),
        waits_for_volumes=any(
            volume.persistent_volume_claim is not None or volume.ephemeral is not None
            for volume in pod.spec.volumes or ()
        ),
        gang=gang,
        priority=pod.spec.priority or 0,
        preempts=pod.spec.preemption_policy != "Never",
    )


def _gang(pod: wire.Pod) -> Gang | None:
    """Return the gang a pod names, or its scheduling group where it gives that a size.

    Raises:
        ValueError: one of the two fields is missing or malformed; the message names it.
    """
    meta, group = pod.metadata, pod.spec.scheduling_group
    said = {**(meta.labels or {}), **(meta.annotations or {})}
    name, size = said.get(keys.GANG), said.get(keys.GANG_SIZE)
    if name is None and size is None:
        return None
    if name is None and group is not None:
        name = group.pod_group_name
    if name is None or not _NAME.fullmatch(name):
        raise ValueError(f"vGPU: {keys.GANG} is not a name")
    if size is None or not re.fullmatch(r"[0-9]{1,4}", size) or not 0 < int(size) <= LARGEST_GANG:
        raise ValueError(f"vGPU: {keys.GANG_SIZE} is not a whole number from 1 to {LARGEST_GANG}")
    return Gang(meta.namespace, name, int(size)) if int(size) > 1 else None


def _spread(meta: wire.PodMetadata) -> Spread:
    """Return how a pod wants its GPU instances to lie.

    Raises:
        ValueError: it says something else than what may be asked for; the message has the remedy.
    """
    match (meta.annotations or {}).get(keys.SPREAD_ANNOTATION):
        case None:
            return Spread.ANY
        case (Spread.SAME | Spread.DISTINCT) as said:
            return Spread(said)
        case said:
            raise ValueError(
                f"vGPU: the annotation {keys.SPREAD_ANNOTATION} says {said[:MOST_TEXT]!r}:"
                f" write {Spread.SAME} or {Spread.DISTINCT}, or remove it"
            )


def _amounts(spec: wire.PodSpec, limit: int) -> Counter[str]:
    """Count what the pod holds at its most demanding moment.

    Stops at the first container with which it is more than *limit*: thousands of them, each with
    resources of its own, are not added up.
    """
    lasting: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for container in spec.init_containers or ():
        asked = _container(container)
        if container.restart_policy == "Always":
            lasting.update(asked)
            most |= lasting
        else:
            most |= lasting + Counter(asked)
        _bound(most, limit)
    for container in spec.containers or ():
        if asked := _container(container):
            lasting.update(asked)
            _bound(lasting, limit)
    return _bound(most | lasting, limit) if most else lasting


def _bound(amounts: Counter[str], limit: int) -> Counter[str]:
    if amounts.total() > limit:
        raise ValueError(f"vGPU: a pod may ask for at most {limit} GPU instances")
    return amounts


def _container(container: wire.Container) -> dict[str, int]:
    found: dict[str, int] = {}
    if container.resources is None:
        return found
    # Limits count where no request is given: the API server makes them equal for these resources.
    limits, requests = container.resources.limits or {}, container.resources.requests or {}
    for amounts in (limits,) if requests == limits else (limits, requests):
        for resource, quantity in amounts.items():
            if resources.ours(resource) and (count := _whole(resource, quantity)):
                found[resource] = max(found.get(resource, 0), count)
    return found


def _whole(resource: str, quantity: str | float) -> int:
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"vGPU: the amount of {resource} is not a whole number")
    digits, suffix = match.group(1), match.group(2) or ""
    if suffix.startswith("e"):
        return int(digits) * int(10 ** int(suffix[1:]))
    return int(digits) * _MULTIPLES[suffix]


def _owner(meta: wire.PodMetadata) -> OwnerRef | None:
    """Return the pod's controller; a launcher's is its VirtualMachineInstance."""
    for reference in meta.owner_references or ():
        fits = len(reference.kind) <= _LONGEST_KIND and len(reference.name) <= _LONGEST_NAME
        if reference.controller and fits and reference.kind != keys.PREEMPTOR:
            return OwnerRef(reference.kind, meta.namespace, reference.name)
    return None
