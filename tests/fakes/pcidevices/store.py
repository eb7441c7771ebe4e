"""The controller's own reads and writes of objects; each may be where it is killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from nodeagent.apiserver.protocol import ApiServer, Body, Kind, NotFound, PatchType
from tests.fakes.pcidevices.objects import Metadata

_T = TypeVar("_T", bound=msgspec.Struct)

Step = Callable[[str], None]
"""Hears of each effect before and after; whatever it raises is where the controller ends."""


class _Head(msgspec.Struct, frozen=True):
    metadata: Metadata


class Store:
    """Objects of *api*. A write of a status fails if the object has changed since it was read."""

    def __init__(self, api: ApiServer, step: Step) -> None:
        self._api = api
        self.step = step

    async def listed(
        self, kind: Kind, of: type[_T], *, label_selector: str = "", namespace: str = ""
    ) -> list[_T]:
        """Return every object that matches."""
        found, token = [], ""
        while True:
            page = await self._api.list(
                kind, label_selector=label_selector, namespace=namespace, continue_token=token
            )
            found += [msgspec.json.decode(raw, type=of) for raw in page.items]
            token = page.continue_token
            if not token:
                return found

    async def found(self, kind: Kind, name: str, of: type[_T], *, namespace: str = "") -> _T | None:
        """Return an object, None if there is none."""
        try:
            raw = await self._api.get(kind, name, namespace=namespace)
        except NotFound:
            return None
        return msgspec.json.decode(raw, type=of)

    async def create(self, kind: Kind, body: Body, *, status: object = None) -> None:
        """Create an object, and then write its status."""
        self.step(f"create {kind.plural}")
        made = await self._api.create(kind, body)
        self.step(f"created {kind.plural}")
        if status is not None:
            head = msgspec.json.decode(made, type=_Head)
            await self.write_status(kind, head.metadata, status)

    async def write_status(self, kind: Kind, metadata: Metadata, status: object) -> str:
        """Replace a status, and return the object's new version."""
        patch: list[Mapping[str, Any]] = [
            {
                "op": "test",
                "path": "/metadata/resourceVersion",
                "value": metadata.resource_version,
            },
            {"op": "add", "path": "/status", "value": msgspec.to_builtins(status)},
        ]
        self.step(f"write status of {kind.plural}")
        raw = await self._api.patch(
            kind, metadata.name, patch, patch_type=PatchType.JSON, subresource="status"
        )
        self.step(f"wrote status of {kind.plural}")
        return msgspec.json.decode(raw, type=_Head).metadata.resource_version

    async def merge(
        self, kind: Kind, name: str, patch: Body, *, namespace: str = "", subresource: str = ""
    ) -> None:
        """Merge *patch* into an object."""
        self.step(f"write {kind.plural}")
        await self._api.patch(
            kind,
            name,
            patch,
            patch_type=PatchType.MERGE,
            namespace=namespace,
            subresource=subresource,
        )
        self.step(f"wrote {kind.plural}")

    async def delete(self, kind: Kind, name: str) -> None:
        """Delete an object that may be gone already."""
        self.step(f"delete {kind.plural}")
        try:
            await self._api.delete(kind, name)
        except NotFound:
            return
        self.step(f"deleted {kind.plural}")
