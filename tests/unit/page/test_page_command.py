"""``tangram page``: from a browser on this machine to the desk of a cluster, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import webbrowser
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import typer
from aiohttp import web
from typer.testing import CliRunner
from yarl import URL

from extender.cli.page import Desk, page
from extender.cluster import KubernetesCluster
from extender.server import desk
from extender.server.forwarding import BeyondReach, forwarding
from extender.service import Service
from extender.service.ports import Feed
from extender.service.reviewer import Access
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.rest import RestApi
from tests.builders import gpu_node
from tests.commands import tangram
from tests.fakes.reviewer import KnowsNobody

SERVICE = "/api/v1/namespaces/tangram-system/services/https:tangram-page:desk/proxy"


class Rights(KnowsNobody):
    """Of two tokens: the kubeconfig's, and the one that is asked for a service account."""

    async def may_get(self, token: str, path: str) -> Access:
        return Access.ALLOWED if token in ("users", "accounts") else Access.UNKNOWN

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        return Access.ALLOWED if token == "accounts" else Access.FORBIDDEN


class ApiServer:
    """As much of an API server as is on the way: its proxy keeps the Authorization header."""

    def __init__(self, desk: str) -> None:
        self._desk = desk
        self.reachable = True
        self.asked: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.raw_path)
        if request.path.endswith("/serviceaccounts/viewer/token"):
            token = {"status": {"token": "accounts"}}
            return web.json_response(token, status=201)
        if not request.raw_path.startswith(SERVICE) or not self.reachable:
            return web.json_response({"message": "no endpoints available"}, status=503)
        beyond = URL(self._desk + request.raw_path.removeprefix(SERVICE), encoded=True)
        headers = {k: v for k, v in request.headers.items() if k not in ("Authorization", "Host")}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as http,
            http.get(beyond, headers=headers) as answer,
        ):
            passed = web.StreamResponse(status=answer.status)
            passed.content_type = answer.content_type
            passed.headers["Set-Cookie"] = "evil=1"
            passed.headers["Cache-Control"] = answer.headers.get("Cache-Control", "")
            await passed.prepare(request)
            async for chunk in answer.content.iter_any():
                await passed.write(chunk)
            return passed


@pytest.fixture
async def service() -> Service:
    made = Service(KubernetesCluster(InMemoryApi()))
    for feed in Feed:
        made.knowledge.feed_synced(feed)
    made.knowledge.node("node-1", cordoned=False)
    made.knowledge.gpu_node(gpu_node("node-1"))
    made.knowledge.lease("node-1", "1")
    return made


@pytest.fixture
async def api_server(service: Service) -> AsyncIterator[tuple[ApiServer, str]]:
    async with desk(service, reviewer=Rights()) as url:
        made = ApiServer(url)
        runner = web.ServerRunner(web.Server(made.handle), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            host, port = runner.addresses[0][:2]
            yield made, f"http://{host}:{port}"
        finally:
            await runner.cleanup()


def kubeconfig(directory: Path, server: str, **user: str) -> Path:
    file = directory / "kubeconfig"
    named = {"cluster": "c", "user": "u"}
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "c", "context": named}],
                "current-context": "c",
            }
        )
    )
    return file


@contextlib.asynccontextmanager
async def opened(file: Path, account: tuple[str, str] = ("", "")) -> AsyncIterator[str]:
    async with RestApi(kubeconfig=file) as api:
        beyond = Desk(api, "tangram-system", "tangram-page:desk", account=account)
        await beyond.answers()
        async with forwarding(beyond) as url:
            yield url


@pytest.fixture
async def address(tmp_path: Path, api_server: tuple[ApiServer, str]) -> AsyncIterator[str]:
    async with opened(kubeconfig(tmp_path, api_server[1], token="users")) as url:
        yield url


def browser() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


async def test_the_browser_sees_the_page_and_the_fleet(address: str) -> None:
    async with browser() as http:
        async with http.get(address) as answer:
            text = await answer.text()
            assert (answer.status, str(answer.url.path), answer.url.query_string) == (200, "/", "")
            assert "<title>Tangram</title>" in text
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "evil" not in answer.headers.get("Set-Cookie", "")
        async with http.get(URL(address).with_path("/api/v1/fleet").with_query({})) as answer:
            told = await answer.json()
    assert [node["name"] for node in told["nodes"]] == ["node-1"]
    assert told["about"]["namespaces"] == []  # the token's bearer may not list all pods


async def test_events_come_as_they_happen(address: str, service: Service) -> None:
    root = URL(address)
    async with browser() as http:
        await (await http.get(address)).read()
        async with http.get(root.with_path("/api/v1/fleet").with_query({})) as answer:
            version = (await answer.json())["version"]
        events = root.with_path("/api/v1/events").with_query({"since": "old"})
        async with http.get(events, headers={"Last-Event-ID": version}) as answer:
            assert answer.content_type == "text/event-stream"
            service.knowledge.node("node-1", cordoned=True)
            async with asyncio.timeout(5):
                async for line in answer.content:
                    if b'"cordoned"' in line:
                        break


