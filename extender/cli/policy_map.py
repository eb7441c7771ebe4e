"""The ConfigMap with the policies, read and written by whoever may, with their own credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nodeagent.apiserver.protocol import (
    CONFIG_MAPS,
    ApiServer,
    Conflict,
    Invalid,
    PatchType,
)

TIMEOUT_SECONDS = 10.0


class ChangedMeanwhile(Exception):
    """Somebody else has written the ConfigMap since it was read: nothing was written."""


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _ConfigMap(msgspec.Struct, frozen=True):
    metadata: _Metadata
    data: dict[str, str] = {}


class PolicyMap(msgspec.Struct, frozen=True):
    """The texts of a ConfigMap as of a version."""

    namespace: str
    name: str
    version: str
    texts: Mapping[str, str]


async def read(api: ApiServer, namespace: str, name: str) -> PolicyMap:
    """Return a ConfigMap's texts.

    Raises:
        ApiError: it cannot be read; ``NotFound`` if there is none.
    """
    raw = await api.get(CONFIG_MAPS, name, namespace=namespace, timeout=TIMEOUT_SECONDS)
    found = msgspec.json.decode(raw, type=_ConfigMap)
    return PolicyMap(namespace, name, found.metadata.resource_version, found.data)


async def write(api: ApiServer, before: PolicyMap, texts: Mapping[str, str]) -> PolicyMap:
    """Write a ConfigMap's texts in one, unless somebody has written it since it was read.

    Raises:
        ChangedMeanwhile: somebody has; nothing was written.
        ApiError: it cannot be written; ``Invalid`` if the API server will not have such texts.
    """
    patch: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": before.version},
        {"op": "replace", "path": "/data", "value": dict(texts)},
    ]
    try:
        raw = await api.patch(
            CONFIG_MAPS,
            before.name,
            patch,
            patch_type=PatchType.JSON,
            namespace=before.namespace,
            timeout=TIMEOUT_SECONDS,
        )
    except (Conflict, Invalid) as error:
        # A test that fails is Invalid, too, and so is a ConfigMap of more than 1 MiB.
        now = await read(api, before.namespace, before.name)
        if now.version == before.version:
            raise
        raise ChangedMeanwhile(
            f"ConfigMap {before.namespace}/{before.name} was changed by somebody else meanwhile:"
            " nothing was written; look again"
        ) from error
    found = msgspec.json.decode(raw, type=_ConfigMap)
    return PolicyMap(before.namespace, before.name, found.metadata.resource_version, found.data)
