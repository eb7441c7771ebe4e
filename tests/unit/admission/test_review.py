"""The API server's JSON: what is read of it, and what is answered."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender import wire
from extender.admission.review import AdmissionReview, Change, answer
from tests.builders import as_json


def raw(**request: Any) -> dict[str, Any]:
    """An AdmissionReview as kube-apiserver 1.36 sends it."""
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "tenant",
            "operation": "CREATE",
            "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
            "object": {"metadata": {"generateName": "vm-"}, "spec": {"containers": []}},
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            **request,
        },
    }


def read(document: object) -> AdmissionReview:
    return wire.decode(as_json(document), AdmissionReview)


def test_a_review_is_answered_under_its_uid() -> None:
    assert json.loads(answer(read(raw()))) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": True},
    }


def test_changes_are_a_json_patch() -> None:
    changes = (Change("add", "/metadata/labels", {"a": "b"}), Change("remove", "/x"))

    response = json.loads(answer(read(raw()), changes=changes))["response"]

    assert (response["allowed"], response["patchType"]) == (True, "JSONPatch")
    assert json.loads(base64.b64decode(response["patch"])) == [
        {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}},
        {"op": "remove", "path": "/x"},
    ]


def test_a_refusal_has_its_reason_and_no_patch() -> None:
    response = json.loads(answer(read(raw()), refusal="vGPU: no"))["response"]

    assert response.pop("uid")
    assert response == {
        "allowed": False,
        "status": {"message": "vGPU: no", "reason": "Forbidden", "code": 403},
    }


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"operation": "UPDATE"}, "operation"),
        ({"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}}, "kind"),
        ({"subResource": "binding"}, "subResource"),
        ({"uid": "x" * 129}, "uid"),
        ({"object": None}, "object"),
        ({"object": {"spec": {"containers": [{"resources": {"limits": []}}]}}}, "limits"),
    ],
)
def test_what_is_no_creation_of_a_pod_is_not_judged(request_: dict[str, Any], field: str) -> None:
    with pytest.raises(wire.MalformedRequest, match=rf"not an AdmissionReview: .*{field}"):
        read(raw(**request_))


@pytest.mark.parametrize("version", ["admission.k8s.io/v1beta1", "", None])
def test_another_version_of_the_question_is_not_guessed_at(version: str | None) -> None:
    with pytest.raises(wire.MalformedRequest):
        read(raw() | {"apiVersion": version})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


@given(JSON)
def test_a_pod_of_any_shape_is_read_or_refused_as_malformed(pod: object) -> None:
    with contextlib.suppress(wire.MalformedRequest):
        assert read(raw(object=pod)).request.object is not None


@given(st.binary(max_size=64))
def test_a_body_of_any_bytes_is_refused_as_malformed(body: bytes) -> None:
    with pytest.raises(wire.MalformedRequest):
        wire.decode(body, AdmissionReview)
