"""The way of a user to the extender's desk: through the API server, as far as RBAC lets them."""

from __future__ import annotations

import ipaddress
import json
import socket
from typing import Any

import pytest

from nodeagent.api import keys
from tests.e2e.stack import Stack

ALICE = "alice"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces"


def own_address() -> str:
    """Return an address of this machine's that the API server lets an endpoint have."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect(("192.0.2.1", 9))  # nothing is sent: it only tells which way it would go
        except OSError:
            pytest.skip("this machine has no address but loopback, where no endpoint may be")
        address = str(way.getsockname()[0])
    if ipaddress.ip_address(address).is_loopback:
        pytest.skip("this machine has no address but loopback, where no endpoint may be")
    return address


async def post(running: Stack, path: str, body: dict[str, Any]) -> None:
    async with running.plane.client() as http, http.post(path, json=body) as answer:
        assert answer.status == 201, await answer.text()


async def lead_to_the_desk(running: Stack, port: int) -> None:
    """Make the Service of the manifests, and what a controller would make of it in a cluster.

    The API server's proxy goes to no address that is not that of a pod in the same namespace.
    """
    address, pod = own_address(), next(iter(running.extenders))
    namespace = f"/api/v1/namespaces/{keys.SYSTEM_NAMESPACE}"
    name, ports = "tangram-page", [{"name": "desk", "port": 8444}]
    service = {"metadata": {"name": name}, "spec": {"ports": ports}}
    await post(running, f"{namespace}/services", service)
    ip = {"status": {"podIP": address, "podIPs": [{"ip": address}]}}
    async with (
        running.plane.client() as http,
        http.patch(
            f"{namespace}/pods/{pod}/status",
            data=json.dumps(ip),
            headers={"Content-Type": "application/merge-patch+json"},
        ) as answer,
    ):
        assert answer.status == 200, await answer.text()
    whose = {"kind": "Pod", "namespace": keys.SYSTEM_NAMESPACE, "name": pod}
    there = [{"name": "desk", "port": port}]
    subsets = [{"addresses": [{"ip": address, "targetRef": whose}], "ports": there}]
    await post(running, f"{namespace}/endpoints", {"metadata": {"name": name}, "subsets": subsets})
    end = {"addresses": [address], "conditions": {"ready": True}, "targetRef": whose}
    await post(
        running,
        f"/apis/discovery.k8s.io/v1/namespaces/{keys.SYSTEM_NAMESPACE}/endpointslices",
        {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [end],
            "ports": there,
        },
    )


async def allow(running: Stack, namespace: str, rule: dict[str, list[str]]) -> None:
    """Let Alice do something in a namespace."""
    name = f"alice-{rule['resources'][0].replace('/', '-')}"
    role = {"metadata": {"name": name}, "rules": [rule]}
    await post(running, f"{RBAC}/{namespace}/roles", role)
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "name": ALICE}],
    }
    await post(running, f"{RBAC}/{namespace}/rolebindings", binding)


async def allow_everywhere(running: Stack, rule: dict[str, list[str]]) -> None:
    """Let Alice do something with what is in no namespace."""
    group = "/apis/rbac.authorization.k8s.io/v1"
    name = f"alice-{rule['resources'][0]}"
    await post(running, f"{group}/clusterroles", {"metadata": {"name": name}, "rules": [rule]})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "name": ALICE}],
    }
    await post(running, f"{group}/clusterrolebindings", binding)
