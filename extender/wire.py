"""kube-scheduler's extender/v1 JSON, exactly as it is on the wire.

Field names are Go's, the pod and the nodes inside are ordinary lowerCamel objects. Read once, here:
a body that does not decode raises :class:`MalformedRequest` with the path of the offending field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec


class MalformedRequest(Exception):
    """The body is not what the verb takes; the message names the field."""


class _Go(msgspec.Struct, frozen=True, rename="pascal"):
    """A value whose fields are spelled as Go spells them."""


class _Kube(msgspec.Struct, frozen=True, rename="camel"):
    """A value whose fields are spelled as the Kubernetes API spells them."""


class OwnerReference(_Kube, frozen=True):
    """Who made a pod; the controller among several is the one that counts."""

    kind: str
    name: str
    controller: bool | None = None


class PodMetadata(_Kube, frozen=True):
    """As much of a pod's metadata as a decision reads."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] | None = None
    deletion_timestamp: str | None = None


class Resources(_Kube, frozen=True):
    """A container's resources; quantities are strings, or numbers in hand-made objects."""

    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class Container(_Kube, frozen=True):
    """A container, as far as it asks for something."""

    resources: Resources | None = None
    restart_policy: str | None = None


class Volume(_Kube, frozen=True):
    """A volume, as far as it delays a bind: whether it is a claim, whatever is claimed."""

    persistent_volume_claim: dict[str, Any] | None = None
    ephemeral: dict[str, Any] | None = None


class SchedulingGroup(_Kube, frozen=True):
    """Kubernetes' own grouping of pods (1.36, alpha); how large the group is, it does not say."""

    pod_group_name: str = ""


class PodSpec(_Kube, frozen=True):
    """As much of a pod's spec as a decision reads."""

    containers: tuple[Container, ...] | None = None
    init_containers: tuple[Container, ...] | None = None
    volumes: tuple[Volume, ...] | None = None
    node_name: str = ""
    priority: int | None = None
    scheduling_group: SchedulingGroup | None = None


class PodStatus(_Kube, frozen=True):
    """As much of a pod's status as a decision reads."""

    phase: str = ""


class Pod(_Kube, frozen=True):
    """A pod, as the scheduler sends it and as the API server returns it."""

    metadata: PodMetadata = PodMetadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


RawNode = msgspec.Raw
"""A whole node, as it came."""


class NodeList(_Kube, frozen=True):
    """Whole nodes, kept as they came: an answer in kind returns them unchanged."""

    items: tuple[RawNode, ...] | None = None


class ExtenderArgs(_Go, frozen=True):
    """What filter and prioritize are asked; of ``nodes`` and ``node_names`` one is null."""

    pod: Pod
    nodes: NodeList | None = None
    node_names: tuple[str, ...] | None = None


class MetaPod(_Go, frozen=True):
    """A pod by UID."""

    uid: str = msgspec.field(name="UID", default="")


class MetaVictims(_Go, frozen=True):
    """Victims by UID."""

    pods: tuple[MetaPod, ...] | None = None
    num_pdb_violations: int = msgspec.field(name="NumPDBViolations", default=0)


class Victims(_Go, frozen=True):
    """Victims as whole pods."""

    pods: tuple[Pod, ...] | None = None
    num_pdb_violations: int = msgspec.field(name="NumPDBViolations", default=0)


class PreemptionArgs(_Go, frozen=True):
    """What preempt is asked; of the two maps one is null."""

    pod: Pod
    node_name_to_victims: dict[str, Victims] | None = None
    node_name_to_meta_victims: dict[str, MetaVictims] | None = None


class BindingArgs(_Go, frozen=True):
    """What bind is asked: names only, no pod."""

    pod_name: str
    pod_namespace: str
    pod_uid: str = msgspec.field(name="PodUID")
    node: str = ""


class FilterResult(_Go, frozen=True):
    """What filter answers. An ``error`` ends the scheduling cycle and is retried by time alone."""

    node_names: tuple[str, ...] | None = None
    nodes: Mapping[str, tuple[RawNode, ...]] | None = None
    failed_nodes: Mapping[str, str] = {}
    failed_and_unresolvable_nodes: Mapping[str, str] = {}
    error: str = ""


class HostPriority(_Go, frozen=True):
    """One node's score; an integer, for Go refuses a float."""

    host: str
    score: int


class BindingResult(_Go, frozen=True):
    """What bind answers: "" for success."""

    error: str = ""


class PreemptionResult(_Go, frozen=True):
    """What preempt answers, by UID whichever way it was asked."""

    node_name_to_meta_victims: Mapping[str, MetaVictims]


class _NodeName(_Kube, frozen=True):
    metadata: PodMetadata


_T = TypeVar("_T")


def decode(body: bytes, shape: type[_T]) -> _T:
    """Read a request body.

    Raises:
        MalformedRequest: naming the field, such as ``$.Pod.metadata.uid``.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(f"not {_an(shape.__name__)}: {error}") from error


def encode(answer: object) -> bytes:
    """Write an answer."""
    return msgspec.json.encode(answer)


def node_name(raw: RawNode) -> str:
    """Return the name of a whole node.

    Raises:
        MalformedRequest: if it has none.
    """
    name = decode(bytes(raw), _NodeName).metadata.name
    if not name:
        raise MalformedRequest("not an ExtenderArgs: a node in $.Nodes.items has no name")
    return name


def _an(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"
