from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from nodeagent.apiserver.rest import RestApi

TOKEN = "token-that-nobody-may-see"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def kubeconfig(server: str, **user: Any) -> str:
    """Write a kubeconfig; JSON is YAML."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": user or {"token": TOKEN}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )


class Wire:
    """A server on loopback that answers as each test says, and a RestApi that asks it."""

    def __init__(self) -> None:
        self.api: RestApi
        self.server: TestServer
        self.handler: Handler
        self.asked: list[web.Request] = []
        self.bodies: list[bytes] = []

    def answers(
        self, status: int, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> None:
        """Answer every request so."""

        async def handler(request: web.Request) -> web.Response:
            return web.json_response(body, status=status, headers=headers)

        self.handler = handler

    def streams(self, *chunks: bytes) -> None:
        """Answer every request with these chunks, then close."""

        async def handler(request: web.Request) -> web.StreamResponse:
            response = await begun(request)
            for chunk in chunks:
                await response.write(chunk)
            return response

        self.handler = handler

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.bodies.append(await request.read())
        return await self.handler(request)


async def begun(request: web.Request, length: int | None = None) -> web.StreamResponse:
    """Begin an answer, in chunks unless its length is said."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = length
    await response.prepare(request)
    return response


def hang_up(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


def status(code: int, message: str = "why", **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "message": message, "details": details}


def node(version: int, **members: Any) -> dict[str, Any]:
    return {"metadata": {"name": "n", "resourceVersion": str(version)}, **members}


@contextlib.asynccontextmanager
async def served(wire: Wire, directory: Path) -> AsyncIterator[None]:
    """Run *wire*'s server, and connect its api to it."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", wire.handle)
    wire.server = TestServer(application)
    async with wire.server:
        file = directory / "kubeconfig"
        file.write_text(kubeconfig(str(wire.server.make_url("/"))))
        async with RestApi(kubeconfig=file, silence_beyond=0.1) as wire.api:
            yield


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    wire = Wire()
    async with served(wire, tmp_path):
        yield wire
