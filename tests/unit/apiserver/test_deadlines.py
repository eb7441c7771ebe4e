"""A request's time begins with its call, whatever it has to wait for before it is sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from nodeagent.apiserver import credentials
from nodeagent.apiserver.protocol import GPU_NODES, PODS, ApiServer, PatchType, Unavailable
from nodeagent.apiserver.rest import RestApi
from tests.unit.apiserver.conftest import Wire, kubeconfig

REFRESH_SECONDS = 0.3


async def bind(api: ApiServer, *, timeout: float) -> None:
    await api.create(PODS, {}, namespace="ns", name="p", subresource="binding", timeout=timeout)


def told_ms(request: web.Request) -> int:
    """Return the time the server was told it has."""
    return int(request.query["timeout"].removesuffix("ms"))


@pytest.fixture
def slow(wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RestApi:
    """Return an api whose first request has to wait for a plugin to fetch a fresh token."""
    monkeypatch.setattr(credentials, "REFRESH_SECONDS", 0.0)
    fresh = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "fresh"},
    }
    stale = fresh | {"status": {"token": "stale"}}
    opened = tmp_path / "opened"
    script = f"""
        if [ -e {opened} ]; then sleep {REFRESH_SECONDS}; echo '{json.dumps(fresh)}'
        else touch {opened}; echo '{json.dumps(stale)}'; fi
    """
    plugin: dict[str, Any] = {
        "apiVersion": fresh["apiVersion"],
        "command": "/bin/sh",
        "args": ["-c", script],
        "interactiveMode": "Never",
    }
    file = tmp_path / "with-plugin"
    file.write_text(kubeconfig(str(wire.server.make_url("/")), exec=plugin))
    wire.answers(201, {})
    return RestApi(kubeconfig=file)


async def test_a_server_asked_to_write_is_told_how_much_time_is_left(wire: Wire) -> None:
    wire.answers(201, {})
    await bind(wire.api, timeout=1.0)
    await wire.api.patch(GPU_NODES, "n", {}, patch_type=PatchType.MERGE, timeout=2.0)
    await wire.api.delete(GPU_NODES, "n", timeout=3.0)

    for seconds, request in zip((1, 2, 3), wire.asked, strict=True):
        assert 0 < told_ms(request) <= seconds * 1000


async def test_a_read_tells_no_time(wire: Wire) -> None:
    wire.answers(200, {})
    await wire.api.get(GPU_NODES, "n", timeout=1.0)

    assert not wire.asked[0].query


async def test_the_time_for_fresh_credentials_is_not_the_servers(wire: Wire, slow: RestApi) -> None:
    async with slow as api:
        await bind(api, timeout=5.0)

    (request,) = wire.asked
    assert request.headers["Authorization"] == "Bearer fresh"
    assert 0 < told_ms(request) <= (5.0 - REFRESH_SECONDS) * 1000


async def test_without_time_left_for_it_a_write_is_never_sent_and_says_so(
    wire: Wire, slow: RestApi
) -> None:
    async with slow as api:
        with pytest.raises(Unavailable, match="nothing was sent"):
            await bind(api, timeout=REFRESH_SECONDS / 6)
        await asyncio.sleep(2 * REFRESH_SECONDS)

    assert not wire.asked


async def test_credentials_that_come_too_late_for_one_request_serve_the_next(
    wire: Wire, slow: RestApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with slow as api:
        monkeypatch.setattr(credentials, "REFRESH_SECONDS", 60.0)
        with pytest.raises(Unavailable):
            await bind(api, timeout=REFRESH_SECONDS / 6)
        await asyncio.sleep(2 * REFRESH_SECONDS)
        await bind(api, timeout=1.0)

    assert [request.headers["Authorization"] for request in wire.asked] == ["Bearer fresh"]


async def test_the_time_for_a_connection_is_not_the_servers(wire: Wire, tmp_path: Path) -> None:
    """The only connection is taken: one write gets it in time, the other does not."""
    taken, free = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        taken.set()
        await free.wait()
        return web.json_response({})

    wire.handler = answer
    async with (
        RestApi(kubeconfig=tmp_path / "kubeconfig", connections=1) as api,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(api.get(GPU_NODES, "n"))
        await taken.wait()
        tasks.create_task(bind(api, timeout=5.0))
        with pytest.raises(Unavailable, match="nothing was sent"):
            await bind(api, timeout=0.1)
        free.set()

    _, request = wire.asked
    assert 0 < told_ms(request) <= 4950


async def test_a_write_that_was_sent_and_not_answered_does_not_say_otherwise(wire: Wire) -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    wire.handler = hang
    with pytest.raises(Unavailable, match=r"^no answer in time$"):
        await bind(wire.api, timeout=0.1)
