"""From the API server's JSON to what the service keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import TypeVar

import msgspec

from extender import wire
from extender.cluster import confines
from extender.cluster.readiness import Status, held
from extender.kubescheduler.eligible import Constraints, Taint
from extender.request import Request, of_pod
from extender.service.ports import NodeFacts, PodFacts
from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import GpuNode, PodRef
from nodeagent.api.rivals import rival_of


class _Spec(msgspec.Struct, frozen=True):
    unschedulable: bool = False
    taints: tuple[Taint, ...] | None = None


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    resource_version: str = ""
    labels: dict[str, str] = {}


class _Node(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _Spec = _Spec()


class _Namespace(msgspec.Struct, frozen=True):
    metadata: _Metadata


class _LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str = ""


class _Lease(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _LeaseSpec = _LeaseSpec()


class _ReplicaSpec(msgspec.Struct, frozen=True, rename="camel"):
    replicas: int = 1
    run_strategy: str = ""
    running: bool | None = None

    @property
    def halted(self) -> bool:
        """Whether it is a VirtualMachine that is to stay off."""
        return self.run_strategy == "Halted" or self.running is False


_MOST_GIVEN_BACK = 128  # entries: twice what a pod may ask for
_LONGEST_ID = 128  # characters, as in the GpuNode's definition
LONGEST_GRACE_SECONDS = 24 * 3600
"""Whoever gives a pod more to end in keeps nobody waiting for longer."""

_LONGEST_SAID = (1 + _MOST_GIVEN_BACK) * (1 + _LONGEST_ID)


class _OwnerMetadata(msgspec.Struct, frozen=True, rename="camel"):
    deletion_timestamp: str | None = None


class _Owner(msgspec.Struct, frozen=True):
    metadata: _OwnerMetadata
    spec: _ReplicaSpec = _ReplicaSpec()


class _PodMetadata(wire.PodMetadata, frozen=True):
    deletion_grace_period_seconds: int | None = None


class _Pod(wire.Pod, frozen=True):
    metadata: _PodMetadata = _PodMetadata()
    spec: confines.Spec = confines.Spec()
    status: Status = Status()


class Watched(msgspec.Struct, frozen=True, gc=False):
    """A pod, and if it is bound and has not ended, what moves go by.

    That is what keeps it from being Ready, and what of its spec keeps it from nodes; "" and None
    for nothing.
    """

    facts: PodFacts
    unready: str = ""
    constraints: Constraints | None = None


_OWNER = msgspec.json.Decoder(_Owner)
_POD = msgspec.json.Decoder(_Pod)
_NODE = msgspec.json.Decoder(_Node)
_NAMESPACE = msgspec.json.Decoder(_Namespace)
_LEASE = msgspec.json.Decoder(_Lease)


def gpu_node(raw: bytes) -> GpuNode:
    """Read a GpuNode, but for what only its agent and people look at: the slots.

    Raises:
        msgspec.ValidationError: with the path of the offending field.
    """
    node = gpunode.decode(raw)
    forget = msgspec.structs.force_setattr
    for made in node.status.realized:
        forget(made, "slot", "")
    return node


def pod(raw: bytes, *, devices_per_pod: int) -> PodFacts:
    """Read a Pod."""
    return watched_pod(raw, devices_per_pod=devices_per_pod).facts


def watched_pod(raw: bytes, *, devices_per_pod: int, ref: PodRef | None = None) -> Watched:
    """Read a Pod with all that is kept of it; *ref* is the one it is, if that has been read."""
    decoded = _POD.decode(raw)
    asked = of_pod(decoded, devices_per_pod=devices_per_pod)
    if ref is None:
        ref = msgspec.structs.replace(asked.pod, namespace=_the_one(asked.pod.namespace))
    asked = msgspec.structs.replace(asked, pod=ref)
    if isinstance(asked, Request):
        owner = asked.owner
        if owner is not None:
            kind, namespace = _the_one(owner.kind), _the_one(owner.namespace)
            owner = msgspec.structs.replace(owner, kind=kind, namespace=namespace)
        asked = msgspec.structs.replace(asked, wanted=_the_one(asked.wanted), owner=owner)
    annotations = decoded.metadata.annotations or {}
    unbound = not decoded.spec.node_name
    facts = PodFacts(
        ref=ref,
        asked=asked,
        node=_the_one(decoded.spec.node_name),
        phase=_the_one(decoded.status.phase),
        deleting=bool(decoded.metadata.deletion_timestamp),
        grace_seconds=_grace(decoded.metadata.deletion_grace_period_seconds),
        not_admitted=_not_admitted(decoded.status),
        movable=annotations.get(keys.MOVABLE, "true") in keys.MOVABLE_VALUES,
        restartable=annotations.get(keys.MOVABLE) == "restart",
        evictable=annotations.get(keys.SAFE_TO_EVICT) != "false",
        version=decoded.metadata.resource_version if unbound else "",
        giving_back=_giving_back(annotations) if unbound else (),
    )
    if not facts.node or facts.over:
        return Watched(facts)
    return Watched(facts, _the_one(held(decoded.status)), confines.constraints(decoded.spec))


def unbound(pod: PodFacts, ids: Collection[str], stamp: str) -> str:
    """Return what an unbound pod's annotation says while its entries of these *ids* are given back.

    What it has said before stays, as much as there is room for: who has said that may be about to
    do it yet.
    """
    given_back = dict.fromkeys((*sorted(ids), *pod.giving_back))
    return " ".join((stamp, *tuple(given_back)[:_MOST_GIVEN_BACK]))


def _giving_back(annotations: Mapping[str, str]) -> tuple[str, ...]:
    said = annotations.get(keys.UNBOUND_ANNOTATION)
    if said is None or len(said) > _LONGEST_SAID:
        return ()
    ids = said.split(" ", _MOST_GIVEN_BACK + 1)[1 : _MOST_GIVEN_BACK + 1]
    return tuple(each for each in ids if len(each) <= _LONGEST_ID)


def _grace(seconds: int | None) -> int:
    """Return how long a pod may take to end; it is not said before the pod is to."""
    return min(max(seconds or 0, 0), LONGEST_GRACE_SECONDS)


def _not_admitted(status: wire.PodStatus) -> bool:
    """Tell whether a kubelet has refused a pod, for want of a device, or of a healthy one.

    By the reasons it gives (``pkg/kubelet``): its device manager's, which is that of any unexpected
    error, and of what a node is out of, named with the resource.
    """
    refused = status.reason == "UnexpectedAdmissionError" or (
        status.reason.startswith(f"OutOf{keys.RESOURCE_DOMAIN}")
    )
    return status.phase == "Failed" and refused


def node(raw: bytes) -> NodeFacts:
    """Read a Node."""
    decoded = _NODE.decode(raw)
    labels = decoded.metadata.labels
    return NodeFacts(
        decoded.metadata.name,
        cordoned=decoded.spec.unschedulable,
        rival=rival_of(labels),
        labels=labels,
        taints=decoded.spec.taints or (),
    )


def namespace(raw: bytes) -> tuple[str, dict[str, str]]:
    """Read a Namespace: its name, and its labels."""
    decoded = _NAMESPACE.decode(raw)
    return decoded.metadata.name, decoded.metadata.labels


def lease(raw: bytes) -> tuple[str, str, str]:
    """Read an agent's Lease: the node it is for, its version and the agent's process.

    The version changes with each renewal.
    """
    decoded = _LEASE.decode(raw)
    return (
        decoded.metadata.name.removeprefix(keys.LEASE_PREFIX),
        decoded.metadata.resource_version,
        decoded.spec.holder_identity,
    )


def replicas(raw: bytes) -> int:
    """Read how many pods a VirtualMachine, StatefulSet or ReplicaSet keeps up, 0 as it goes.

    A VirtualMachine keeps up one, or none if it is to stay off.
    """
    owner = _OWNER.decode(raw)
    return 0 if owner.metadata.deletion_timestamp or owner.spec.halted else owner.spec.replicas


_Equal = TypeVar("_Equal", str, tuple[str, ...])


@lru_cache(maxsize=16_384)  # nodes, namespaces, what is asked for: of each far fewer than pods
def _the_one(value: _Equal) -> _Equal:
    """Return the first of all values equal to this one: a hundred thousand pods share it."""
    return value
