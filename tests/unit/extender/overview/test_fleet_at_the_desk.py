"""The fleet at the desk: whole, as it changes, and as much as its reader may know."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from extender import wire
from extender.server import desk, drawing, fleet
from extender.server.access import MOST_NAMESPACES, PASSED_ON
from extender.server.packed import takes_gzip
from extender.service import Service
from extender.service.ports import ClusterUnavailable
from extender.service.reviewer import Access
from tests.builders import assignment, gpu_node, raw_pod
from tests.fakes.reviewer import KnowsNobody
from tests.waiting import until


class Rights(KnowsNobody):
    """Who may list which namespaces' pods; everybody may GET every path."""

    def __init__(self, **namespaces: str) -> None:
        self.namespaces = namespaces
        self.down = False
        self.asked = 0

    async def may_get(self, token: str, path: str) -> Access:
        if path.startswith("/api"):
            return Access.ALLOWED  # as Kubernetes' own system:discovery has it
        return Access.ALLOWED if token in self.namespaces else Access.FORBIDDEN

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        self.asked += 1
        if self.down:
            raise ClusterUnavailable("etcd is away")
        allowed = self.namespaces.get(token)
        return Access.ALLOWED if allowed in ("*", namespace) else Access.FORBIDDEN


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    async with desk(service, reviewer=None) as url:
        yield url


async def get(url: str, path: str, **headers: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(
            f"{url}{path}", headers={k.replace("_", "-"): v for k, v in headers.items()}
        ) as it,
    ):
        text = await it.text()
        return it.status, json.loads(text) if it.content_type == "application/json" else text


