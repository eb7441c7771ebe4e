"""``admission.k8s.io/v1``: what the API server asks a webhook, and is answered.

Webhooks are asked before an object is validated, so nothing in a pod can be relied upon but what
its types say. Source: ``staging/src/k8s.io/api/admission/v1/types.go`` of Kubernetes 1.36.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import msgspec

from extender import wire

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"
FORBIDDEN = 403


class _Kube(msgspec.Struct, frozen=True, rename="camel"):
    """A value whose fields are spelled as the Kubernetes API spells them."""


class Metadata(_Kube, frozen=True):
    """As much of a pod's metadata as is judged or changed; it may not have a name yet."""

    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Spec(_Kube, frozen=True):
    """As much of a pod's spec as is judged or changed."""

    containers: tuple[wire.Container, ...] | None = None
    init_containers: tuple[wire.Container, ...] | None = None
    node_name: str = ""
    scheduler_name: str = ""


class Pod(_Kube, frozen=True):
    """A pod that is to be created."""

    metadata: Metadata = Metadata()
    spec: Spec = Spec()


class PodKind(_Kube, frozen=True):
    """That the object is a pod: of nothing else we could say anything."""

    kind: Literal["Pod"]
    version: Literal["v1"]
    group: Literal[""] = ""


class Request(_Kube, frozen=True):
    """The creation of a pod, which alone is judged."""

    uid: Annotated[str, msgspec.Meta(max_length=128)]
    kind: PodKind
    operation: Literal["CREATE"]
    object: Pod
    namespace: str = ""
    sub_resource: Literal[""] = ""


class AdmissionReview(_Kube, frozen=True):
    """The API server's question."""

    api_version: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: Request


class Change(_Kube, frozen=True, omit_defaults=True):
    """One operation of a JSON Patch (RFC 6902)."""

    op: str
    path: str
    value: Any = msgspec.UNSET


class _Status(_Kube, frozen=True):
    message: str
    reason: str = "Forbidden"
    code: int = FORBIDDEN


class _Response(_Kube, frozen=True, omit_defaults=True):
    uid: str
    allowed: bool
    status: _Status | None = None
    patch_type: str = ""
    patch: str = ""


class _Answer(_Kube, frozen=True):
    response: _Response
    api_version: str = API_VERSION
    kind: str = KIND


def answer(
    review: AdmissionReview, *, changes: tuple[Change, ...] = (), refusal: str = ""
) -> bytes:
    """Write the answer to *review*: allowed after *changes*, unless there is a *refusal*."""
    uid = review.request.uid
    if refusal:
        response = _Response(uid, allowed=False, status=_Status(refusal))
    elif changes:
        patch = base64.b64encode(msgspec.json.encode(changes)).decode()
        response = _Response(uid, allowed=True, patch_type="JSONPatch", patch=patch)
    else:
        response = _Response(uid, allowed=True)
    return wire.encode(_Answer(response))
