"""What is there before Tangram: the control plane, Harvester's objects, KubeVirt, nodes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nodeagent.apiserver.protocol import NODES
from nodeagent.apiserver.rest import RestApi
from tests.e2e.audit import audited
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.harvester.cluster import Cluster
from tests.e2e.harvester.hooks import Webhooks
from tests.e2e.harvester.nodes import Node
from tests.e2e.harvester.place import Place, kept
from tests.e2e.harvester.witness import Witness
from tests.e2e.harvester.writes import Writes
from tests.e2e.process import ROOT
from tests.fakes.kubevirt import KubeVirt
from tests.fakes.kubevirt.launcher import DEVICES
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.host import is_empty
from tests.fakes.pcidevices.log import Log
from tests.fakes.pcidevices.names import (
    KUBEVIRT,
    KUBEVIRT_NAMESPACE,
    KUBEVIRTS,
    Version,
)
from tests.fakes.pcidevices.site import machine
from tests.waiting import until

MODEL = "A100-40GB"
MIG_SECONDS = 5.0
"""How often Harvester compares a layout: sooner than the real one, so that each test sees it."""
HOSTNAME = "kubernetes.io/hostname"
"""The label by which a VM may ask for a node."""
CRDS = (*sorted((ROOT / "tests/fakes/pcidevices/crds").glob("*.yaml")),)
KUBEVIRT_CRDS = ROOT / "tests/fakes/kubevirt/crds.yaml"
AMOUNTS = {"cpu": "128", "memory": "1Ti", "pods": "250", **dict.fromkeys(DEVICES, "1000")}


@contextlib.asynccontextmanager
async def site(
    directory: Path,
    version: Version,
    *,
    nodes: int,
    gpus: int = 2,
    scan_seconds: float = 30.0,
    mig_seconds: float = MIG_SECONDS,
    heeds_touches: bool = True,
    before: Callable[[Node], None] = lambda node: None,
) -> AsyncIterator[tuple[Cluster, Path]]:
    """Run a Harvester cluster until the block ends; *directory* keeps the logs.

    Each node is given to *before* before it starts. Also returns the API server's audit log, of
    Tangram's accounts.
    """
    names = [f"node-{n}" for n in range(1, nodes + 1)]
    (directory / "controlplane").mkdir(parents=True, exist_ok=True)
    audit, flags = audited(directory)
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(
            control_plane(
                required_binaries(),
                directory=directory / "controlplane",
                options=Options(apiserver_flags=flags),
            )
        )
        kubeconfig = plane.kubeconfig("admin")
        api = await stack.enter_async_context(RestApi(kubeconfig=kubeconfig, connections=16))
        log = Log(asyncio.get_running_loop().time)
        log.include(Writes(audit))
        there: dict[str, Node] = {}
        witness = Witness(api, lambda node, devices, uid: _kept(there[node], devices, uid))
        running = Cluster(plane, api, log, version, witness)
        running.nodes = there
        await _nodes(api, names)
        await _definitions(plane)
        body = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "KubeVirt",
            "metadata": {"name": KUBEVIRT},
            "spec": {"configuration": {}},
        }
        await _namespace(plane, KUBEVIRT_NAMESPACE)
        await api.create(KUBEVIRTS, body, namespace=KUBEVIRT_NAMESPACE)
        judged = Webhooks(
            api, log, version, lambda name: is_empty([node.host for node in there.values()], name)
        )
        await stack.enter_async_context(judged.serving(plane))
        library = built_for_tests(directory / "fake-nvml")
        for name in names:
            home = directory / name
            home.mkdir()
            made = machine(home, library, MODEL, gpus=gpus, node=name)
            node = Node(
                name,
                home,
                made,
                log,
                version,
                kubeconfig,
                scan_seconds=scan_seconds,
                mig_seconds=mig_seconds,
                heeds_touches=heeds_touches,
            )
            before(node)
            await node.start()
            stack.push_async_callback(node.stop)
            there[name] = node
        await _kubevirt(stack, api)
        await stack.enter_async_context(witness.watching())
        yield running, audit


def _kept(node: Node, devices: Collection[str], uid: str) -> frozenset[Place]:
    """Return where the devices of these names are that a pod may be given on a node."""
    return kept(node.host, devices, node.launchers.open_beside(uid))


async def _nodes(api: RestApi, names: Sequence[str]) -> None:
    for name in names:
        labels = {"kubevirt.io/schedulable": "true", HOSTNAME: name}
        metadata = {"name": name, "labels": labels}
        status = {"allocatable": AMOUNTS, "capacity": AMOUNTS}
        await api.create(NODES, {"metadata": metadata, "status": status})


async def _kubevirt(stack: contextlib.AsyncExitStack, api: RestApi) -> None:
    task = asyncio.create_task(KubeVirt(api).run(), name="kubevirt")

    async def end() -> None:
        task.cancel()
        await asyncio.wait([task])

    stack.push_async_callback(end)


async def _definitions(plane: ControlPlane) -> None:
    documents: Sequence[Mapping[str, Any]] = [
        document
        for file in (*CRDS, KUBEVIRT_CRDS)
        for document in yaml.safe_load_all(file.read_text())
    ]
    async with plane.client() as http:
        for document in documents:
            path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            async with http.post(path, json=document) as answer:
                assert answer.status == 201, await answer.text()
        for document in documents:
            spec = document["spec"]
            path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"

            async def served(path: str = path) -> bool:
                async with http.get(path) as answer:
                    return answer.status == 200

            await until(served, within=30, every=0.1)


async def _namespace(plane: ControlPlane, name: str) -> None:
    body = {"metadata": {"name": name}}
    async with plane.client() as http, http.post("/api/v1/namespaces", json=body) as answer:
        assert answer.status == 201, await answer.text()
