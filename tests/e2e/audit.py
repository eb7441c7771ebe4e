"""What accounts have asked of the API server, by its own audit log."""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping
from pathlib import Path

from nodeagent.api import keys
from tests.e2e.controlplane.identities import service_account
from tests.manifests.calls import Permission

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


def asked(log: Path, account: str) -> Mapping[Permission, set[int]]:
    """Return what an account of Tangram's has asked for, and the statuses of the answers."""
    user = service_account(keys.SYSTEM_NAMESPACE, account)
    found: dict[Permission, set[int]] = collections.defaultdict(set)
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"] == user and "objectRef" in event:
            about = event["objectRef"]
            resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
            permission = (about.get("apiGroup", ""), resource, event["verb"])
            found[permission].add(event["responseStatus"]["code"])
    return found
