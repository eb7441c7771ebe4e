"""The least version of Kubernetes that the page names is the one that the manifests need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.controlplane.binaries import Versions
from tests.e2e.controlplane.certificates import Authority
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import OVERLAYS, Manifest, combined, overlay, with_certificates

MINOR = {
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"): 16,
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"): 30,
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"): 30,
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): 16,
    ("apps/v1", "DaemonSet"): 9,
    ("apps/v1", "Deployment"): 9,
    ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"): 29,
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration"): 29,
    ("kubescheduler.config.k8s.io/v1", "KubeSchedulerConfiguration"): 25,
    ("networking.k8s.io/v1", "NetworkPolicy"): 7,
    ("policy/v1", "PodDisruptionBudget"): 21,
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): 8,
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): 8,
    ("rbac.authorization.k8s.io/v1", "Role"): 8,
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): 8,
    ("scheduling.k8s.io/v1", "PriorityClass"): 14,
    ("v1", "ConfigMap"): 2,
    ("v1", "Namespace"): 0,
    ("v1", "Node"): 0,
    ("v1", "Secret"): 0,
    ("v1", "Service"): 0,
    ("v1", "ServiceAccount"): 0,
}
"""Since which 1.x there is a kind in that version, without a feature gate.

After ``APILifecycleIntroduced`` in k8s.io/api; the scheduler's by its documentation ("Scheduler
Configuration": v1 since 1.25).
"""

OTHERS = {"cert-manager.io/v1", "monitoring.coreos.com/v1", "tangram.dev/v1alpha1"}
"""Whose kinds are not Kubernetes' own."""

FIELDS = {
    ("MutatingWebhookConfiguration", "webhooks.matchConditions"): 28,
    ("PodDisruptionBudget", "spec.unhealthyPodEvictionPolicy"): 27,
    ("Deployment", "spec.template.spec.containers.lifecycle.preStop.sleep"): 30,
    ("Deployment", "spec.template.spec.topologySpreadConstraints"): 18,
}
"""Since which 1.x a field is heeded where nobody has said otherwise (k8s.io/kubernetes' gates)."""

NODE_IN_TOKEN = ("authentication.kubernetes.io/node-name", 30)
"""What policies find in ``userInfo.extra``, by the gate ServiceAccountTokenPodNodeInfo."""


@pytest.fixture
def everything(copy: Path, tmp_path: Path) -> list[Manifest]:
    """All overlays, and what the components give that none of them has."""
    with_certificates(copy, Authority(tmp_path))
    further = combined(copy, "admission", "mtls-secrets", "default-scheduler", "monitoring")
    found = [m for name in OVERLAYS for m in overlay(name)] + further
    return found + combined(copy, "mtls-secrets", "policy", "moves")


def documents(manifests: list[Manifest]) -> Iterator[Manifest]:
    """Yield all objects, and those that ConfigMaps have inside."""
    for each in manifests:
        yield each
        if each["kind"] == "ConfigMap":
            for name, text in each["data"].items():
                if name.endswith(".yaml"):
                    yield yaml.safe_load(text)


def fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the paths of all fields, without the places in lists."""
    if isinstance(value, list):
        for each in value:
            yield from fields(each, path)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield ".".join((*path, name))
            yield from fields(inner, (*path, name))


def test_the_page_names_the_least_version_that_has_all_that_is_used(
    everything: list[Manifest],
) -> None:
    own = [each for each in documents(everything) if each["apiVersion"] not in OTHERS]
    used = {(each["kind"], field) for each in own for field in fields(each)}
    name, minor = NODE_IN_TOKEN
    policies = [each for each in own if each["kind"] == "ValidatingAdmissionPolicy"]
    needed = [
        *(MINOR[each["apiVersion"], each["kind"]] for each in own),
        *(minor for field, minor in FIELDS.items() if field in used),
        *(minor for each in policies if name in yaml.safe_dump(each)),
    ]

    (said,) = re.findall(r"at least Kubernetes 1\.([0-9]+)", (MANIFESTS / "README.md").read_text())
    assert int(said) == max(needed)


def test_nothing_is_listed_that_is_not_used(everything: list[Manifest]) -> None:
    found = list(documents(everything))

    assert {(each["apiVersion"], each["kind"]) for each in found} == {
        *MINOR,
        *((each["apiVersion"], each["kind"]) for each in found if each["apiVersion"] in OTHERS),
    }
    assert {each["apiVersion"] for each in found} >= OTHERS
    assert FIELDS.keys() <= {(each["kind"], field) for each in found for field in fields(each)}


def test_the_page_names_the_version_that_is_tried() -> None:
    tried = Versions.read().kubernetes.removeprefix("v").rpartition(".")[0]

    assert f"Kubernetes {tried} is what is tried" in (MANIFESTS / "README.md").read_text()
