"""The API server's in-memory twin behind HTTP, for extenders in processes of their own.

It speaks as much of a kube-apiserver's HTTP as Tangram's own client uses: lists in pages, watches,
reads, writes and refusals, without TLS and without asking who calls.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import (
    EVENTS,
    GPU_NODES,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
    VIRTUAL_MACHINES,
    ApiError,
    Gone,
    Kind,
    NotFound,
    PatchType,
    WatchEvent,
)

_KINDS = {
    (kind.prefix, kind.plural): kind
    for kind in (
        *(NODES, NAMESPACES, PODS, EVENTS, LEASES, GPU_NODES),
        *(STATEFUL_SETS, REPLICA_SETS, VIRTUAL_MACHINES),
    )
}
LONGEST_BODY = 8 << 20


class _Target(NamedTuple):
    """What a path names."""

    kind: Kind
    namespace: str
    name: str
    subresource: str


@contextlib.asynccontextmanager
async def served(api: InMemoryApi, directory: Path) -> AsyncIterator[Path]:
    """Serve *api* until the block ends; yield a kubeconfig for it, written to *directory*."""
    app = web.Application(client_max_size=LONGEST_BODY)
    app.router.add_route("*", "/{path:.*}", _Door(api).answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        file = directory / "twin.kubeconfig"
        file.write_text(json.dumps(_kubeconfig(f"http://{host}:{port}")))
        yield file
    finally:
        await runner.cleanup()


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "twin", "cluster": {"server": url}}],
        "users": [{"name": "anybody", "user": {}}],
        "contexts": [{"name": "twin", "context": {"cluster": "twin", "user": "anybody"}}],
        "current-context": "twin",
    }


class _Door:
    """Answers requests from the twin."""

    def __init__(self, api: InMemoryApi) -> None:
        self._api = api

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        try:
            target = _target(request.path)
            if request.method != "GET":
                return _json(await self._write(request, target))
            if target.name:
                found = await self._api.get(target.kind, target.name, namespace=target.namespace)
                return _json(found)
            if request.query.get("watch") == "true":
                return await self._watch(request, target)
            return _json(await self._list(request, target))
        except ApiError as error:
            status = error.status or 503
            body = {"kind": "Status", "code": status, "message": error.message}
            return _json(msgspec.json.encode(body), status=status)

    async def _list(self, request: web.Request, target: _Target) -> bytes:
        page = await self._api.list(
            target.kind,
            namespace=target.namespace,
            label_selector=request.query.get("labelSelector", ""),
            field_selector=request.query.get("fieldSelector", ""),
            limit=int(request.query.get("limit", "500")),
            continue_token=request.query.get("continue", ""),
        )
        head = {"resourceVersion": page.resource_version, "continue": page.continue_token}
        items = b",".join(page.items)
        return b'{"metadata":%s,"items":[%s]}' % (msgspec.json.encode(head), items)

    async def _watch(self, request: web.Request, target: _Target) -> web.StreamResponse:
        events = self._api.watch(
            target.kind,
            resource_version=request.query["resourceVersion"],
            namespace=target.namespace,
            label_selector=request.query.get("labelSelector", ""),
            field_selector=request.query.get("fieldSelector", ""),
            timeout=float(request.query.get("timeoutSeconds", "300")),
        )
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        async with contextlib.aclosing(events):
            await response.prepare(request)
            try:
                async for event in events:
                    await response.write(_line(event))
            except Gone as error:
                said = {"kind": "Status", "code": error.status, "message": error.message}
                await response.write(msgspec.json.encode({"type": "ERROR", "object": said}) + b"\n")
            except ConnectionError:
                pass  # whoever watched has gone
        return response

    async def _write(self, request: web.Request, target: _Target) -> bytes:
        body = msgspec.json.decode(await request.read())
        match request.method:
            case "POST":
                return await self._api.create(
                    target.kind,
                    body,
                    name=target.name,
                    subresource=target.subresource,
                    namespace=target.namespace,
                )
            case "PATCH":
                return await self._api.patch(
                    target.kind,
                    target.name,
                    body,
                    patch_type=PatchType(request.content_type),
                    subresource=target.subresource,
                    namespace=target.namespace,
                )
            case "DELETE":
                conditions = body.get("preconditions", {})
                await self._api.delete(
                    target.kind,
                    target.name,
                    uid=conditions.get("uid", ""),
                    resource_version=conditions.get("resourceVersion", ""),
                    grace_seconds=body.get("gracePeriodSeconds"),
                    namespace=target.namespace,
                )
                return b'{"kind":"Status","status":"Success"}'
            case other:
                raise ApiError(405, f"{other} is not spoken here")


def _target(path: str) -> _Target:
    parts = path.strip("/").split("/")
    length = 2 if parts[0] == "api" else 3
    prefix, rest = "/" + "/".join(parts[:length]), parts[length:]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "", "")[:3]
    kind = _KINDS.get((prefix, plural))
    if kind is None:
        raise NotFound(404, f"nothing is served at {path}")
    return _Target(kind, namespace, name, subresource)


def _json(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _line(event: WatchEvent) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (event.type.value.encode(), event.object)
