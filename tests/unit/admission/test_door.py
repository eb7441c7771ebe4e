"""The webhook's door: TLS, and what hostile bodies and silent clients come to."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from extender.admission import Schedulers
from extender.server import Certificates, Limits, admitting
from extender.server.admitting import BODY_LIMIT_BYTES, SMALL_BYTES
from nodeagent.api import keys
from tests.builders import as_json
from tests.e2e.controlplane.certificates import Authority
from tests.fakes.raw_http import connected, dial, request
from tests.unit.admission.test_judge import pod
from tests.unit.admission.test_review import raw

TANGRAM = Schedulers("tangram")
QUESTION = as_json(raw(object=pod()))


async def test_the_api_server_is_answered_over_tls_and_needs_no_certificate(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    trust = ssl.create_default_context(cafile=authority.file)
    async with (
        admitting(TANGRAM, tls=Certificates(pair.public, pair.key, None)) as url,
        aiohttp.ClientSession() as http,
        http.post(f"{url}?timeout=5s", data=QUESTION, ssl=trust) as answer,
    ):
        assert url.startswith("https://")
        assert (answer.status, answer.content_type) == (200, "application/json")
        patch = json.loads(base64.b64decode((await answer.json())["response"]["patch"]))
        assert {"op": "add", "path": "/spec/schedulerName", "value": "tangram"} in patch
        assert patch[0]["value"] == {keys.MANAGED_LABEL: "true"}


async def test_a_refusal_is_logged_and_told() -> None:
    question = as_json(raw(object=pod(nodeName="node-1")))
    with capture_logs() as logs:
        async with (
            admitting(TANGRAM) as url,
            aiohttp.ClientSession() as http,
            http.post(url, data=question) as answer,
        ):
            response = (await answer.json())["response"]

    assert response["allowed"] is False
    (event,) = (each for each in logs if each["event"] == "pod_refused")
    assert (event["namespace"], event["reason"]) == ("tenant", response["status"]["message"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"[" * 100_000, 400),
        (b'{"request": "\xff"}', 400),
        (b" " * (BODY_LIMIT_BYTES + 1), 413),
    ],
)
async def test_what_is_no_question_changes_nothing_and_the_next_is_answered(
    body: bytes, status: int
) -> None:
    async with admitting(TANGRAM) as url, aiohttp.ClientSession() as http:
        async with http.post(url, data=io.BytesIO(body)) as answer:
            assert answer.status == status
        async with http.post(url, data=QUESTION) as answer:
            assert answer.status == 200


async def test_a_body_without_a_length_is_bounded_too() -> None:
    async def chunks() -> object:
        for _ in range(BODY_LIMIT_BYTES // 65536 + 2):
            yield b" " * 65536

    async with (
        admitting(TANGRAM) as url,
        aiohttp.ClientSession() as http,
        http.post(url, data=chunks()) as answer,
    ):
        assert answer.status == 413


def crowded(containers: int) -> bytes:
    """A question about a pod of ours with so many more containers."""
    body = pod()
    body["spec"]["containers"] += [{"name": f"c{index}"} for index in range(containers)]
    return as_json(raw(object=body))


async def test_large_questions_wait_for_their_turn_and_small_ones_do_not() -> None:
    limits = Limits(connections=8, body_seconds=0.2)
    once = admitting(TANGRAM, limits=limits, share=1e-9)  # no other large one for long
    async with once as url, aiohttp.ClientSession() as http:
        statuses = []
        for body in (crowded(5_000), crowded(5_000), QUESTION):
            async with http.post(url, data=body) as answer:
                statuses.append(answer.status)

    assert len(crowded(5_000)) > SMALL_BYTES > len(QUESTION)
    assert statuses == [200, 503, 200]


async def test_a_door_that_is_about_to_close_answers_each_connection_once_more() -> None:
    began, over = asyncio.Event(), asyncio.Event()

    async def parting() -> None:
        began.set()
        await over.wait()

    question = request(QUESTION, path="/pods")
    async with AsyncExitStack() as door:
        url = await door.enter_async_context(admitting(TANGRAM, parting=parting))
        async with connected(url, count=2) as (busy, idle):
            for client in (busy, idle):
                client.send(question)
                status, headers, _ = await client.answer()
                assert (status, headers.get("connection")) == (200, None)

            closing = asyncio.create_task(door.pop_all().aclose())
            await began.wait()
            async with connected(url) as (new,):
                for client in (busy, new):
                    client.send(question)
                    status, headers, _ = await client.answer()
                    assert (status, headers.get("connection")) == (200, "close")
                    await client.cut_off()

            over.set()
            await idle.cut_off()
            await closing
            with pytest.raises(OSError, match="Connect call failed"):
                await dial(url)


async def test_a_door_that_closes_for_an_error_keeps_nobody_waiting() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(LookupError):
        async with admitting(TANGRAM, parting=never):
            raise LookupError


async def test_nothing_else_is_answered_here() -> None:
    async with admitting(TANGRAM) as url, aiohttp.ClientSession() as http:
        for path in ("filter", "bind", "metrics", "openapi.json", ""):
            async with http.post(f"{url.removesuffix('/pods')}/{path}", data=b"{}") as answer:
                assert answer.status == 404
        async with http.get(url) as answer:
            assert answer.status == 405


async def test_clients_that_send_nothing_keep_nobody_out() -> None:
    limits = Limits(connections=4, body_seconds=5.0)
    async with (
        admitting(TANGRAM, limits=limits) as url,
        connected(url, count=20),
        aiohttp.ClientSession() as http,
        http.post(url, data=QUESTION) as answer,
    ):
        assert answer.status == 200


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    limits = Limits(connections=4, body_seconds=0.05)
    async with admitting(TANGRAM, limits=limits) as url, connected(url) as (client,):
        client.send("POST /pods HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        status, _, _ = await client.answer()
        assert status == 408
