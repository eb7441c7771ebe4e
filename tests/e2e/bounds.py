"""An installation with its accounts and policies, for those who try their bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from nodeagent.api import keys
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.installation import Installer
from tests.manifests.kustomize import overlay
from tests.waiting import until

GPU_NODES = f"/apis/{keys.API_VERSION}/{keys.GPU_NODE_PLURAL}"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{keys.SYSTEM_NAMESPACE}/leases"
SYSTEM_PODS = f"/api/v1/namespaces/{keys.SYSTEM_NAMESPACE}/pods"
ENTRY = {
    "id": "a",
    "gpu": "GPU-1",
    "profileId": 19,
    "start": 0,
    "size": 1,
    "resource": "nvidia.com/NVIDIA_H100XM-1-10C",
    "since": "2026-01-01T00:00:00Z",
}
OTHER_ENTRY = ENTRY | {"id": "b", "start": 1}


@asynccontextmanager
async def administered() -> AsyncIterator[tuple[ControlPlane, aiohttp.ClientSession, Installer]]:
    async with control_plane(required_binaries()) as plane, plane.client() as session:
        yield plane, session, Installer(plane, session)


class Caller:
    """Somebody who calls the API server with a token."""

    def __init__(self, session: aiohttp.ClientSession, token: str = "") -> None:
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def post(self, path: str, body: object) -> tuple[int, str]:
        return await self._call("POST", path, body, "application/json")

    async def flow_schema(self, path: str, method: str = "GET") -> str:
        """Return the UID of the FlowSchema that a request falls under."""
        async with self._session.request(method, path, headers=self._headers) as answer:
            return str(answer.headers["X-Kubernetes-PF-FlowSchema-UID"])

    async def merge(self, path: str, body: object) -> tuple[int, str]:
        return await self._call("PATCH", path, body, "application/merge-patch+json")

    async def delete(self, path: str) -> tuple[int, str]:
        return await self._call("DELETE", path, None, "application/json")

    async def _call(self, method: str, path: str, body: object, media: str) -> tuple[int, str]:
        headers = self._headers | {"Content-Type": media}
        async with self._session.request(method, path, json=body, headers=headers) as answer:
            found = await answer.json()
            return answer.status, str(found.get("message", ""))


def gpu_node(name: str, *assignments: object) -> dict[str, Any]:
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.GPU_NODE_KIND,
        "metadata": {"name": name},
        "spec": {"assignments": list(assignments)},
    }


def lease(node: str) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": keys.lease_name(node)},
        "spec": {"holderIdentity": "x"},
    }


class Bounds:
    """An installation, and those who try its bounds: the policies are in force."""

    def __init__(self, session: aiohttp.ClientSession, installer: Installer) -> None:
        self._session = session
        self.installer = installer
        self.admin = Caller(session)

    async def read(self, path: str) -> dict[str, Any]:
        """Return an object, or the Status that says why not."""
        async with self._session.get(path) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def caller(
        self, account: str, pod: str = "", *, namespace: str = keys.SYSTEM_NAMESPACE
    ) -> Caller:
        """Return who has a token of an account, bound to a *pod* as the kubelet's are."""
        return Caller(self._session, await self.installer.token(account, pod, namespace=namespace))


@asynccontextmanager
async def bounded() -> AsyncIterator[Bounds]:
    """Install the default overlay, and wait until its policies are in force."""
    async with administered() as (_, session, installer):
        await installer.install(overlay("default"))
        bounds = Bounds(session, installer)
        for node in ("node-1", "node-2"):
            status, text = await bounds.admin.post("/api/v1/nodes", {"metadata": {"name": node}})
            assert status == 201, text
            await installer.pod(f"agent-{node}", "tangram-agent", node)
        await installer.pod("extender", "tangram-extender", "node-1")
        extender = await bounds.caller("tangram-extender", "extender")
        for node in ("node-1", "node-2"):
            status, text = await extender.post(GPU_NODES, gpu_node(node))
            assert status == 201, text

        # The server takes a policy up some time after it was applied: until each has refused.
        agent = await bounds.caller("tangram-agent", "agent-node-1")
        probes = {"metadata": {"labels": {"x": "y"}}}
        own = f"{SYSTEM_PODS}/extender?dryRun=All"
        other = f"{GPU_NODES}/node-2/status?dryRun=All"

        async def in_force() -> bool:
            return [
                (await agent.merge(other, {"status": {"sequence": 1}}))[0],
                (await extender.merge(own, probes))[0],
                (await bounds.admin.post(f"{GPU_NODES}?dryRun=All", gpu_node("n", ENTRY)))[0],
            ] == [403, 403, 403]

        await until(in_force, within=60, every=0.2)
        yield bounds
