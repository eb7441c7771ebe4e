"""The order of moves, kept in a ConfigMap: people may read it, and every replica finds it."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.cluster.outcome import outcome
from extender.moving import Order
from extender.service.relocation import Kept, OrderChanged
from nodeagent.api import keys
from nodeagent.apiserver.protocol import (
    CONFIG_MAPS,
    ApiServer,
    Conflict,
    Invalid,
    NotFound,
    PatchType,
)

KEY = "order.json"


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _ConfigMap(msgspec.Struct, frozen=True):
    metadata: _Metadata
    data: dict[str, str] = {}


_MAP = msgspec.json.Decoder(_ConfigMap)
_ORDER = msgspec.json.Decoder(Order)


class ApiOrders:
    """The service's :class:`~extender.service.relocation.Orders` over an API server."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api

    async def read(self) -> Kept | None:
        """Return the order as it is kept, None if there has been none."""
        try:
            with outcome(NotFound):
                raw = await self._api.get(
                    CONFIG_MAPS, keys.ORDER_CONFIG_MAP, namespace=keys.SYSTEM_NAMESPACE
                )
                return _kept(raw)
        except NotFound:
            return None

    async def write(self, order: Order, before: Kept | None) -> Kept:
        """Keep an order, by a patch that tests the version of the one *before*."""
        text = msgspec.json.encode(order).decode()
        try:
            with outcome(Conflict, Invalid, NotFound):
                if before is None:
                    raw = await self._create(text)
                else:
                    version = before.version
                    raw = await self._api.patch(
                        CONFIG_MAPS,
                        keys.ORDER_CONFIG_MAP,
                        [
                            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
                            {"op": "add", "path": "/data", "value": {KEY: text}},
                        ],
                        patch_type=PatchType.JSON,
                        namespace=keys.SYSTEM_NAMESPACE,
                    )
                return Kept(order, _MAP.decode(raw).metadata.resource_version)
        except (Conflict, Invalid, NotFound) as error:
            raise OrderChanged(error.message) from error

    async def _create(self, text: str) -> bytes:
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": keys.ORDER_CONFIG_MAP},
            "data": {KEY: text},
        }
        return await self._api.create(CONFIG_MAPS, body, namespace=keys.SYSTEM_NAMESPACE)


def _kept(raw: bytes) -> Kept | None:
    """Read the order; a ConfigMap that somebody has emptied has none."""
    found = _MAP.decode(raw)
    text = found.data.get(KEY, "")
    if not text:
        return None
    return Kept(_ORDER.decode(text), found.metadata.resource_version)
