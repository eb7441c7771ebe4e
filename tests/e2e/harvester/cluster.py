"""The cluster: what runs, what a test does to it, and what it asks."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml

from extender.cli.harvester import provided
from extender.kubescheduler import compose
from extender.kubescheduler.compose import Files, Wanted
from extender.server.description import HOOKS
from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import GPU_NODES, PODS, Kind, PatchType
from nodeagent.apiserver.rest import RestApi
from tests.e2e.controlplane import identities
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.harvester.hooks import Webhooks
from tests.e2e.harvester.judge import missed
from tests.e2e.harvester.nodes import Node
from tests.e2e.installation import Installer
from tests.e2e.process import ROOT, Process
from tests.e2e.stack import free_port, prepare
from tests.fakes.kubevirt import KubeVirt, virtual_machine
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.log import Log
from tests.fakes.pcidevices.names import (
    KUBEVIRT,
    KUBEVIRT_NAMESPACE,
    KUBEVIRTS,
    VMIS,
    VMS,
    Version,
    resource_name,
)
from tests.fakes.pcidevices.site import machine
from tests.manifests.kustomize import overlay
from tests.waiting import until

MODEL = "A100-40GB"
TYPES = {
    19: "NVIDIA A100X-1-5C",
    14: "NVIDIA A100X-2-10C",
    9: "NVIDIA A100X-3-20C",
    5: "NVIDIA A100X-4-20C",
    0: "NVIDIA A100X-7-40C",
}
"""vGPU types by profile."""
RESOURCES = {profile: resource_name(name) for profile, name in TYPES.items()}
CRDS = (*sorted((ROOT / "tests/fakes/pcidevices/crds").glob("*.yaml")),)
KUBEVIRT_CRDS = ROOT / "tests/fakes/kubevirt/crds.yaml"
HTTP_TIMEOUT = 30.0


class Cluster:
    """What a test holds."""

    def __init__(self, plane: ControlPlane, api: RestApi, log: Log, version: Version) -> None:
        self.plane = plane
        self.api = api
        self.log = log
        self.version = version
        self.nodes: dict[str, Node] = {}
        self.extender: Process

    # -- VMs ---------------------------------------------------------------------------------------

    async def create(self, name: str, *profiles: int, **options: Any) -> None:
        """Create a VM with a vGPU for each of *profiles*."""
        vm = virtual_machine(
            name,
            *(RESOURCES[each] for each in profiles),
            labels={keys.MANAGED_LABEL: "true"},
            **options,
        )
        await self.api.create(VMS, vm, namespace="default")

    async def delete(self, name: str) -> None:
        await self.api.delete(VMS, name, namespace="default")

    async def run(self, name: str, strategy: str) -> None:
        """Have a VM run ("Always"), or be off ("Halted")."""
        patch = {"spec": {"runStrategy": strategy}}
        await self.api.patch(VMS, name, patch, patch_type=PatchType.MERGE, namespace="default")

    async def phases(self) -> dict[str, str]:
        """Return the phase of each VM's instance, "" of one that has none."""
        vmis = {
            vmi["metadata"]["name"]: (vmi.get("status") or {}).get("phase", "")
            for vmi in await self.listed(VMIS, "default")
        }
        vms = await self.listed(VMS, "default")
        return {vm["metadata"]["name"]: vmis.get(vm["metadata"]["name"], "") for vm in vms}

    async def running(self) -> list[str]:
        """Return the VMs that run."""
        return [name for name, phase in (await self.phases()).items() if phase == "Running"]

    async def all_run(self, *names: str, within: float = 240.0) -> None:
        """Wait until VMs run."""

        async def run() -> bool:
            phases = await self.phases()
            return all(phases.get(name) == "Running" for name in names)

        await until(run, within=within, every=0.2)

    async def settled(self, *names: str, within: float = 300.0) -> None:
        """Wait until VMs run, but for those that find no room anywhere."""

        async def settled() -> bool:
            phases = await self.phases()
            waiting = {name for name in names if phases.get(name) != "Running"}
            launchers = (await self.launchers()).keys()
            return waiting <= launchers and not await missed(self)

        await until(settled, within=within, every=0.5)
        await self.quiet(within=within)

    async def empty(self, *, within: float = 240.0) -> None:
        """Wait until no GPU holds anything, and no plan says that one should.

        A place may be held for a VM that starts anew, which takes the extender two minutes.
        """

        async def nothing() -> bool:
            held = any(
                node.host.machine.gpu_instances(gpu) or node.host.kernel.vgpus()
                for node in self.nodes.values()
                for gpu in node.host.gpus.values()
            )
            plans = (await self.gpu_nodes()).values()
            return not held and not any(node.spec.assignments for node in plans)

        await until(nothing, within=within, every=0.3)

    async def gone(self, *names: str, within: float = 120.0) -> None:
        """Wait until VMs have no instance and no launcher."""

        async def none() -> bool:
            pods = await self.launchers()
            phases = await self.phases()
            return not any(name in pods or phases.get(name) for name in names)

        await until(none, within=within, every=0.2)

    async def launchers(self) -> dict[str, dict[str, Any]]:
        """Return the launcher of each VM."""
        return {
            pod["metadata"]["labels"]["vm.kubevirt.io/name"]: pod
            for pod in await self.listed(PODS, "default")
        }

    # -- questions ---------------------------------------------------------------------------------

    async def listed(self, kind: Kind, namespace: str = "") -> list[dict[str, Any]]:
        page = await self.api.list(kind, namespace=namespace, limit=10_000)
        return [dict(msgspec.json.decode(raw)) for raw in page.items]

    async def gpu_nodes(self) -> dict[str, GpuNode]:
        found = [gpunode.decode(raw) for raw in (await self.api.list(GPU_NODES)).items]
        return {each.name: each for each in found}

    async def quiet(self, *, for_seconds: float = 3.0, within: float = 120.0) -> None:
        """Wait until neither pods nor GpuNodes nor GPUs change for a while."""
        last, since = "", 0.0
        loop = asyncio.get_running_loop()

        async def unchanged() -> bool:
            nonlocal last, since
            pods = sorted(
                (name, pod["spec"].get("nodeName", ""), pod["status"]["phase"])
                for name, pod in (await self.launchers()).items()
            )
            plans = [(n, g.metadata.generation) for n, g in (await self.gpu_nodes()).items()]
            gpus = [
                [node.host.machine.gpu_instances(gpu) for gpu in node.host.gpus.values()]
                for node in self.nodes.values()
            ]
            now = repr((pods, sorted(plans), gpus))
            if now != last:
                last, since = now, loop.time()
            return loop.time() - since >= for_seconds

        await until(unchanged, within=within, every=0.3)


