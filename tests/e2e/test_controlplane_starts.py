"""The control plane of these tests works by itself: no Tangram in here."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.controlplane.binaries import Versions
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.identities import ADMIN, SCHEDULER, service_account
from tests.e2e.controlplane.processes import StartFailed
from tests.e2e.controlplane.required import required_binaries

NODE = {
    "metadata": {"name": "node-1"},
    "status": {"allocatable": {"cpu": "8", "memory": "32Gi", "pods": "20"}},
}
BINDS_WITHIN_SECONDS = 30.0


def pod(name: str) -> dict[str, Any]:
    container = {"name": "main", "image": "none", "resources": {"requests": {"cpu": "1"}}}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


async def created(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
    async with session.post(path, json=body) as response:
        assert response.status == 201, await response.text()


async def bound_to(session: aiohttp.ClientSession, name: str) -> str:
    async with asyncio.timeout(BINDS_WITHIN_SECONDS):
        while True:
            async with session.get(f"/api/v1/namespaces/default/pods/{name}") as response:
                node = (await response.json())["spec"].get("nodeName")
            if node is not None:
                return str(node)
            await asyncio.sleep(0.05)


async def status(plane: ControlPlane, user: str, path: str) -> int:
    async with plane.client(user) as session, session.get(path) as response:
        return response.status


def running_in(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended while we looked
            command = entry.read_text()
            if f"{directory}/" in command:
                found.append(command)
    return found


async def test_the_scheduler_binds_a_pod_before_and_after_its_restart() -> None:
    async with control_plane(required_binaries(), scheduler={}) as plane, plane.client() as session:
        await created(session, "/api/v1/nodes", NODE)
        await created(session, "/api/v1/namespaces/default/pods", pod("before"))
        assert await bound_to(session, "before") == "node-1"

        await plane.stop_scheduler()
        await created(session, "/api/v1/namespaces/default/pods", pod("after"))
        await plane.start_scheduler({"parallelism": 4})
        assert await bound_to(session, "after") == "node-1"

        async with session.get("/version") as response:
            assert (await response.json())["gitVersion"] == Versions.read().kubernetes


async def test_a_user_may_do_what_rbac_allows_it() -> None:
    stranger = service_account("default", "stranger")
    async with control_plane(required_binaries(), users=[stranger]) as plane:
        assert await status(plane, SCHEDULER, "/api/v1/pods") == 200
        assert await status(plane, SCHEDULER, "/api/v1/secrets") == 403
        assert await status(plane, stranger, "/api/v1/pods") == 403


async def test_the_controller_manager_collects_garbage_and_taints_no_node() -> None:
    config_maps = "/api/v1/namespaces/default/configmaps"
    async with (
        control_plane(required_binaries(), controller_manager=True) as plane,
        plane.client() as session,
    ):
        await created(session, "/api/v1/nodes", NODE)
        await created(session, config_maps, {"metadata": {"name": "owner"}})
        async with session.get(f"{config_maps}/owner") as response:
            uid = (await response.json())["metadata"]["uid"]
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
        owned = {"metadata": {"name": "owned", "ownerReferences": [owner]}}
        await created(session, config_maps, owned)
        await session.delete(f"{config_maps}/owner")

        async with asyncio.timeout(BINDS_WITHIN_SECONDS):
            while True:
                if await status(plane, ADMIN, f"{config_maps}/owned") == 404:
                    break
                await asyncio.sleep(0.1)
        async with session.get("/api/v1/nodes/node-1") as response:
            assert "taints" not in (await response.json())["spec"]


async def test_a_program_that_cannot_start_is_quoted_and_nothing_is_left_running(
    tmp_path: Path,
) -> None:
    options = Options(authorization="Nonsense")
    with pytest.raises(StartFailed, match=r"kube-apiserver\|.*Nonsense"):
        async with control_plane(required_binaries(), options=options, directory=tmp_path):
            pytest.fail("it started")
    assert (tmp_path / "etcd.log").exists()
    assert running_in(tmp_path) == []


async def test_etcd_and_the_api_server_come_back_where_they_were_with_what_they_had() -> None:
    async with control_plane(required_binaries()) as plane, plane.client() as session:
        await created(session, "/api/v1/nodes", NODE)
        plane.processes["kube-apiserver"].kill()
        plane.processes["etcd"].kill()
        await plane.start_etcd()
        await plane.start_apiserver()
        assert await status(plane, ADMIN, "/api/v1/nodes/node-1") == 200