@contextlib.asynccontextmanager
async def listening(url: str, query: str = "", **headers: str) -> AsyncIterator[Any]:
    """Yield a function that returns the next event: its name, id and document."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}/api/v1/events{query}", headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()

        async def event() -> tuple[str, str, Any]:
            found: dict[str, str] = {}
            async with asyncio.timeout(5):
                async for raw in answer.content:
                    line = raw.decode().strip()
                    if line:
                        name, _, value = line.partition(": ")
                        found[name] = value
                    elif "event" in found:
                        document = json.loads(found["data"])
                        return found["event"], found.get("id", ""), document
                    else:
                        found.clear()
            raise AssertionError("the stream has ended")

        yield event


def filtered(service: Service, uid: str, namespace: str = "default") -> None:
    pod = raw_pod("7-80C", name=f"launcher-{uid}", uid=uid, namespace=namespace)
    args = wire.decode(
        json.dumps({"Pod": pod, "NodeNames": ["node-1"]}).encode(), wire.ExtenderArgs
    )
    service.hooks.filter(args)


async def test_the_fleet_is_told_whole(service: Service, url: str) -> None:
    service.knowledge.gpu_node(
        gpu_node("node-1", gpus=2, plan=[assignment("a", 9, 4)], generation=2, version=2)
    )
    status, told = await get(url, "/api/v1/fleet")

    assert status == 200
    (node,) = told["nodes"]
    assert node["gpus"][0]["instances"] == [
        {
            "profile": "3g.40gb",
            "start": 4,
            "size": 4,
            "state": "starting",
            "namespace": "default",
            "vm": "name-pod-1",
            "pod": "name-pod-1",
        }
    ]
    assert {"model": "H100-80GB", "profile": "7g.80gb", "count": 1} in node["fits"]
    geometry = told["geometries"][node["gpus"][0]["geometry"]]
    assert geometry["memorySlices"] == 8
    assert told["about"]["namespaces"] is None


async def test_pods_that_wait_are_told_with_the_reason(service: Service, url: str) -> None:
    filtered(service, "fits")
    full = [assignment(id, 0, 0, gpu=gpu) for id, gpu in (("a", "GPU-0"), ("b", "GPU-1"))]
    service.knowledge.gpu_node(gpu_node("node-1", gpus=2, plan=full, generation=2, version=2))
    filtered(service, "waits")

    _, told = await get(url, "/api/v1/fleet")

    placed, refused = told["pending"]
    assert (placed["pod"], "codes" in placed) == ("launcher-fits", False)
    assert refused["codes"] == ["no-room"]
    assert refused["reasons"] == ["vGPU: no free placement for nvidia.com/NVIDIA_H100XM-7-80C"]
    assert refused["since"].endswith("Z")


async def test_pods_that_wait_are_told_with_the_profiles_that_would_serve_them(
    service: Service, url: str
) -> None:
    filtered(service, "waits")

    _, told = await get(url, "/api/v1/fleet")

    assert [pod["profiles"] for pod in told["pending"]] == [["7g.80gb"]]


async def test_of_many_pods_that_wait_the_first_are_told_and_how_many_there_are(
    service: Service, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MOST_PENDING", 3)
    for at in range(5):
        filtered(service, f"waits-{at}")

    _, told = await get(url, "/api/v1/fleet")
    async with listening(url, f"?since={told['version']}") as event:
        _, _, change = await event()

    for each in (told, change):
        assert [pod["uid"] for pod in each["pending"]] == ["waits-0", "waits-1", "waits-2"]
        assert each["pendingTotal"] == 5


async def test_pods_of_others_take_no_place_among_those_a_reader_is_told_of(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MOST_PENDING", 2)
    for at in range(4):
        filtered(service, f"theirs-{at}", "theirs")
    filtered(service, "mine", "default")
    async with desk(service, reviewer=Rights(ops="*", mine="default")) as url:

        async def seen(token: str, query: str = "") -> tuple[list[str], int]:
            _, told = await get(url, f"/api/v1/fleet{query}", Authorization=f"Bearer {token}")
            return [pod["uid"] for pod in told["pending"]], told["pendingTotal"]

        assert await seen("ops") == (["theirs-0", "theirs-1"], 5)
        assert await seen("mine", "?namespace=default") == (["mine"], 1)
        assert await seen("mine") == ([], 0)


async def test_a_change_is_told_to_who_listens(service: Service, url: str) -> None:
    _, whole = await get(url, "/api/v1/fleet")
    async with listening(url, f"?since={whole['version']}") as event:
        _, first, document = await event()
        assert document["nodes"] == []
        service.knowledge.node("node-1", cordoned=True)

        name, second, document = await event()

    assert name == "change"
    assert first == whole["version"] != second
    assert [(n["name"], n["state"]) for n in document["nodes"]] == [("node-1", "cordoned")]


async def test_a_node_that_is_gone_is_told(service: Service, url: str) -> None:
    _, whole = await get(url, "/api/v1/fleet")
    service.knowledge.gpu_node_deleted("node-1", "uid-1")

    async with listening(url, f"?since={whole['version']}") as event:
        _, _, document = await event()

    assert document["gone"] == ["node-1"]


async def test_who_comes_back_hears_what_they_missed_and_not_more(
    service: Service, url: str
) -> None:
    for name in ("node-2", "node-3"):
        service.knowledge.gpu_node(gpu_node(name, uid=name))
    _, whole = await get(url, "/api/v1/fleet")
    service.knowledge.lease("node-3", "1")  # it is not stale any more

    # The header is what the browser sends when it connects anew; it goes before the address.
    async with listening(url, "?since=never", **{"Last-Event-ID": whole["version"]}) as event:
        _, _, document = await event()

    assert [node["name"] for node in document["nodes"]] == ["node-3"]


@pytest.mark.parametrize("since", ["", "0badf00d.1", "nonsense", "{epoch}.999", "{epoch}.-1"])
async def test_who_knows_a_state_that_is_not_known_here_is_told_to_begin_anew(
    url: str, since: str
) -> None:
    _, whole = await get(url, "/api/v1/fleet")
    epoch = whole["version"].partition(".")[0]

    async with listening(url, f"?since={since.format(epoch=epoch)}") as event:
        assert (await event())[0] == "reload"


async def test_changes_of_many_nodes_come_in_portions_and_the_last_has_the_id(
    service: Service, url: str
) -> None:
    _, whole = await get(url, "/api/v1/fleet")
    names = [f"node-{at}" for at in range(10, 20)]
    for name in names:
        service.knowledge.gpu_node(gpu_node(name, uid=name))

    heard: list[str] = []
    async with listening(url, f"?since={whole['version']}") as event:
        while len(heard) < len(names):
            _, id, document = await event()
            heard += [node["name"] for node in document["nodes"]]
            assert bool(id) == (len(heard) == len(names))

    assert heard == names


async def test_no_more_readers_than_the_desk_has_room_for(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(fleet, "MOST_READERS", 1)
    _, whole = await get(url, "/api/v1/fleet")
    async with listening(url, f"?since={whole['version']}"):
        status, text = await get(url, "/api/v1/events")
        assert (status, "readers" in text) == (503, True)


async def test_a_reader_who_takes_nothing_is_cut_off_and_makes_room_for_another(
    monkeypatch: pytest.MonkeyPatch, service: Service, url: str
) -> None:
    monkeypatch.setattr(fleet, "MOST_READERS", 1)
    monkeypatch.setattr(fleet, "WRITE_SECONDS", 0.5)
    monkeypatch.setattr(fleet, "LOOK_SECONDS", 0.001)
    names = [f"node-{at}" for at in range(10, 210)]
    for name in names:
        service.knowledge.gpu_node(gpu_node(name, gpus=8, uid=name))
    _, whole = await get(url, "/api/v1/fleet")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((url.split(":")[1].strip("/"), int(url.split(":")[2])))
        asks = f"GET /api/v1/events?since={whole['version']} HTTP/1.1\r\nHost: desk\r\n\r\n"
        deaf.sendall(asks.encode())

        async def heard() -> bool:
            for name in names:  # what is written is more than any socket's buffer, in the end
                service.knowledge.node(name, cordoned=not service.knowledge.nodes.get(name))
            return (await get(url, "/api/v1/events?since=x"))[0] == 200

        async def refused() -> bool:
            return (await get(url, "/api/v1/events?since=x"))[0] == 503

        await until(refused)
        await until(heard, every=0.01)
        deaf.setblocking(False)
        assert await ends(deaf)  # what it has not taken is dropped, and so is the connection


async def ends(client: socket.socket) -> bool:
    """Tell whether a connection ends, once all that has come by it is read."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            while await loop.sock_recv(client, 1 << 20):
                pass
        return True


