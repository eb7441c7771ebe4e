"""Requests as they are sent, and what becomes of every answer that can come back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web

from nodeagent.api.gpunode import Assignment, Plan
from nodeagent.apiserver.answers import LONGEST_MESSAGE
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    PODS,
    ApiError,
    Conflict,
    Gone,
    Invalid,
    NotFound,
    Overloaded,
    PatchType,
    Refused,
    Throttled,
    Unavailable,
)
from tests.unit.apiserver.conftest import TOKEN, Wire, begun, hang_up, node, served, status

BINDING = {"metadata": {"name": "p"}, "target": {"name": "n"}}


# What is sent


async def test_a_read_names_the_object_and_carries_the_token(wire: Wire) -> None:
    wire.answers(200, {"any": "thing"})
    raw = await wire.api.get(PODS, "p", namespace="ns")

    (request,) = wire.asked
    assert (request.method, request.path) == ("GET", "/api/v1/namespaces/ns/pods/p")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Accept-Encoding"] == "identity"
    assert json.loads(raw) == {"any": "thing"}


async def test_a_name_is_no_path(wire: Wire) -> None:
    wire.answers(404, status(404))
    with pytest.raises(NotFound):
        await wire.api.get(GPU_NODES, "../nodes?x=1")
    assert wire.asked[0].raw_path.endswith("/gpunodes/..%2Fnodes%3Fx=1")


async def test_a_list_passes_its_selection_on(wire: Wire) -> None:
    items = [node(1), node(2)]
    wire.answers(200, {"metadata": {"resourceVersion": "9", "continue": "t"}, "items": items})
    page = await wire.api.list(
        GPU_NODES,
        label_selector="a in (b,c)",
        field_selector="metadata.name=n",
        limit=2,
        continue_token="s+/=",
    )

    assert dict(wire.asked[0].query) == {
        "labelSelector": "a in (b,c)",
        "fieldSelector": "metadata.name=n",
        "limit": "2",
        "continue": "s+/=",
    }
    assert [json.loads(item) for item in page.items] == items
    assert (page.resource_version, page.continue_token) == ("9", "t")


@pytest.mark.parametrize("items", [[], None])
async def test_an_empty_list_is_empty(wire: Wire, items: list[Any] | None) -> None:
    wire.answers(200, {"metadata": {"resourceVersion": "9"}, "items": items})
    assert list((await wire.api.list(GPU_NODES)).items) == []


async def test_a_write_is_sent_with_its_body(wire: Wire) -> None:
    wire.answers(201, {})
    await wire.api.create(PODS, BINDING, namespace="ns", name="p", subresource="binding")

    (request,) = wire.asked
    assert (request.method, request.path) == ("POST", "/api/v1/namespaces/ns/pods/p/binding")
    assert list(request.query) == ["timeout"]
    assert json.loads(wire.bodies[0]) == BINDING


async def test_a_patch_may_hold_our_values_and_says_what_it_is(wire: Wire) -> None:
    wire.answers(200, node(1))
    plan = Plan((Assignment("a", "GPU-0", 9, 0, 4, "r", "2026-01-01T00:00:00Z"),))
    await wire.api.patch(
        GPU_NODES,
        "n",
        [{"op": "replace", "path": "/spec", "value": plan}],
        patch_type=PatchType.JSON,
    )
    await wire.api.patch(
        GPU_NODES, "n", {"status": {}}, patch_type=PatchType.MERGE, subresource="status"
    )

    plans, reports = wire.asked
    assert plans.headers["Content-Type"] == "application/json-patch+json"
    assert json.loads(wire.bodies[0])[0]["value"]["assignments"][0]["profileId"] == 9
    assert reports.headers["Content-Type"] == "application/merge-patch+json"
    assert reports.path.endswith("/gpunodes/n/status")


async def test_a_deletion_carries_its_conditions(wire: Wire) -> None:
    wire.answers(200, {})
    await wire.api.delete(PODS, "p", namespace="ns", uid="u", grace_seconds=0)
    await wire.api.delete(GPU_NODES, "n")

    conditions, none = (json.loads(body) for body in wire.bodies)
    assert conditions["preconditions"] == {"uid": "u"}
    assert conditions["gracePeriodSeconds"] == 0
    assert none == {"apiVersion": "v1", "kind": "DeleteOptions"}


# What comes back instead of an answer


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (302, Unavailable),
        (400, Refused),
        (401, Refused),
        (403, Refused),
        (404, NotFound),
        (405, Refused),
        (408, Unavailable),
        (409, Conflict),
        (410, Gone),
        (413, Refused),
        (422, Invalid),
        (429, Throttled),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
async def test_each_status_has_its_meaning(wire: Wire, code: int, error: type[ApiError]) -> None:
    wire.answers(code, status(code))
    with pytest.raises(error) as raised:
        await wire.api.create(GPU_NODES, {})
    assert type(raised.value) is error
    assert (raised.value.status, raised.value.message) == (code, "why")
    assert len(wire.asked) == 1


async def test_throttling_says_when_to_come_back(wire: Wire) -> None:
    wire.answers(429, status(429, retryAfterSeconds=9), headers={"Retry-After": "3"})
    with pytest.raises(Throttled) as raised:
        await wire.api.get(GPU_NODES, "n")
    assert raised.value.retry_after == 3.0

    wire.answers(429, status(429, retryAfterSeconds=9))
    with pytest.raises(Throttled) as raised:
        await wire.api.get(GPU_NODES, "n")
    assert raised.value.retry_after == 9.0


async def test_flow_control_is_told_from_who_refuses_one_thing(wire: Wire) -> None:
    """It comes before whatever is asked, and writes no Status."""

    async def crowded(request: web.Request) -> web.Response:
        text = "Too many requests, please try again later.\n"
        return web.Response(status=429, text=text, headers={"Retry-After": "1"})

    wire.handler = crowded
    with pytest.raises(Overloaded) as raised:
        await wire.api.create(GPU_NODES, {})
    assert (raised.value.status, raised.value.retry_after) == (429, 1.0)
    assert raised.value.message == "too many requests"


async def test_a_message_is_bounded(wire: Wire) -> None:
    wire.answers(422, status(422, "x" * 100_000))
    with pytest.raises(Invalid) as raised:
        await wire.api.get(GPU_NODES, "n")
    assert len(raised.value.message) == LONGEST_MESSAGE


async def test_an_error_from_something_in_between_is_not_quoted(wire: Wire) -> None:
    async def proxy(request: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>bad gateway</html>", content_type="text/html")

    wire.handler = proxy
    with pytest.raises(Unavailable) as raised:
        await wire.api.get(GPU_NODES, "n")
    assert (raised.value.status, raised.value.message) == (502, "an answer that is no Status")


async def test_a_page_for_people_is_no_answer(wire: Wire) -> None:
    async def portal(request: web.Request) -> web.Response:
        return web.Response(text="<html>log in here</html>", content_type="text/html")

    wire.handler = portal
    with pytest.raises(Unavailable, match="text/html"):
        await wire.api.get(GPU_NODES, "n")


async def test_a_redirect_is_not_followed_with_our_token(wire: Wire) -> None:
    wire.answers(307, status(307), headers={"Location": "/elsewhere"})
    with pytest.raises(Unavailable):
        await wire.api.get(GPU_NODES, "n")
    assert len(wire.asked) == 1


async def test_a_list_that_is_none_is_unavailable(wire: Wire) -> None:
    wire.answers(200, {"items": "nonsense"})
    with pytest.raises(Unavailable, match="not a list"):
        await wire.api.list(GPU_NODES)


async def test_an_answer_that_breaks_off_is_unavailable_and_has_its_cause(wire: Wire) -> None:
    async def breaking(request: web.Request) -> web.StreamResponse:
        response = await begun(request, length=1000)
        await response.write(b'{"half": ')
        hang_up(request)
        return response

    wire.handler = breaking
    with pytest.raises(Unavailable) as raised:
        await wire.api.patch(GPU_NODES, "n", {}, patch_type=PatchType.MERGE)
    assert isinstance(raised.value.__cause__, aiohttp.ClientError)
    assert raised.value.status == 0


async def test_a_server_that_hangs_is_unavailable(wire: Wire) -> None:
    async def hanging(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    wire.handler = hanging
    with pytest.raises(Unavailable, match="no answer in time") as raised:
        await wire.api.create(GPU_NODES, {}, timeout=0.05)
    assert isinstance(raised.value.__cause__, TimeoutError)


async def test_a_server_that_is_not_there_is_unavailable(wire: Wire) -> None:
    await wire.server.close()
    with pytest.raises(Unavailable) as raised:
        await wire.api.get(GPU_NODES, "n")
    assert isinstance(raised.value.__cause__, aiohttp.ClientConnectorError)
    with pytest.raises(Unavailable):
        await anext(wire.api.watch(GPU_NODES, resource_version="1"))


def test_it_runs_on_uvloop_too(tmp_path: Path) -> None:
    async def asked() -> bytes:
        wire = Wire()
        wire.answers(200, {})
        async with served(wire, tmp_path):
            return await wire.api.get(GPU_NODES, "n")

    assert uvloop.run(asked()) == b"{}"
