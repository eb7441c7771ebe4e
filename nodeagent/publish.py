"""The agent's side of the API server: its GpuNode and its Lease."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import datetime

import msgspec
import structlog

from nodeagent.api import gpunode, keys, rfc3339
from nodeagent.api.gpunode import GpuNode, Inventory
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, ApiServer, Conflict, NotFound, PatchType
from nodeagent.apiserver.reflector import (
    DEFAULT_PACE,
    Deleted,
    Interrupted,
    Pace,
    Replaced,
    Upserted,
    reflect,
)

log = structlog.get_logger()


class Heard(msgspec.Struct, frozen=True):
    """The GpuNode as the API server has it, None if it has none.

    ``listed`` is whether that was asked for anew: it then holds even if it is older than what was
    heard before, for the API server may have been restored from a backup.
    """

    node: GpuNode | None
    listed: bool = False


class Publisher:
    """Reads the plan of *node*, writes its inventory, and keeps its Lease; *timeout* in seconds."""

    def __init__(
        self, api: ApiServer, node: str, *, timeout: float, pace: Pace = DEFAULT_PACE
    ) -> None:
        self._api = api
        self._node = node
        self._timeout = timeout
        self._pace = pace

    async def follow(self) -> AsyncGenerator[Heard, None]:
        """Yield the GpuNode as it changes, for ever.

        One that cannot be read is left out: the agent goes on by the last one it understood.
        """
        changes = reflect(
            self._api, GPU_NODES, field_selector=f"metadata.name={self._node}", pace=self._pace
        )
        async with contextlib.aclosing(changes):
            async for change in changes:
                match change:
                    case Replaced(objects=()):
                        yield Heard(None, listed=True)
                    case Deleted():
                        yield Heard(None)
                    case Replaced(objects=(found, *_)) | Upserted(object=found):
                        node = _readable(found.raw)
                        if node is not None:
                            yield Heard(node, listed=isinstance(change, Replaced))
                    case Interrupted(error=error):
                        log.warning("plan_unheard", node=self._node, error=str(error))
                    case _:
                        pass

    async def tell(self, node: GpuNode, inventory: Inventory) -> int:
        """Put *inventory* in place of the whole status of that very *node*; return its new version.

        Raises:
            ApiError: an Invalid or NotFound one if the GpuNode is another by now, or none.
        """
        told = await self._api.patch(
            GPU_NODES,
            self._node,
            [
                {"op": "test", "path": "/metadata/uid", "value": node.metadata.uid},
                # "add" where nothing may be yet; a merge would keep fields now left out.
                {"op": "add", "path": "/status", "value": inventory},
            ],
            patch_type=PatchType.JSON,
            subresource="status",
            timeout=self._timeout,
        )
        after = _readable(told)  # what others have written there, we may not understand
        return node.version if after is None else after.version

    async def renew_lease(self, *, holder: str, now: datetime, duration_seconds: int) -> None:
        """Show that the agent lives, for the first time or again.

        Raises:
            ApiError: it could not be shown.
        """
        name = keys.lease_name(self._node)
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration_seconds,
            "renewTime": rfc3339.microseconds(now),
        }
        labels = {keys.AGENT_LABEL: "true"}
        try:
            await self._api.patch(
                LEASES,
                name,
                {"metadata": {"labels": labels}, "spec": spec},
                patch_type=PatchType.MERGE,
                namespace=keys.SYSTEM_NAMESPACE,
                timeout=self._timeout,
            )
        except NotFound:
            # Conflict: created meanwhile; the next renewal is soon enough.
            with contextlib.suppress(Conflict):
                await self._api.create(
                    LEASES,
                    {
                        "apiVersion": f"{LEASES.group}/{LEASES.version}",
                        "kind": "Lease",
                        "metadata": {"name": name, "labels": labels},
                        "spec": spec,
                    },
                    namespace=keys.SYSTEM_NAMESPACE,
                    timeout=self._timeout,
                )


def _readable(raw: bytes) -> GpuNode | None:
    try:
        return gpunode.decode(raw)
    except msgspec.MsgspecError as error:
        log.error("gpunode_unreadable", error=str(error))
        return None
