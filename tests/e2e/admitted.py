"""The default overlay's webhook where a real API server asks it, and somebody who creates pods."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp

from extender.admission import Schedulers
from extender.server import Certificates, admitting
from nodeagent.api import keys
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.installation import Installer, point_webhook
from tests.manifests.kustomize import overlay
from tests.waiting import until

PODS = "/api/v1/namespaces/default/pods"
TRIAL = {"dryRun": "All"}
VGPU = "nvidia.com/NVIDIA_H100XM-1-10C"
Answer = tuple[int, dict[str, Any]]


def pod(resource: str, *, first: bool = False, **spec: Any) -> dict[str, Any]:
    """A pod that asks for a resource, in a container or in the *first* one, which initialises."""
    plain = {"name": "plain", "image": "none"}
    asking = plain | {"name": "asking", "resources": {"limits": {resource: "1"}}}
    containers = {"initContainers": [asking]} if first else {}
    return {
        "metadata": {"generateName": "vm-"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [plain] if first else [plain, asking],
            **containers,
            **spec,
        },
    }


class Tenant:
    """Somebody who creates pods; beside them is the webhook, which can go and come back."""

    def __init__(self, session: aiohttp.ClientSession, plane: ControlPlane) -> None:
        self.plane = plane
        self._session = session
        pair = plane.authority.issue("webhook")
        self._tls = Certificates(pair.public, pair.key, None)
        self._open = AsyncExitStack()
        self.port = 0

    async def webhook_comes(self) -> None:
        door = admitting(Schedulers("tangram"), port=self.port, tls=self._tls)
        url = await self._open.enter_async_context(door)
        self.port = int(url.rpartition(":")[2].partition("/")[0])

    async def webhook_goes(self) -> None:
        await self._open.aclose()

    @asynccontextmanager
    async def without_webhook(self) -> AsyncIterator[None]:
        """Have it be away until the block ends."""
        await self.webhook_goes()
        try:
            yield
        finally:
            await self.webhook_comes()

    async def tries(self, body: Mapping[str, Any]) -> Answer:
        """Create a pod for trial only."""
        return await self.asks("POST", PODS, body, TRIAL)

    async def asks(
        self, method: str, path: str, body: object = None, query: Mapping[str, str] | None = None
    ) -> Answer:
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        async with self._session.request(
            method, path, json=body, params=query, headers={"Content-Type": media}
        ) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def tenancy() -> AsyncIterator[Tenant]:
    async with control_plane(required_binaries()) as plane, plane.client() as session:
        tenant = Tenant(session, plane)
        await tenant.webhook_comes()
        try:
            manifests = copy.deepcopy(overlay("default"))
            point_webhook(manifests, tenant.port, plane.ca_file)
            await Installer(plane, session).install(manifests)

            async def labelled() -> bool:
                _, answer = await tenant.tries(pod(VGPU))
                return keys.MANAGED_LABEL in answer["metadata"].get("labels", {})

            await until(labelled, within=60, every=0.1)
            yield tenant
        finally:
            await tenant.webhook_goes()
