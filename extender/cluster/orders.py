"""The order of moves, kept in a ConfigMap: people may read it, and every replica finds it.

One that they have written themselves, and that cannot be read, is none: nothing is moved for it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import structlog

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

log = structlog.get_logger()

KEY = "order.json"


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _ConfigMap(msgspec.Struct, frozen=True):
    metadata: _Metadata
    data: dict[str, str] | None = None


_MAP = msgspec.json.Decoder(_ConfigMap)
_ORDER = msgspec.json.Decoder(Order)


class ApiOrders:
    """The service's :class:`~extender.service.relocation.Orders` over an API server."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api

    async def read(self) -> Kept | None:
        """Return the order as it is kept, None if there has been none."""
        found = await self._found()
        return None if found is None else _kept(found)

    async def write(self, order: Order, before: Kept | None) -> Kept:
        """Keep an order, by a patch that tests the version of the one *before*."""
        text = msgspec.json.encode(order).decode()
        try:
            with outcome(Conflict, Invalid, NotFound):
                version = await self._free() if before is None else before.version
                if not version:
                    raw = await self._create(text)
                else:
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

    async def _found(self) -> _ConfigMap | None:
        try:
            with outcome(NotFound):
                raw = await self._api.get(
                    CONFIG_MAPS, keys.ORDER_CONFIG_MAP, namespace=keys.SYSTEM_NAMESPACE
                )
                return _MAP.decode(raw)
        except NotFound:
            return None

    async def _free(self) -> str:
        """Return the version of a ConfigMap that has no order, "" where there is none at all.

        Raises:
            OrderChanged: it has one.
        """
        found = await self._found()
        if found is not None and _kept(found) is not None:
            raise OrderChanged("there is an order by now")
        return "" if found is None else found.metadata.resource_version

    async def _create(self, text: str) -> bytes:
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": keys.ORDER_CONFIG_MAP},
            "data": {KEY: text},
        }
        return await self._api.create(CONFIG_MAPS, body, namespace=keys.SYSTEM_NAMESPACE)


def _kept(found: _ConfigMap) -> Kept | None:
    """Read the order; a ConfigMap that somebody has emptied, or written nonsense to, has none."""
    text = (found.data or {}).get(KEY, "")
    if not text:
        return None
    try:
        order = _ORDER.decode(text)
        if not all(datetime.fromisoformat(each).tzinfo for each in order.begun):
            raise ValueError("begun: a time has no zone")
    except (msgspec.MsgspecError, ValueError) as error:
        log.warning("order_unreadable", config_map=keys.ORDER_CONFIG_MAP, error=str(error))
        return None
    return Kept(order, found.metadata.resource_version)
