"""What accounts have asked of the API server, by its own audit log."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from nodeagent.api import keys
from tests.e2e.controlplane.identities import service_account
from tests.manifests.calls import Permission
from tests.manifests.kustomize import Manifest
from tests.manifests.roles import Grant, grants

REFUSED = frozenset({401, 403})


def audited(directory: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the log that a kube-apiserver with these flags writes: of Tangram's accounts.

    What they write to Harvester's devices it has word for word, of all else who asked for what.
    """
    log, policy = directory / "audit.log", directory / "audit-policy.yaml"
    ours = {"userGroups": [f"system:serviceaccounts:{keys.SYSTEM_NAMESPACE}"]}
    devices = {
        "verbs": ["create", "update", "patch", "delete", "deletecollection"],
        "resources": [{"group": "devices.harvesterhci.io"}],
    }
    rules = [ours | devices | {"level": "Request"}, ours | {"level": "Metadata"}]
    body = {"omitStages": ["RequestReceived"], "rules": rules}
    policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", **body}))
    return log, (f"--audit-policy-file={policy}", f"--audit-log-path={log}")


class Request(NamedTuple):
    """What the API server was asked for; namespace and name may be empty."""

    permission: Permission
    namespace: str
    name: str

    def falls_under(self, grant: Grant) -> bool:
        """Tell whether it takes that grant, or may take it."""
        return (
            self.permission == grant.permission
            and grant.namespace in ("", self.namespace)
            and grant.name in ("", self.name)
        )


def requests(log: Path, account: str) -> Mapping[Request, set[int]]:
    """Return what an account of Tangram's has asked for, and the statuses of the answers."""
    user = service_account(keys.SYSTEM_NAMESPACE, account)
    found: dict[Request, set[int]] = collections.defaultdict(set)
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"] == user and "objectRef" in event:
            about = event["objectRef"]
            resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
            permission = (about.get("apiGroup", ""), resource, event["verb"])
            request = Request(permission, about.get("namespace", ""), about.get("name", ""))
            found[request].add(event["responseStatus"]["code"])
    return found


def asked(log: Path, account: str) -> Mapping[Permission, set[int]]:
    """Return the same wherever it was, and of whatever name."""
    found: dict[Permission, set[int]] = collections.defaultdict(set)
    for request, codes in requests(log, account).items():
        found[request.permission] |= codes
    return found


def unused(log: Path, manifests: Iterable[Manifest], account: str) -> frozenset[Grant]:
    """Return what the account's roles allow it, and it has asked for nowhere there."""
    made = [request for request, codes in requests(log, account).items() if codes - REFUSED]
    return frozenset(
        grant
        for grant in grants(manifests, account)
        if not any(request.falls_under(grant) for request in made)
    )


def refusals(log: Path, accounts: Iterable[str]) -> dict[str, set[Permission]]:
    """Return what accounts asked for and were refused; nothing, if roles and policies fit."""
    found = {
        account: {what for what, codes in asked(log, account).items() if codes & REFUSED}
        for account in accounts
    }
    return {account: refused for account, refused in found.items() if refused}


def never_granted(log: Path, accounts: Iterable[str]) -> dict[str, set[Permission]]:
    """Return what accounts asked for and were refused each time.

    An API server that has just started refuses what it has not read the roles of yet.
    """
    found = {
        account: {what for what, codes in asked(log, account).items() if codes <= REFUSED}
        for account in accounts
    }
    return {account: refused for account, refused in found.items() if refused}