async def test_without_the_key_nobody_is_let_in(address: str) -> None:
    root = URL(address).with_query({})
    async with browser() as http:
        for url in (root, root.with_query({"key": "guess"}), root.with_path("/api/v1/fleet")):
            async with http.get(url) as answer:
                assert answer.status == 403


async def test_nothing_is_reached_but_what_the_page_needs(
    address: str, api_server: tuple[ApiServer, str]
) -> None:
    root = f"http://{URL(address).authority}"
    async with browser() as http:
        await (await http.get(address)).read()
        asked = len(api_server[0].asked)
        for path in ("/metrics", "/api/v1/../../../../secrets", "/api/v1/%2e%2e/%2e%2e/x", "//x"):
            async with http.get(URL(root + path, encoded=True)) as answer:
                assert answer.status == 404, path
        async with http.post(f"{root}/api/v1/fleet") as answer:
            assert answer.status == 405
    assert len(api_server[0].asked) == asked


async def test_a_name_made_to_resolve_here_does_not_do(address: str) -> None:
    async with browser() as http:
        await (await http.get(address)).read()
        async with http.get(address, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 421


async def test_a_service_account_may_be_looked_as(
    tmp_path: Path, api_server: tuple[ApiServer, str]
) -> None:
    file = kubeconfig(tmp_path, api_server[1])
    async with opened(file, ("team", "viewer")) as address, browser() as http:
        await (await http.get(address)).read()
        async with http.get(URL(address).with_path("/api/v1/fleet").with_query({})) as answer:
            assert (await answer.json())["about"]["namespaces"] is None


async def test_without_a_token_it_is_said_what_to_do(
    tmp_path: Path, api_server: tuple[ApiServer, str]
) -> None:
    with pytest.raises(BeyondReach, match="give --as NAMESPACE/NAME"):
        async with opened(kubeconfig(tmp_path, api_server[1])):
            pass


async def test_an_extender_that_is_not_there_is_told_with_the_api_servers_words(
    tmp_path: Path, api_server: tuple[ApiServer, str]
) -> None:
    api_server[0].reachable = False
    with pytest.raises(BeyondReach, match=r"503 .* no endpoints available"):
        async with opened(kubeconfig(tmp_path, api_server[1], token="users")):
            pass


async def test_the_command_prints_an_address_and_ends_with_ctrl_c(
    tmp_path: Path, api_server: tuple[ApiServer, str]
) -> None:
    file = kubeconfig(tmp_path, api_server[1], token="users")
    command = ("-m", "extender", "page", "--no-browser", "--kubeconfig", str(file), "-n", "team")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        address = (await process.stdout.readline()).decode().strip()
        async with browser() as http, http.get(address) as answer:
            assert (answer.status, answer.url.query.get("namespace")) == (200, "team")
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert process.returncode == 0, said


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--service", "nonsense"), "NAMESPACE/NAME:PORT"),
        (("--as", "nonsense"), "NAMESPACE/NAME"),
        (("--kubeconfig", "/nowhere"), "no kubeconfig at /nowhere"),
    ],
)
def test_a_wrong_option_is_named_with_its_remedy(arguments: Any, hint: str) -> None:
    ended = tangram("page", *arguments)

    assert ended.exit_code in (1, 2)
    assert hint in " ".join(ended.stderr.replace("│", " ").split())


async def paged(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Any, list[str]]:
    """Run the command in a thread; return what came of it, and what was opened."""
    command, seen = typer.Typer(), list[str]()
    command.command()(page)

    def opened(address: str) -> bool:
        seen.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", opened)
    return await asyncio.to_thread(CliRunner().invoke, command, [*arguments]), seen


async def test_the_page_of_a_desk_that_wants_no_token_is_opened_as_it_is(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(service, reviewer=None) as url:
        result, seen = await paged(monkeypatch, "--desk", f"{url}/", "-n", "team")
        async with aiohttp.ClientSession() as http, http.get(seen[0]) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")

    assert result.exit_code == 0, result.output
    assert seen == [result.stdout.strip()] == [f"{url}/?namespace=team"]


async def test_a_desk_that_wants_a_token_is_not_opened(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(service, reviewer=KnowsNobody()) as url:
        result, seen = await paged(monkeypatch, "--desk", url)

    assert (result.exit_code, seen) == (1, [])
    assert "leave --desk out" in result.stderr


@pytest.mark.parametrize(
    ("url", "says"),
    [("nonsense", "give http(s)://HOST:PORT"), ("http://127.0.0.1:1", "is `tangram serve")],
)
async def test_a_desk_that_does_not_answer_is_named(
    url: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, seen = await paged(monkeypatch, "--desk", url)

    assert (result.exit_code, seen) == (1, [])
    assert says in result.stderr
