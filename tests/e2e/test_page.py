"""The page of a real cluster, as a user with the roles of the manifests and no others opens it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from nodeagent.api import keys
from tests.e2e.desk import ALICE, allow, allow_everywhere, lead_to_the_desk, post
from tests.e2e.process import ROOT
from tests.e2e.stack import RESOURCES, Stack, artifacts, free_port, stack
from tests.waiting import until

SMALL = next(profile for profile, name in RESOURCES.items() if name.endswith("-1-10C"))
RBAC = "rbac.authorization.k8s.io"
VIEWER, PAGE = "tangram-viewer", "tangram-page"


async def let_view(running: Stack) -> None:
    """Bind Alice to the manifests' roles as the README says."""
    system = f"/apis/{RBAC}/v1/namespaces/{keys.SYSTEM_NAMESPACE}"
    alice = {"apiGroup": RBAC, "kind": "User", "name": ALICE}
    for name, path, kind in (
        (VIEWER, f"/apis/{RBAC}/v1/clusterrolebindings", "ClusterRole"),
        (PAGE, f"{system}/rolebindings", "Role"),
    ):
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
            "subjects": [alice],
        }
        await post(running, path, binding)


@contextlib.asynccontextmanager
async def page(running: Stack, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``tangram page`` as Alice; she ends it as people do."""
    command = ("-m", "extender", "page", "--no-browser", *options)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "--kubeconfig", str(running.plane.kubeconfig(ALICE))),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 30)


def instances(fleet: Any) -> list[dict[str, Any]]:
    return [each for node in fleet["nodes"] for gpu in node["gpus"] for each in gpu["instances"]]


async def test_a_user_opens_the_page_through_the_api_server(tmp_path: Path) -> None:
    port = free_port()
    options = ("--host", "0.0.0.0", "--desk-port", str(port))
    async with stack(
        artifacts(tmp_path), nodes=1, gpus=1, users=(ALICE,), options=options
    ) as running:
        await lead_to_the_desk(running, port)
        await running.create_vms({"first": SMALL})
        await running.bound_pods(at_least=1)

        async with page(running) as stranger:
            _, said = await asyncio.wait_for(stranger.communicate(), 60)
        assert stranger.returncode == 1
        assert "the API server answers 403" in said.decode()
        assert 'cannot get resource "services/proxy"' in said.decode()

        await let_view(running)
        pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
        await allow(running, "default", pods)
        async with page(running, "-n", "default") as command:
            assert command.stdout is not None
            line = await asyncio.wait_for(command.stdout.readline(), 60)
            address = URL(line.decode().strip())
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as browser:
                async with browser.get(address) as answer:
                    assert answer.status == 200
                    assert "<title>Tangram</title>" in await answer.text()
                async with browser.get(address.with_path("/page/page.js").with_query({})) as answer:
                    assert answer.status == 200
                    assert answer.content_type == "text/javascript"

                asked = {"namespace": "default"}
                fleet = address.with_path("/api/v1/fleet").with_query(asked)
                async with browser.get(fleet) as answer:
                    told = await answer.json()
                assert told["about"]["namespaces"] == ["default"]
                assert [each["vm"] for each in instances(told)] == ["first"]

                events = address.with_path("/api/v1/events").with_query(
                    {**asked, "since": told["version"]}
                )
                async with browser.get(events) as stream, asyncio.timeout(60):
                    assert stream.content_type == "text/event-stream"
                    await running.create_vms({"second": SMALL})
                    async for news in stream.content:
                        if b'"vm":"second"' in news:
                            break

                (node,) = [each.name for each in await running.gpu_nodes()]
                plan = address.with_path("/api/v1/moves").with_query({"drain": node})
                async with browser.get(plan) as answer:
                    assert answer.status == 403
                    assert "list gpunodes.tangram.dev" in await answer.text()
                gpu_nodes = {
                    "apiGroups": [keys.GROUP],
                    "resources": [keys.GPU_NODE_PLURAL],
                    "verbs": ["list"],
                }
                await allow_everywhere(running, gpu_nodes)

                async def planned() -> bool:
                    async with browser.get(plan) as answer:
                        return answer.status == 200 and "outcome" in await answer.json()

                await until(planned, within=60, every=1.0)
        assert command.returncode == 0
