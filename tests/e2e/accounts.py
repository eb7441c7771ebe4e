"""What keeps accounts in bounds: roles, and policies where these end."""

from __future__ import annotations

from collections.abc import Iterable

from tests.manifests.kustomize import Manifest

BOUNDS = frozenset(
    {
        *("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    }
)


def bounds(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return the accounts among *manifests*, their roles, and the policies."""
    return [each for each in manifests if each["kind"] in BOUNDS]
