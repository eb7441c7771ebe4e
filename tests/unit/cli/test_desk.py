"""Commands that ask a desk: straight, through an API server, and what they say when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner, Result

from extender.cli.main import app
from extender.cluster import KubernetesCluster
from extender.server import desk
from extender.service import Service
from extender.service.ports import Feed, PodFacts
from extender.service.reviewer import Access
from extender.wire import ExtenderArgs
from nodeagent.apiserver.memory import InMemoryApi
from tests.builders import raw_pod, request
from tests.explained import Small, Vm

TOKEN = "a-token"
PROXY = "/api/v1/namespaces/tangram-system/services/https:tangram-page:desk/proxy"


class OneToken:
    """Lets in who shows the one token."""

    async def may_get(self, token: str, path: str) -> Access:
        return Access.ALLOWED if token == TOKEN else Access.UNKNOWN

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        return await self.may_get(token, "")

    async def may_list_gpu_nodes(self, token: str) -> Access:
        return await self.may_get(token, "")

    async def may_move(self, token: str) -> Access:
        return await self.may_get(token, "")

    async def who(self, token: str) -> str:
        return token

    async def may_get_pods(self, token: str, namespace: str) -> Access:
        return Access.FORBIDDEN if namespace == "secret" else await self.may_get(token, "")


@pytest.fixture
async def service() -> Service:
    """An extender that knows two nodes, a VM in the way, and a pod that is refused for it."""
    made = Service(KubernetesCluster(InMemoryApi()))
    knowledge = made.knowledge
    for feed in Feed:
        knowledge.feed_synced(feed)
    small = Small.of(
        [Vm("x", 19, "a", 0, 4), Vm("big", 5, "a", 0, 0), Vm("y", 0, "b", 0, 0)], a=1, b=1
    )
    for name, there in small.views.items():
        knowledge.node(name, cordoned=False)
        knowledge.lease(name, "1")
        knowledge.gpu_node(there.node)
    for vm in small.vms.values():
        asked = request("1-10C", pod=vm.name)
        knowledge.pod(PodFacts(asked.pod, asked, vm.node, "Running"))
    asked = request("3-40C", pod="me")
    knowledge.pod(PodFacts(asked.pod, asked))
    return made


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    async with desk(service, reviewer=OneToken()) as url:
        yield url


async def run(*args: str, **env: str) -> Result:
    """Run a command in a thread, while the desk answers here."""
    plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", **env}
    return await asyncio.to_thread(CliRunner(env=plain).invoke, app, list(args))


async def test_explain_prints_sentences_and_the_nodes_in_counts(url: str) -> None:
    result = await run("explain", "name-me", "--desk", url, "--token", TOKEN)

    assert result.exit_code == 0, result.output
    assert "default/name-me is refused." in result.output
    assert "It asks for 1 x nvidia.com/NVIDIA_H100XM-3-40C (3g.40gb): 4 memory slices." in (
        result.output
    )
    words = " ".join(result.output.split())
    assert "1 x H100-80GB 2 no free placement for nvidia.com/NVIDIA_H100XM-3-40C (a, …)" in words
    assert "2 nodes with 2 GPUs looked at." in result.output


async def test_the_token_and_the_desk_may_come_from_the_environment(url: str) -> None:
    result = await run("explain", "name-me", TANGRAM_TOKEN=TOKEN, TANGRAM_DESK=url)

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
async def test_programs_read_the_same(url: str, output: str, read: Callable[[str], object]) -> None:
    said = read(
        (await run("explain", "name-me", "-o", output, "--desk", url, "--token", TOKEN)).output
    )
    rows = read((await run("nodes", "-o", output, "--desk", url, "--token", TOKEN)).output)

    assert isinstance(said, dict)
    assert said["state"] == "refused"
    assert said["missing"]["needed"] == 4
    assert isinstance(rows, list)
    assert [row["name"] for row in rows] == ["a", "b"]


async def test_nodes_are_a_table_with_what_fits(url: str, service: Service) -> None:
    service.knowledge.node("b", cordoned=True)
    result = await run("nodes", "--desk", url, "--token", TOKEN)

    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    (a,) = (line for line in lines if line.lstrip().startswith("a "))
    (b,) = (line for line in lines if line.lstrip().startswith("b "))
    assert "5/8" in a
    assert "cordoned" in b
    assert "2 nodes, 1 ready; 13 of 16 memory slices used" in result.output

    only = await run("nodes", "--not-ready", "-o", "json", "--desk", url, "--token", TOKEN)
    assert [row["name"] for row in json.loads(only.output)] == ["b"]


async def test_top_prints_one_screen_where_there_is_no_terminal(url: str) -> None:
    result = await run("top", "--desk", url, "--token", TOKEN)

    assert result.exit_code == 0, result.output
    assert "pods wait" in result.output
    assert result.output.index("b ") < result.output.index("8/8")


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
async def test_top_tells_programs_what_it_shows_once(
    service: Service, url: str, output: str, read: Callable[[str], Any]
) -> None:
    asked = {"Pod": raw_pod("3-40C", name="name-me", uid="uid-me"), "NodeNames": ["a", "b"]}
    service.hooks.filter(msgspec.convert(asked, ExtenderArgs))
    result = await run("top", "-o", output, "--desk", url, "--token", TOKEN)

    told = read(result.output)
    assert (told["policy"], told["pending"], told["refused"]) == ("default", 1, 1)
    assert [(row["name"], row["used"]) for row in told["nodes"]] == [("b", 8), ("a", 5)]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["explain", "name-me"], "give --token"),
        (["explain", "nobody", "--token", TOKEN], "no pod default/nobody is known"),
        (["explain", "x", "-n", "secret", "--token", TOKEN], "you may not get pods in namespace"),
        (["nodes", "--token", "wrong"], "give --token"),
        (["top"], "give --token"),
    ],
)
async def test_a_refusal_says_what_to_do(url: str, args: list[str], says: str) -> None:
    result = await run(*args, "--desk", url)

    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stderr.startswith(f"tangram {args[0]}: ")


@pytest.mark.parametrize(
    ("desk", "says"),
    [
        ("http://127.0.0.1:1", "tangram demo --serve` running there?"),
        ("127.0.0.1:8444", "give http(s)://HOST:PORT"),
        ("http://example.test:8444", "use https"),
    ],
)
async def test_a_desk_that_cannot_be_asked_is_told_how_to(desk: str, says: str) -> None:
    result = await run("nodes", "--desk", desk, "--token", TOKEN)

    assert result.exit_code == 1
    assert says in result.stderr


async def test_the_token_follows_no_redirect(url: str) -> None:
    seen = []

    async def elsewhere(asked: web.Request) -> web.Response:
        seen.append(asked.headers)
        raise web.HTTPFound(url + "/api/v1/nodes")

    routes = web.Application()
    routes.router.add_get("/api/v1/nodes", elsewhere)
    async with TestServer(routes) as there:
        result = await run("nodes", "--desk", str(there.make_url("/")), "--token", TOKEN)

    assert len(seen) == 1
    assert result.exit_code == 1


@contextlib.asynccontextmanager
async def api_server(behind: str) -> AsyncIterator[str]:
    """An API server that proxies to the desk as a real one does: without the Authorization."""

    async def proxied(asked: web.Request) -> web.Response:
        if asked.headers.get("Authorization") not in (None, f"Bearer {TOKEN}"):
            return web.json_response({"message": "Unauthorized"}, status=401)
        headers = {name: value for name, value in asked.headers.items() if name != "Authorization"}
        path = asked.match_info["path"]
        async with (
            ClientSession() as http,
            http.get(f"{behind}/{path}", params=asked.query, headers=headers) as answer,
        ):
            body = await answer.read()
            return web.Response(body=body, status=answer.status, content_type=answer.content_type)

    routes = web.Application()
    routes.router.add_get(PROXY + "/{path:.*}", proxied)
    async with TestServer(routes) as server:
        yield str(server.make_url("")).rstrip("/")


def kubeconfig(path: Path, server: str, **user: str) -> str:
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(body))
    return str(path)


async def test_a_cluster_is_asked_through_its_api_server(url: str, tmp_path: Path) -> None:
    async with api_server(url) as server:
        config = kubeconfig(tmp_path / "config", server, token=TOKEN)
        result = await run("explain", "name-me", "--kubeconfig", config)
        missing = await run("explain", "nobody", "--kubeconfig", config)

    assert result.exit_code == 0, result.output
    assert "is refused" in result.output
    assert "no pod default/nobody is known" in missing.stderr


async def test_a_kubeconfig_without_a_token_is_told_of_another_way(
    url: str, tmp_path: Path
) -> None:
    async with api_server(url) as server:
        config = kubeconfig(tmp_path / "config", server)
        result = await run("nodes", "--kubeconfig", config)
        given = await run("nodes", "--kubeconfig", config, "--token", TOKEN)

    assert result.exit_code == 1
    assert "kubectl create token" in result.stderr
    assert given.exit_code == 0, given.output


async def test_without_any_kubeconfig_the_options_are_named(tmp_path: Path) -> None:
    result = await run("nodes", "--kubeconfig", str(tmp_path / "none"))

    assert result.exit_code == 1
    assert "give --kubeconfig, or --desk URL" in result.stderr


async def test_an_answer_of_another_version_is_told_from_no_answer() -> None:
    async def other(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Something"})

    routes = web.Application()
    routes.router.add_get("/api/v1/nodes", other)
    async with TestServer(routes) as there:
        result = await run("nodes", "--desk", str(there.make_url("/")))

    assert result.exit_code == 1
    assert "is the extender of another version?" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_each_shell_is_given_a_script_that_completes_commands(shell: str) -> None:
    script = await run("completion", shell)

    assert script.exit_code == 0
    assert "_TANGRAM_COMPLETE" in script.output
    assert "tangram" in script.output


async def test_what_is_typed_is_completed() -> None:
    completed = await run(
        _TANGRAM_COMPLETE="complete_bash", COMP_WORDS="tangram expl", COMP_CWORD="1"
    )
    assert "explain" in completed.output.split()
