"""What accounts may do, read from the manifests."""

from __future__ import annotations

from collections.abc import Iterable

from tests.manifests.calls import Permission
from tests.manifests.kustomize import Manifest


def permissions(rules: Iterable[dict[str, list[str]]]) -> frozenset[Permission]:
    """Return what rules of a role, or of a FlowSchema, are about."""
    return frozenset(
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


def granted(manifests: list[Manifest], account: str) -> frozenset[Permission]:
    """Return what the roles that are bound to an account allow it."""
    bound = {
        (m["roleRef"]["kind"], m["roleRef"]["name"])
        for m in manifests
        if m["kind"] in ("RoleBinding", "ClusterRoleBinding")
        and any(subject["name"] == account for subject in m["subjects"])
    }
    return permissions(
        rule
        for m in manifests
        if (m["kind"], m["metadata"]["name"]) in bound
        for rule in m["rules"]
    )
