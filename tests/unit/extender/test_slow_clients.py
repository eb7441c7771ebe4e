"""Clients that are slow, silent or many: the hooks answer the others all the same."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from extender.server import Limits, serving
from extender.service import Service
from extender.settings import Settings
from tests.fakes.raw_http import FILTER, RawClient, connected, request
from tests.waiting import until

HASTY = Limits(
    head_seconds=0.05,
    body_seconds=0.05,
    write_seconds=0.05,
    linger_seconds=0.01,
    keepalive_seconds=30.0,
)
BIND = b'{"PodName":"gone","PodNamespace":"default","PodUID":"u","Node":"node-1"}'


@contextlib.asynccontextmanager
async def hooks(
    service: Service, limits: Limits = HASTY, *, count: int = 1
) -> AsyncIterator[tuple[str, list[RawClient]]]:
    async with serving(service, limits=limits) as url, connected(url, count=count) as clients:
        yield url, clients


async def answers(url: str) -> None:
    """A client like kube-scheduler gets its answer, on a connection of its own."""
    async with asyncio.timeout(5), connected(url) as [client]:
        client.send(request())
        status, headers, _ = await client.answer()
        assert (status, headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param("POST", id="in the method"),
        pytest.param("POST /filter HTTP/1.1\r\nHost: x\r\n", id="in the headers"),
        pytest.param("\r\n", id="before it"),
    ],
)
async def test_a_head_that_does_not_end_is_cut_off(service: Service, begun: str) -> None:
    with capture_logs() as logs:
        async with hooks(service) as (url, [client]), asyncio.timeout(5):
            client.send(begun)
            await client.cut_off()
            await answers(url)

    [event] = [each for each in logs if each["event"] == "slow_client_cut"]
    assert event["waiting_for"] == "the request's head"


async def test_dripping_the_head_does_not_help(service: Service) -> None:
    async with hooks(service) as (_, [client]), asyncio.timeout(5):
        client.send("POST /filter HTTP/1.1\r\n")
        cut = asyncio.create_task(client.cut_off())
        while not cut.done():
            client.send("X-A: b\r\n")
            await asyncio.sleep(0.005)
        await cut


async def test_a_client_is_not_cut_off_because_we_are_late_ourselves(service: Service) -> None:
    async with hooks(service) as (_, [client]), asyncio.timeout(5):
        whole = request()
        client.send(whole[:20])
        await asyncio.sleep(0.01)
        client.send(whole[20:])
        time.sleep(2 * HASTY.head_seconds)  # noqa: ASYNC251 - the loop does nothing meanwhile

        assert (await client.answer())[0] == 200


async def test_a_body_that_does_not_come_is_answered_408(service: Service) -> None:
    async with hooks(service) as (url, [client]), asyncio.timeout(5):
        client.send(request(FILTER[:100], length=len(FILTER)))
        await answers(url)
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (408, "close")
        await client.cut_off()


async def test_a_chunked_body_that_does_not_end_is_answered_408(service: Service) -> None:
    async with hooks(service) as (_, [client]), asyncio.timeout(5):
        head = "POST /filter HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(f"{head}1\r\n{{\r\n")
        assert (await client.answer())[0] == 408


@pytest.mark.parametrize("rest", ["zz\r\n", "5\r\n{}xxxyyy"])
async def test_a_chunked_body_with_a_bad_chunk_is_answered_400(service: Service, rest: str) -> None:
    async with hooks(service) as (_, [client]), asyncio.timeout(5):
        head = "POST /filter HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(f"{head}1\r\n{{\r\n{rest}")
        assert (await client.answer())[0] == 400


async def test_a_client_that_leaves_amid_its_body_is_not_our_failure(service: Service) -> None:
    with capture_logs() as logs:
        async with hooks(service) as (url, [client]), asyncio.timeout(5):
            client.send(request(FILTER[:100], length=len(FILTER)))
            await asyncio.sleep(0.01)
            client.writer.transport.abort()
            await until(lambda: any(e["event"] == "malformed_request" for e in logs))
            await answers(url)

    assert not [each for each in logs if each["log_level"] == "error"]


async def test_whoever_does_not_take_the_answer_is_cut_off(service: Service) -> None:
    names = b",".join(b'"%d"' % n for n in range(99_000))
    large = FILTER.replace(b'"node-1"', names)
    with capture_logs() as logs:
        async with serving(service, limits=HASTY) as url, asyncio.timeout(10):
            port = int(url.rpartition(":")[2])
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, ("127.0.0.1", port))
                await loop.sock_sendall(client, request(large))
                await until(lambda: any(e["event"] == "slow_client_cut" for e in logs))
                await answers(url)

    assert [e["waiting_for"] for e in logs if e["event"] == "slow_client_cut"] == [
        "its answer to be taken"
    ]


async def test_an_idle_connection_outlives_every_deadline_but_the_keepalive(
    service: Service,
) -> None:
    limits = Limits(head_seconds=0.02, body_seconds=0.02, keepalive_seconds=30.0)
    async with hooks(service, limits) as (_, [client]), asyncio.timeout(5):
        for _ in range(3):
            await asyncio.sleep(0.05)
            client.send(request())
            assert (await client.answer())[0] == 200


def test_an_idle_connection_is_kept_for_longer_than_go_keeps_it() -> None:
    assert Limits().keepalive_seconds > 90


async def test_an_idle_connection_ends_with_the_keepalive(service: Service) -> None:
    limits = Limits(keepalive_seconds=0.05)
    async with hooks(service, limits, count=2) as (_, [used, unused]), asyncio.timeout(5):
        used.send(request())
        await used.answer()
        await used.cut_off()
        await unused.cut_off()


async def test_a_bind_that_waits_is_no_slow_client(service: Service) -> None:
    """Every deadline passes while the bind waits for its agent."""
    service.settings = service.knowledge.settings = Settings(http_timeout_seconds=2.0)
    async with hooks(service) as (_, [client]), asyncio.timeout(5):
        held = asyncio.Event()

        async def read_pod(namespace: str, name: str) -> None:
            await asyncio.sleep(0.3)
            held.set()

        service.binder._cluster.read_pod = read_pod  # type: ignore[method-assign]
        client.send(request(BIND, path="/bind"))
        status, _, body = await client.answer()

    assert held.is_set()
    assert (status, body) == (200, b'{"Error":"vGPU: the pod is gone"}')


async def test_a_thousand_idle_connections_do_not_stop_the_hooks(service: Service) -> None:
    limits = Limits(connections=300)
    with capture_logs() as logs:
        async with hooks(service, limits, count=1000) as (url, clients):
            await answers(url)
            cut = [asyncio.create_task(client.cut_off()) for client in clients]
            await until(lambda: sum(task.done() for task in cut) >= 701)
            for task in cut:
                task.cancel()

    events = [each for each in logs if each["event"] == "connection_limit_reached"]
    assert [(e["limit"], e["gives_way"]) for e in events] == [(300, "one that is idle")]


async def test_a_thousand_halves_of_requests_do_not_stop_the_hooks(service: Service) -> None:
    patient = Limits(connections=300, head_seconds=60.0, body_seconds=60.0)
    async with hooks(service, patient, count=1000) as (url, clients):
        for n, client in enumerate(clients):
            whole = request()
            client.send(whole[: n % len(whole)])
        await answers(url)


async def test_the_proven_connection_outlives_newcomers_that_ask_nothing(service: Service) -> None:
    limits = Limits(connections=10)
    async with hooks(service, limits) as (url, [scheduler]):
        scheduler.send(request())
        await scheduler.answer()
        async with connected(url, count=50) as strangers, asyncio.timeout(5):
            await strangers[0].cut_off()
            scheduler.send(request())
            assert (await scheduler.answer())[0] == 200


async def test_where_all_wait_for_answers_the_newcomer_is_turned_away(service: Service) -> None:
    release = asyncio.Event()
    waiting = 0

    async def read_pod(namespace: str, name: str) -> None:
        nonlocal waiting
        waiting += 1
        await release.wait()

    service.binder._cluster.read_pod = read_pod  # type: ignore[method-assign]
    with capture_logs() as logs:
        async with hooks(service, Limits(connections=3), count=3) as (url, binds):
            for n, client in enumerate(binds):
                body = BIND.replace(b'"u"', b'"u%d"' % n)
                client.send(request(body, path="/bind"))
            await until(lambda: waiting == 3)
            async with connected(url) as [newcomer], asyncio.timeout(5):
                await newcomer.cut_off()
            release.set()
            assert [(await client.answer())[0] for client in binds] == [200, 200, 200]

    [event] = [each for each in logs if each["event"] == "connection_limit_reached"]
    assert event["gives_way"] == "the newcomer"


async def test_as_many_binds_as_a_scheduler_was_seen_to_open_all_fit(service: Service) -> None:
    with capture_logs() as logs:
        async with hooks(service, Limits(), count=176) as (_, clients):
            for client in clients:
                client.send(request(BIND, path="/bind"))
            assert {(await client.answer())[0] for client in clients} == {200}

    assert not [each for each in logs if each["event"] == "connection_limit_reached"]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"POST /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n", id="a long path"),
        pytest.param(
            b"POST /filter HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
            id="a long header",
        ),
        pytest.param(
            b"POST /filter HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n", id="many headers"
        ),
        pytest.param(
            b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n{}",
            id="two lengths",
        ),
        pytest.param(
            b"POST /filter HTTP/1.1\r\nContent-Length: -1\r\n\r\n", id="a negative length"
        ),
        pytest.param(b"\x00" * 100, id="NUL"),
    ],
)
async def test_what_is_not_http_is_a_400_and_the_end_of_the_connection(
    service: Service, sent: bytes
) -> None:
    with capture_logs() as logs:
        async with hooks(service) as (url, [client]), asyncio.timeout(5):
            client.send(sent)
            status, _, body = await client.answer()
            assert status == 400
            assert body == b"not HTTP as this server speaks it\n"
            await client.cut_off()
            await answers(url)

    assert [each["event"] for each in logs if each["log_level"] == "warning"] == ["malformed_http"]


async def test_a_body_above_the_limit_is_refused_before_it_is_read(service: Service) -> None:
    service.settings = Settings(body_limit_bytes=10_000)
    async with hooks(service) as (_, [client]), asyncio.timeout(5):
        client.send(request(b"", length=10_001))
        status, _, body = await client.answer()

    assert (status, body) == (413, b"above 10000 bytes\n")
