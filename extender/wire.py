"""kube-scheduler's extender/v1 JSON, exactly as it is on the wire.

Field names are Go's, the pod and the nodes inside are ordinary lowerCamel objects. Read once, here:
a body that does not decode raises :class:`MalformedRequest` with the path of the offending field.
Names are no longer, and no wilder, than the API server lets them be: they become parts of its
paths, and are remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_MOST_NODES = msgspec.Meta(max_length=100_000)  # Kubernetes is made for 5,000, and seen with 65,000

Name = Annotated[str, msgspec.Meta(max_length=253, pattern=_NAME)]
"""An object's name."""

Namespace = Annotated[str, msgspec.Meta(max_length=63, pattern=_NAME)]
"""A namespace's name."""

Uid = Annotated[str, msgspec.Meta(max_length=128)]
"""An object's UID; the API server's are 36 characters, a GpuNode's schema takes 128."""


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

    name: Name = ""
    namespace: Namespace = ""
    uid: Uid = ""
    resource_version: str = ""
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
    preemption_policy: str | None = None
    scheduling_group: SchedulingGroup | None = None


class PodStatus(_Kube, frozen=True):
    """As much of a pod's status as a decision reads."""

    phase: str = ""
    reason: str = ""


class Pod(_Kube, frozen=True):
    """A pod, as the scheduler sends it and as the API server returns it."""

    metadata: PodMetadata = PodMetadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


RawNode = Annotated[
    msgspec.Raw,
    msgspec.Meta(
        description="A whole node, as it came.",
        extra_json_schema={
            "type": "object",
            "required": ["metadata"],
            "properties": {
                "metadata": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string", "maxLength": 253, "pattern": _NAME}},
                }
            },
        },
    ),
]
"""A whole node, as it came; :func:`node_name` reads the one thing it must have."""


class NodeList(_Kube, frozen=True):
    """Whole nodes, kept as they came: an answer in kind returns them unchanged."""

    items: Annotated[tuple[RawNode, ...], _MOST_NODES] | None = None


class ExtenderArgs(_Go, frozen=True):
    """What filter and prioritize are asked; of ``nodes`` and ``node_names`` one is null."""

    pod: Pod
    nodes: NodeList | None = None
    node_names: Annotated[tuple[str, ...], _MOST_NODES] | None = None


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
    node_name_to_victims: Annotated[dict[str, Victims], _MOST_NODES] | None = None
    node_name_to_meta_victims: Annotated[dict[str, MetaVictims], _MOST_NODES] | None = None


class BindingArgs(_Go, frozen=True):
    """What bind is asked: names only, no pod."""

    pod_name: Name
    pod_namespace: Namespace
    pod_uid: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = msgspec.field(
        name="PodUID"
    )
    node: Annotated[str, msgspec.Meta(max_length=253)] = ""


class FilterResult(_Go, frozen=True):
    """What filter answers. An ``error`` ends the scheduling cycle and is retried by time alone."""

    node_names: tuple[str, ...] | None = None
    nodes: Mapping[str, tuple[RawNode, ...]] | None = None
    failed_nodes: Mapping[str, str] = {}
    failed_and_unresolvable_nodes: Mapping[str, str] = {}
    error: str = ""


class HostPriority(_Go, frozen=True, gc=False):
    """One node's score; an integer, for Go refuses a float."""

    host: str
    score: int


class BindingResult(_Go, frozen=True):
    """What bind answers: "" for success."""

    error: str = ""


class PreemptionResult(_Go, frozen=True):
    """What preempt answers, by UID whichever way it was asked."""

    node_name_to_meta_victims: Mapping[str, MetaVictims]


class _NodeMetadata(_Kube, frozen=True):
    name: Name


class _NodeName(_Kube, frozen=True):
    metadata: _NodeMetadata


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
    try:
        return decode(bytes(raw), _NodeName).metadata.name
    except MalformedRequest as error:
        raise MalformedRequest(f"not an ExtenderArgs: in $.Nodes.items, {error}") from error


def _an(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"
