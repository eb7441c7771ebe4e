"""What keeps accounts in bounds: roles, and policies where these end."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import Manifest, built

BOUNDS = frozenset(
    {
        *("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    }
)


def bounds(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return the accounts among *manifests*, their roles, and the policies."""
    return [each for each in manifests if each["kind"] in BOUNDS]


def bounds_with_simulated_gpus() -> list[Manifest]:
    """Return those of an installation without webhook and second scheduler, for trials."""
    simulated = MANIFESTS / "components/simulated-gpus"
    added = (
        each
        for name in ("rbac.yaml", "admission.yaml")
        for each in yaml.safe_load_all((simulated / name).read_text())
    )
    return bounds([*built(MANIFESTS / "base"), *added])
