"""Of Harvester's objects an agent writes those of its own node, and in them what is its affair."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.e2e.audit import audited
from tests.e2e.controlplane.cluster import control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.harvester.writes import Writes
from tests.e2e.installation import Installer
from tests.e2e.process import ROOT
from tests.fakes.pcidevices.log import WRITE, Log, traps
from tests.manifests.kustomize import overlay
from tests.waiting import until

API = "/apis/devices.harvesterhci.io/v1beta1"
CRDS = ROOT / "tests/fakes/pcidevices/crds"
MERGE = {"Content-Type": "application/merge-patch+json"}


def objects(node: str) -> Mapping[str, dict[str, Any]]:
    """A node's objects, by the path of their kind."""
    vgpu = {
        "vGPUTypeName": "",
        "address": "0000:10:00.4",
        "enabled": False,
        "nodeName": node,
        "parentGPUDeviceAddress": "0000:10:00.0",
    }
    profiles = [{"name": "MIG 1g.5gb", "id": 19, "requested": 1}]
    mig = {
        "enabled": False,
        "gpuAddress": "0000:10:00.0",
        "nodeName": node,
        "profileSpec": profiles,
    }
    gpu = {"address": "0000:10:00.0", "nodeName": node, "enabled": False}
    return {
        "vgpudevices": {"kind": "VGPUDevice", "spec": vgpu},
        "migconfigurations": {"kind": "MigConfiguration", "spec": mig},
        "sriovgpudevices": {"kind": "SRIOVGPUDevice", "spec": gpu},
    }


class Writer:
    """An agent, or the administrator, who writes Harvester's objects."""

    def __init__(self, session: aiohttp.ClientSession, token: str = "") -> None:
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def change(self, kind: str, name: str, **spec: object) -> tuple[int, str]:
        path = f"{API}/{kind}/{name}?fieldManager=test"
        headers = self._headers | MERGE
        async with self._session.patch(path, json={"spec": spec}, headers=headers) as answer:
            return answer.status, str((await answer.json()).get("message", ""))

    async def call(self, method: str, path: str, body: object = None) -> int:
        async with self._session.request(
            method, f"{API}/{path}", json=body, headers=self._headers
        ) as answer:
            return answer.status


@asynccontextmanager
async def installed(
    options: Options,
) -> AsyncIterator[tuple[Writer, Writer, Writer, Installer]]:
    """A Harvester cluster of two nodes: the agent of each, the administrator, the installer."""
    async with (
        control_plane(required_binaries(), options=options) as plane,
        plane.client() as session,
    ):
        installer = Installer(plane, session)
        for file in sorted(CRDS.glob("*.yaml")):
            for definition in yaml.safe_load_all(file.read_text()):
                await installer.apply(definition)
        await installer.install(overlay("harvester"))
        admin = Writer(session)

        async def served() -> bool:
            return await admin.call("GET", "vgpudevices") == 200

        await until(served, within=30, every=0.1)
        agents = []
        for node in ("node-1", "node-2"):
            async with session.post("/api/v1/nodes", json={"metadata": {"name": node}}) as answer:
                assert answer.status == 201
            for kind, body in objects(node).items():
                given = body | {
                    "apiVersion": "devices.harvesterhci.io/v1beta1",
                    "metadata": {"name": node},
                }
                assert await admin.call("POST", kind, given) == 201
            await installer.pod(f"agent-{node}", "tangram-agent", node)
            token = await installer.token("tangram-agent", f"agent-{node}")
            agents.append(Writer(session, token))
        one, two = agents

        async def in_force() -> bool:
            return (await one.change("vgpudevices", "node-2", vGPUTypeName="x"))[0] == 403

        await until(in_force, within=60, every=0.2)
        yield one, two, admin, installer


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """What the agents write."""
    audit, _ = audited(tmp_path)
    log = Log(lambda: asyncio.get_running_loop().time())
    log.include(Writes(audit))
    return log


@pytest.fixture
async def bounds(tmp_path: Path) -> AsyncIterator[tuple[Writer, Writer, Writer, Installer]]:
    _, flags = audited(tmp_path)
    async with installed(Options(apiserver_flags=flags)) as found:
        yield found


