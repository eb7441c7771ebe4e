"""What accounts may do, and where, read from the manifests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.manifests.calls import Permission
from tests.manifests.kustomize import Manifest


class Grant(NamedTuple):
    """A permission, and where it holds."""

    permission: Permission
    namespace: str
    """Empty where it holds in all of them, or for what is in none."""
    name: str
    """Of the only object it is about; empty for any."""


def permissions(rules: Iterable[dict[str, list[str]]]) -> frozenset[Permission]:
    """Return what rules of a role, or of a FlowSchema, are about."""
    return frozenset(
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


def grants(manifests: Iterable[Manifest], account: str) -> frozenset[Grant]:
    """Return what the roles that are bound to an account allow it, and where."""
    everything = list(manifests)
    return frozenset(
        Grant(permission, namespace, name)
        for namespace, rule in _rules(everything, account)
        for permission in permissions([rule])
        for name in rule.get("resourceNames", [""])
    )


def granted(manifests: Iterable[Manifest], account: str) -> frozenset[Permission]:
    """Return what the roles that are bound to an account allow it, somewhere."""
    return frozenset(each.permission for each in grants(manifests, account))


def _rules(manifests: list[Manifest], account: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yield each rule that holds for an account, and in which namespace its binding lets it."""
    for binding in manifests:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        if all(subject["name"] != account for subject in binding["subjects"]):
            continue
        namespace = binding["metadata"].get("namespace", "")
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        home = namespace if kind == "Role" else ""
        for role in manifests:
            metadata = role["metadata"]
            if (role["kind"], metadata["name"], metadata.get("namespace", "")) == (
                kind,
                name,
                home,
            ):
                yield from ((namespace, rule) for rule in role["rules"])