@contextlib.asynccontextmanager
async def cluster(
    directory: Path,
    version: Version,
    *,
    nodes: int,
    gpus: int = 2,
    scan_seconds: float = 30.0,
    heeds_touches: bool = True,
    agents: bool = True,
) -> AsyncIterator[Cluster]:
    """Run everything, *agents* too, until the block ends; *directory* keeps the logs."""
    names = [f"node-{n}" for n in range(1, nodes + 1)]
    (directory / "controlplane").mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(
            control_plane(required_binaries(), directory=directory / "controlplane")
        )
        kubeconfig = plane.kubeconfig("admin")
        api = await stack.enter_async_context(RestApi(kubeconfig=kubeconfig))
        log = Log(asyncio.get_running_loop().time)
        running = Cluster(plane, api, log, version)
        await prepare(plane, api, names, ["extender-0"])
        await _definitions(plane)
        body = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "KubeVirt",
            "metadata": {"name": KUBEVIRT},
            "spec": {"configuration": {}},
        }
        await _namespace(plane, KUBEVIRT_NAMESPACE)
        await api.create(KUBEVIRTS, body, namespace=KUBEVIRT_NAMESPACE)
        await stack.enter_async_context(Webhooks(api, log, version).serving(plane))
        library = built_for_tests(directory / "fake-nvml")
        accounts = await _accounts(plane, directory, names)
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
                accounts[name],
                scan_seconds=scan_seconds,
                heeds_touches=heeds_touches,
            )
            await node.start()
            stack.push_async_callback(node.stop)
            running.nodes[name] = node
        await _kubevirt(stack, api)
        await _extender(stack, running, directory, kubeconfig)
        if agents:
            for node in running.nodes.values():
                await node.agent.start()
            await ready(running)
        yield running


