"""The audit log tells what an account was refused, and which of its permissions it never used."""

from __future__ import annotations

import json
from pathlib import Path

from nodeagent.api import keys
from tests.e2e.audit import never_granted, refusals, unused
from tests.e2e.controlplane.identities import service_account
from tests.manifests.kustomize import Manifest
from tests.manifests.roles import Grant

ACCOUNT = "worker"
LEASES = "coordination.k8s.io"
GET_PODS, LIST_PODS = (("", "pods", verb) for verb in ("get", "list"))
GET_LEASES = (LEASES, "leases", "get")


def role(kind: str, namespace: str, *rules: dict[str, list[str]]) -> list[Manifest]:
    """A role and its binding to the account, in a namespace if there is one."""
    metadata = {"name": "works"} | ({"namespace": namespace} if namespace else {})
    return [
        {"kind": kind, "metadata": metadata, "rules": list(rules)},
        {
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"kind": kind, "name": "works"},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT}],
        },
    ]


PODS_ANYWHERE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
TWO_LEASES = {
    "apiGroups": [LEASES],
    "resources": ["leases"],
    "verbs": ["get"],
    "resourceNames": ["first", "second"],
}
ROLES = [*role("ClusterRole", "", PODS_ANYWHERE), *role("Role", "here", TWO_LEASES)]


def line(verb: str, about: dict[str, str], status: int, account: str = ACCOUNT) -> str:
    return json.dumps(
        {
            "user": {"username": service_account(keys.SYSTEM_NAMESPACE, account)},
            "verb": verb,
            "objectRef": about,
            "responseStatus": {"code": status},
        }
    )


def lease(name: str, namespace: str = "here") -> dict[str, str]:
    return {"apiGroup": LEASES, "resource": "leases", "namespace": namespace, "name": name}


def test_a_permission_is_used_where_it_holds_and_by_its_account_alone(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    everything = {
        Grant(GET_PODS, "", ""),
        Grant(LIST_PODS, "", ""),
        Grant(GET_LEASES, "here", "first"),
        Grant(GET_LEASES, "here", "second"),
    }
    log.write_text("")
    assert unused(log, ROLES, ACCOUNT) == everything

    pods = {"resource": "pods", "namespace": "tenant"}
    lines = [
        line("list", pods, 200),
        line("get", pods | {"name": "vm"}, 200, account="another"),
        line("get", lease("first"), 404),  # it was let in, and there was none
        line("get", lease("second", namespace="there"), 200),
        line("get", lease("second"), 403),
    ]
    log.write_text("\n".join(lines))
    assert unused(log, ROLES, ACCOUNT) == {
        Grant(GET_PODS, "", ""),
        Grant(GET_LEASES, "here", "second"),
    }


def test_a_role_elsewhere_or_of_another_account_grants_nothing(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text("")
    elsewhere, bound = role("Role", "there", TWO_LEASES)[0], role("Role", "here")[1]

    assert unused(log, [elsewhere, bound], ACCOUNT) == frozenset()
    assert unused(log, ROLES, "another") == frozenset()


def test_what_was_refused_is_told_by_account_and_subresource(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    status = {"apiGroup": keys.GROUP, "resource": "gpunodes", "subresource": "status"}
    lines = [
        line("patch", status, 403),
        line("list", {"resource": "pods"}, 401, account="another"),
        line("get", lease("first"), 500),
    ]
    log.write_text("\n".join(lines))

    assert refusals(log, (ACCOUNT, "another", "third")) == {
        ACCOUNT: {(keys.GROUP, "gpunodes/status", "patch")},
        "another": {LIST_PODS},
    }


def test_what_was_granted_now_and_then_was_not_refused_for_good(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    pods = {"resource": "pods"}
    lines = [line("list", pods, 403), line("list", pods, 200), line("get", lease("first"), 403)]
    log.write_text("\n".join(lines))

    assert refusals(log, [ACCOUNT]) == {ACCOUNT: {LIST_PODS, GET_LEASES}}
    assert never_granted(log, [ACCOUNT]) == {ACCOUNT: {GET_LEASES}}
