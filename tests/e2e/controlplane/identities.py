"""Who may talk to the API server: names, their tokens, and the files that say so."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

ADMIN = "admin"
SCHEDULER = "system:kube-scheduler"
CONTROLLER_MANAGER = "system:kube-controller-manager"


def service_account(namespace: str, name: str) -> str:
    """Name the user that a service account is."""
    return f"system:serviceaccount:{namespace}:{name}"


def groups(user: str) -> tuple[str, ...]:
    """List the groups of *user* that decide what it may do."""
    match user.split(":"):
        case ["admin"]:
            return ("system:masters",)
        case ["system", "serviceaccount", namespace, _]:
            return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        case _:
            return ()


def tokens(users: Iterable[str]) -> dict[str, str]:
    """Give each user a token."""
    return {user: secrets.token_urlsafe(24) for user in users}


def token_file(tokens: Mapping[str, str]) -> str:
    """Write what ``kube-apiserver --token-auth-file`` reads: token, user, uid, "group,group"."""
    return "".join(
        f'{token},{user},{uid},"{",".join(groups(user))}"\n'
        for uid, (user, token) in enumerate(tokens.items(), start=1)
    )


def kubeconfig(server: str, ca_file: Path, token: str) -> str:
    """Write a kubeconfig of one cluster and one user; JSON is YAML."""
    name = "test"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {"server": server, "certificate-authority": str(ca_file)},
                }
            ],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        },
        indent=2,
    )