async def reported(running: Cluster) -> None:
    """Wait until every agent has told of its GPUs."""

    async def all_told() -> bool:
        found = await running.gpu_nodes()
        return len(found) == len(running.nodes) and all(n.status.gpus for n in found.values())

    await until(all_told, within=120, every=0.2)


async def ready(running: Cluster) -> None:
    """Wait until every GPU takes GPU instances, and have every type permitted."""

    async def well() -> bool:
        found = await running.gpu_nodes()
        return len(found) == len(running.nodes) and all(
            node.status.gpus and not any(gpu.unhealthy for gpu in node.status.gpus)
            for node in found.values()
        )

    await until(well, within=120, every=0.2)
    async for _ in provided(running.api):
        pass


async def _extender(
    stack: contextlib.AsyncExitStack, running: Cluster, directory: Path, kubeconfig: Path
) -> None:
    plane = running.plane
    port = free_port()
    server, client = plane.authority.issue("tangram-extender"), plane.authority.issue("tangram")
    running.extender = Process(
        directory / "extender.log",
        *("extender", "--log-level", "info", "serve", "--kubeconfig", str(kubeconfig)),
        *("--port", str(port), "--http-timeout", str(HTTP_TIMEOUT)),
        *("--own-pod", f"{keys.SYSTEM_NAMESPACE}/extender-0"),
        *("--tls-cert", str(server.public), "--tls-key", str(server.key)),
        *("--client-ca", str(plane.ca_file)),
    )
    await running.extender.start()
    stack.push_async_callback(running.extender.stop, signal.SIGKILL)
    url = f"https://127.0.0.1:{port}"
    trust = ssl.create_default_context(cafile=plane.ca_file)
    trust.load_cert_chain(client.public, client.key)

    async def answers() -> bool:
        try:
            async with http.get(f"{url}/readyz", ssl=trust) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async with aiohttp.ClientSession() as http:
        await until(answers, within=60, every=0.1)
    wanted = Wanted(
        url=url,
        files=Files(str(plane.ca_file), str(client.public), str(client.key)),
        http_timeout_seconds=HTTP_TIMEOUT,
        verbs=tuple(hook.verb for hook in HOOKS),
        resources=dict.fromkeys(RESOURCES.values(), True),
    )
    await plane.start_scheduler(compose.patch(wanted))


async def _accounts(
    plane: ControlPlane, directory: Path, nodes: Sequence[str]
) -> Mapping[str, Path]:
    """Install what bounds the agents, and return the kubeconfig of each node's agent."""
    made: dict[str, Path] = {}
    async with plane.client() as session:
        installer = Installer(plane, session)
        for each in overlay("harvester"):
            name = each["metadata"]["name"]
            if name.startswith("tangram-agent") and each["kind"] != "DaemonSet":
                await installer.apply(each)
        for node in nodes:
            await installer.pod(f"agent-{node}", "tangram-agent", node)
            token = await installer.token("tangram-agent", f"agent-{node}")
            made[node] = directory / f"agent-{node}.kubeconfig"
            made[node].write_text(identities.kubeconfig(plane.url, plane.ca_file, token))
    return made


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