async def test_a_tenant_sees_the_vms_of_its_namespaces_alone(service: Service) -> None:
    service.knowledge.gpu_node(
        gpu_node("node-1", plan=[assignment("a", 9, 4)], generation=2, version=2)
    )
    filtered(service, "waits")
    rights = Rights(ops="*", mine="default", theirs="theirs")
    async with desk(service, reviewer=rights) as url:

        async def seen(token: str, query: str) -> tuple[Any, int, Any]:
            _, told = await get(url, f"/api/v1/fleet{query}", Authorization=f"Bearer {token}")
            (there,) = told["nodes"][0]["gpus"][0]["instances"]
            return there.get("vm"), len(told["pending"]), told["about"]["namespaces"]

        assert await seen("ops", "") == ("name-pod-1", 1, None)
        assert await seen("mine", "?namespace=default") == ("name-pod-1", 1, ["default"])
        assert await seen("mine", "") == (None, 0, [])
        assert await seen("theirs", "?namespace=default&namespace=theirs") == (None, 0, ["theirs"])
        async with listening(
            url, "?since=x&namespace=default", Authorization="Bearer theirs"
        ) as event:
            assert await event() == ("reload", "", {})


async def test_a_token_may_come_by_the_api_servers_proxy(service: Service) -> None:
    async with desk(service, reviewer=Rights(ops="*")) as url:
        assert (await get(url, "/api/v1/fleet"))[0] == 403
        assert (await get(url, "/api/v1/fleet", **{PASSED_ON: "Bearer ops"}))[0] == 200


async def test_that_everybody_may_get_what_is_below_api_opens_nothing(service: Service) -> None:
    async with desk(service, reviewer=Rights(ops="*")) as url:
        for path in ("/api/v1/fleet", "/api/v1/events"):
            status, text = await get(url, path, Authorization="Bearer stranger")
            assert (status, "you may not GET /fleet" in text) == (403, True)


async def test_without_the_api_servers_word_nobody_sees_anything(service: Service) -> None:
    rights = Rights(ops="*")
    rights.down = True
    async with desk(service, reviewer=rights) as url:
        for path in ("/api/v1/fleet", "/api/v1/events"):
            assert (await get(url, path, Authorization="Bearer ops"))[0] == 503


async def test_a_reader_names_few_namespaces(service: Service) -> None:
    rights = Rights(mine="default")
    many = "&".join(f"namespace=n{at}" for at in range(MOST_NAMESPACES + 1))
    async with desk(service, reviewer=rights) as url:
        status, _ = await get(url, f"/api/v1/fleet?{many}", Authorization="Bearer mine")
    assert (status, rights.asked) == (400, 0)


async def test_the_page_is_open_and_may_load_nothing_from_elsewhere(service: Service) -> None:
    async with (
        desk(service, reviewer=Rights()) as url,
        aiohttp.ClientSession() as http,
        http.get(f"{url}/") as answer,
    ):
        headers: Mapping[str, str] = answer.headers
        text = await answer.text()

    assert answer.status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "://" not in text  # of any other place
    assert "<script>" not in text


async def raw(url: str, path: str, accepted: str) -> tuple[Mapping[str, str], bytes]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.get(f"{url}{path}", headers={"Accept-Encoding": accepted}) as answer,
    ):
        assert answer.status == 200
        return answer.headers, await answer.read()


@pytest.mark.parametrize("path", ["/api/v1/fleet", "/api/v1/nodes"])
async def test_who_takes_gzip_is_told_the_same_packed(
    service: Service, url: str, path: str
) -> None:
    for at in range(60):
        service.knowledge.node(f"more-{at}", cordoned=False)
        service.knowledge.gpu_node(gpu_node(f"more-{at}", gpus=8))

    head, packed = await raw(url, path, "br, gzip;q=0.5")
    plain_head, plain = await raw(url, path, "identity")

    assert head["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain_head
    assert {head["Vary"], plain_head["Vary"]} == {"Accept-Encoding"}
    assert gzip.decompress(packed) == plain
    assert 5 * len(packed) < len(plain)


async def test_events_are_never_packed_for_they_would_wait_for_more(url: str) -> None:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.get(f"{url}/api/v1/events", headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        assert "Content-Encoding" not in answer.headers
        assert await answer.content.readline() == b"retry: 2000\n"


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip, deflate, br", True),
        ("GZIP", True),
        ("br;q=1.0, gzip;q=0.2, *;q=0", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=much", False),
    ],
)
def test_gzip_is_taken_by_whom_http_says(accepted: str, takes: bool) -> None:
    assert takes_gzip(accepted) is takes