async def test_an_agent_changes_what_is_its_affair_on_its_own_node(
    bounds: tuple[Writer, Writer, Writer, Installer],
) -> None:
    one, two, admin, installer = bounds
    neutral = [{"name": "MIG 1g.5gb", "id": 19, "requested": 0}]

    assert (await one.change("vgpudevices", "node-1", enabled=True, vGPUTypeName="T"))[0] == 200
    assert (await one.change("vgpudevices", "node-1", enabled=False))[0] == 200
    assert (await one.change("sriovgpudevices", "node-1", enabled=True))[0] == 200
    own = await one.change("migconfigurations", "node-1", enabled=True, profileSpec=neutral)
    assert own[0] == 200
    assert (await one.change("migconfigurations", "node-1", enabled=False))[0] == 200

    for kind in objects("node-2"):
        status, text = await one.change(kind, "node-2", enabled=True)
        assert (status, "the agent on node-1 changes the devices of that node" in text) == (
            403,
            True,
        ), kind
    assert (await two.change("vgpudevices", "node-2", enabled=True))[0] == 200

    refused = {
        "says of which type": await one.change("vgpudevices", "node-1", address="0000:00:00.0"),
        "create no GPU instance": await one.change(
            "migconfigurations",
            "node-1",
            enabled=True,
            profileSpec=[{"name": "MIG 1g.5gb", "id": 19, "requested": 2}],
        ),
        "never disables them": await one.change("sriovgpudevices", "node-1", enabled=False),
        "and no others": await one.change("vgpudevices", "node-1", nodeName="node-2"),
    }
    for said, (status, text) in refused.items():
        assert (status, said in text) == (403, True), (said, status, text)
    assert (await admin.change("sriovgpudevices", "node-1", enabled=False))[0] == 200

    unbound = Writer(one._session, await installer.token("tangram-agent"))
    status, text = await unbound.change("vgpudevices", "node-1", enabled=True)
    assert (status, "bound to no node" in text) == (403, True)


async def test_whatever_else_an_agents_account_is_given_it_makes_and_removes_no_object(
    bounds: tuple[Writer, Writer, Writer, Installer],
) -> None:
    one, _, _, installer = bounds
    assert await one.call("DELETE", "vgpudevices/node-1") == 403  # by its role
    await installer.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "too-much"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [
                {
                    "kind": "ServiceAccount",
                    "name": "tangram-agent",
                    "namespace": "tangram-system",
                }
            ],
        }
    )

    async def given() -> bool:
        return await one.call("GET", "pcideviceclaims") == 200

    await until(given, within=30, every=0.1)
    body = {
        "apiVersion": "devices.harvesterhci.io/v1beta1",
        "kind": "PCIDeviceClaim",
        "metadata": {"name": "x"},
        "spec": {},
    }
    assert await one.call("POST", "pcideviceclaims", body) == 403
    assert await one.call("DELETE", "vgpudevices/node-1") == 403


async def test_an_agent_that_writes_over_whatever_is_there_is_told_of_by_the_audit_log(
    bounds: tuple[Writer, Writer, Writer, Installer], log: Log
) -> None:
    """Policies cannot keep it from that: whose object it was decided on, only the write says."""
    one, two, admin, _ = bounds
    before = len(log.entries)  # of an agent that was tried until the policy was in force

    assert (await admin.change("vgpudevices", "node-1", vGPUTypeName="T"))[0] == 200
    assert (await two.change("vgpudevices", "node-1", enabled=True))[0] == 403
    assert (await one.change("vgpudevices", "node-1", enabled=True))[0] == 200

    async def told() -> bool:
        return len(log.entries) > before

    await until(told, within=30, every=0.1)
    (entry,) = log.entries[before:]
    assert (entry.action, entry.subject) == (WRITE, "vgpudevices node-1")
    assert entry.detail == 'patch {"spec":{"enabled":true}}'
    (trap,) = traps([entry])
    assert "wrote over whatever was there" in trap
