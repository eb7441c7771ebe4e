"""A real API server: every verb as an HTTP request, every answer as its bytes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import msgspec

from nodeagent.apiserver import answers
from nodeagent.apiserver.connection import JSON, Connection, Relayed
from nodeagent.apiserver.protocol import Body, Kind, Page, PatchType, WatchEvent

BOOKMARK_EVERY_SECONDS: Final = 60.0  # kube-apiserver's defaultBookmarkFrequency
SILENCE_BEYOND_SECONDS: Final = 30.0  # for a late bookmark; after that nobody is there


class RestApi:
    """An :class:`~nodeagent.apiserver.protocol.ApiServer`, to be entered in a running event loop.

    Without *kubeconfig* it uses the pod's service account where there is one, else what kubectl
    would use. Each watch, and each request under way, takes one of *connections*; a watch that
    hears nothing for *silence_beyond* seconds more than it is to the next bookmark takes the server
    for dead.
    """

    def __init__(
        self,
        *,
        kubeconfig: Path | None = None,
        connections: int = 32,
        silence_beyond: float = SILENCE_BEYOND_SECONDS,
    ) -> None:
        self._connection = Connection(kubeconfig, connections)
        self._silence_beyond = silence_beyond

    async def __aenter__(self) -> Self:
        """Load the credentials; nothing is sent yet.

        Raises:
            Refused: there are none that can be used.
        """
        await self._connection.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        await self._connection.close()

    async def get(
        self, kind: Kind, name: str, *, namespace: str = "", timeout: float = 10.0
    ) -> bytes:
        """Return the object's JSON."""
        return await self._connection.ask("GET", _path(kind, namespace, name), timeout=timeout)

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        continue_token: str = "",
        timeout: float = 30.0,
    ) -> Page:
        """Return one page of the objects."""
        query = _selected(label_selector, field_selector) | {"limit": str(limit)}
        if continue_token:
            query["continue"] = continue_token
        path = _path(kind, namespace)
        return answers.page(await self._connection.ask("GET", path, query, timeout=timeout))

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout: float = 300.0,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what changes after *resource_version*, bookmarks included, until *timeout*.

        A server that closes the connection ends it in peace; one that breaks it, or says nothing
        for longer than it is to the next bookmark, is Unavailable.
        """
        query = _selected(label_selector, field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(timeout))),
        }
        silence = min(timeout, BOOKMARK_EVERY_SECONDS) + self._silence_beyond
        async with self._connection.stream(_path(kind, namespace), query, silence) as lines:
            yield answers.bookmark(resource_version)
            async for line in lines:
                yield answers.watch_event(line)

    async def create(
        self,
        kind: Kind,
        body: Body,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
        timeout: float = 10.0,
    ) -> bytes:
        """Create an object (or, with *name* and *subresource*, such as a binding)."""
        path = _path(kind, namespace, name, subresource)
        query = {"dryRun": "All"} if dry_run else {}  # of the body's, webhooks are not told
        return await self._write("POST", path, body, timeout, query=query)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Body | Sequence[Body],
        *,
        patch_type: PatchType,
        namespace: str = "",
        subresource: str = "",
        timeout: float = 10.0,
    ) -> bytes:
        """Patch an object and return it as it is afterwards."""
        path = _path(kind, namespace, name, subresource)
        return await self._write("PATCH", path, patch, timeout, patch_type)

    async def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Delete an object; with *uid*, only if that is still its UID."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        conditions = {"uid": uid, "resourceVersion": resource_version}
        if uid or resource_version:
            options["preconditions"] = {name: it for name, it in conditions.items() if it}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        await self._write("DELETE", _path(kind, namespace, name), options, timeout)

    @contextlib.asynccontextmanager
    async def service(
        self,
        namespace: str,
        name: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        *,
        silence: float = 60.0,
        method: str = "GET",
        body: bytes | None = None,
    ) -> AsyncIterator[Relayed]:
        """Ask for a *path* of a service through the API server, and give the answer as it comes.

        *name* is a service as the API server's proxy names it (``https:name:port``). The proxy
        keeps the Authorization header for itself. *silence* is in seconds.
        """
        there = f"/api/v1/namespaces/{quote(namespace, safe='')}/services/{quote(name, safe=':')}"
        whole = f"{there}/proxy{path}"
        async with self._connection.relay(
            whole, query, headers, silence, method=method, body=body
        ) as answer:
            yield answer

    async def bearer(self) -> str:
        """Return the bearer token shown to the API server, "" where that is shown none."""
        return await self._connection.bearer()

    async def _write(
        self,
        method: str,
        path: str,
        body: Any,
        timeout: float,
        media_type: str = JSON,
        *,
        query: Mapping[str, str] | None = None,
    ) -> bytes:
        encoded = msgspec.json.encode(body)
        return await self._connection.ask(
            method, path, query or {}, body=encoded, media_type=media_type, timeout=timeout
        )


def _path(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    parts = [kind.prefix]
    if namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(kind.plural)
    parts += [quote(part, safe="") for part in (name, subresource) if part]
    return "/".join(parts)


def _selected(label_selector: str, field_selector: str) -> dict[str, str]:
    query = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in query.items() if value}
