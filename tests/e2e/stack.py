"""Tangram on a real control plane: an extender process, simulated agents, a scheduler that asks.

Extenders and agents have their accounts' tokens, and may do what the manifests let them.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import signal
import ssl
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml

from extender.decision_log import reproduced, runs
from extender.demo.pods import launcher
from extender.kubescheduler import compose
from extender.kubescheduler.compose import Files, Wanted
from extender.policy import PolicyName
from extender.server.description import HOOKS
from nodeagent.api import gpunode, keys, resources
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import GPU_NODES, NODES, PODS, Kind
from nodeagent.apiserver.rest import RestApi
from tests.e2e import deployed
from tests.e2e.accounts import confine
from tests.e2e.audit import audited, refusals
from tests.e2e.controlplane.certificates import KeyPair
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.processes import held_port
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.gpus import SimulatedGpus
from tests.e2e.installation import Installer
from tests.e2e.process import ROOT, Process
from tests.e2e.service import LeaderService
from tests.waiting import until

MODEL = MODELS["H100-80GB"]
RESOURCES = {vgpu.profile_id: resources.of_vgpu_type(vgpu.name)[0] for vgpu in MODEL.vgpu_types}
# Shorter than by default, that tests need not wait long; longer than a slow machine may be late.
ELECTION = (
    *("--leader-elect", "--lease-duration", "8"),
    *("--renew-deadline", "5", "--retry-period", "1"),
)
CRD = ROOT / "manifests/base/crd/gpunodes.yaml"
AGENTS = SimulatedGpus.account
NODE = "tangram-simulated-{:02}"
"""What the nodes are called: the policy lets the agents write for no others."""


def scheduler_config(
    url: str,
    *,
    http_timeout: float,
    ca: Path,
    client: KeyPair,
    managed: Collection[str] = RESOURCES.values(),
) -> dict[str, Any]:
    """Return what `tangram scheduler-config` prints for such an extender."""
    wanted = Wanted(
        url=url,
        files=Files(str(ca), str(client.public), str(client.key)),
        http_timeout_seconds=http_timeout,
        verbs=tuple(hook.verb for hook in HOOKS),
        resources=dict.fromkeys(managed, False),
    )
    return compose.patch(wanted)


class Stack:
    """What a test holds: the parts, and questions about the cluster."""

    def __init__(
        self,
        plane: ControlPlane,
        api: RestApi,
        extenders: Mapping[str, Process],
        agents: Process,
        url: str,
        trust: ssl.SSLContext,
    ) -> None:
        self.plane = plane
        self.api = api
        self.extenders = extenders
        self.extender = next(iter(extenders.values()))
        self.agents = agents
        self.url = url
        self._trust = trust

    async def ready(self) -> None:
        """Wait until the extender answers for all it has to know."""

        async def answers() -> bool:
            try:
                async with http.get(f"{self.url}/readyz", ssl=self._trust) as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        async with aiohttp.ClientSession() as http:
            await until(answers, within=60, every=0.05)

    async def create_vms(self, vms: Mapping[str, int]) -> None:
        """Create launcher pods by name, each asking for the vGPU type of a profile id."""
        gate = asyncio.Semaphore(16)

        async def create(name: str, profile_id: int) -> None:
            pod = launcher(name, "default", RESOURCES[profile_id])
            async with gate:
                await self.api.create(PODS, pod, namespace="default")

        await asyncio.gather(*(create(name, profile) for name, profile in vms.items()))

    async def pods(self) -> dict[str, dict[str, Any]]:
        """Return the VMs' pods by name of the VM."""
        return {
            pod["metadata"]["labels"]["vm.kubevirt.io/name"]: pod
            for pod in await self.listed(PODS, "default")
            if pod["metadata"].get("labels", {}).get("kubevirt.io") == "virt-launcher"
        }

    async def gpu_nodes(self) -> list[GpuNode]:
        """Return every GpuNode."""
        return [gpunode.decode(raw) for raw in (await self.api.list(GPU_NODES)).items]

    async def listed(self, kind: Kind, namespace: str = "") -> list[dict[str, Any]]:
        """Return every object of a kind."""
        found, token = [], ""
        while True:
            page = await self.api.list(kind, namespace=namespace, continue_token=token)
            found += [dict(msgspec.json.decode(raw)) for raw in page.items]
            token = page.continue_token
            if not token:
                return found

    async def quiet(self, *, for_seconds: float = 3.0, within: float = 240.0) -> None:
        """Wait until neither pods nor GpuNodes change for a while."""
        last, since = "", 0.0
        loop = asyncio.get_running_loop()

        async def unchanged() -> bool:
            nonlocal last, since
            pods = sorted(
                (name, pod["spec"].get("nodeName", ""), pod["status"]["phase"])
                for name, pod in (await self.pods()).items()
            )
            nodes = [(n.name, n.metadata.generation, n.status) for n in await self.gpu_nodes()]
            now = repr((pods, nodes))
            if now != last:
                last, since = now, loop.time()
            return loop.time() - since >= for_seconds

        await until(unchanged, within=within, every=0.5)

    async def bound_pods(self, *, at_least: int) -> None:
        """Wait until so many VMs are bound."""

        async def bound() -> bool:
            pods = await self.pods()
            return sum(bool(p["spec"].get("nodeName")) for p in pods.values()) >= at_least

        await until(bound, within=120, every=0.1)

    async def bound(self, name: str) -> bool:
        """Tell whether a pod is bound."""
        pod = msgspec.json.decode(await self.api.get(PODS, name, namespace="default"))
        return bool(pod["spec"].get("nodeName"))

    async def largest_gpu_node(self) -> int:
        """Return the size of the largest GpuNode as JSON, managed fields included."""
        return max(len(raw) for raw in (await self.api.list(GPU_NODES)).items)

    async def leader(self) -> str:
        """Return the pod of the extender that leads; wait until there is one."""
        found = ""

        async def leads() -> bool:
            nonlocal found
            page = await self.api.list(
                PODS, namespace=keys.SYSTEM_NAMESPACE, label_selector=f"{keys.LEADER_LABEL}=true"
            )
            names = [msgspec.json.decode(raw)["metadata"]["name"] for raw in page.items]
            found = names[0] if len(names) == 1 else ""
            return bool(found)

        await until(leads, within=60, every=0.1)
        return found

    def filter_calls(self) -> collections.Counter[str]:
        """Count the filter calls the extender has answered, by pod."""
        return collections.Counter(e["pod"] for e in self.extender.events("filter_answered"))


@contextlib.asynccontextmanager
async def stack(
    directory: Path,
    *,
    nodes: int,
    gpus: int = 8,
    http_timeout: float = 15.0,
    create_latency: float = 0.0,
    replicas: int = 1,
    definition: Path = CRD,
    policy: str = PolicyName.DEFAULT.value,
    users: Iterable[str] = (),
    options: Sequence[str] = (),
    program: str = "extender",
) -> AsyncIterator[Stack]:
    """Run everything, with that *definition* of GpuNode, until the block ends.

    *directory* keeps the logs. Several *replicas* of the extender elect a leader, and stand behind
    one address. *policy* is a name or a file. *users* get tokens of the API server's; extenders run
    with *options* besides; their module is *program*. In the end, extenders and agents must never
    have been refused anything, and every decision in the extenders' logs comes out the same again.
    """
    names = [NODE.format(index) for index in range(nodes)]
    url = f"https://127.0.0.1:{free_port()}"
    audit, flags = audited(directory)
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(
            control_plane(
                required_binaries(),
                users=users,
                options=Options(apiserver_flags=flags),
                directory=directory / "controlplane",
            )
        )
        api = await stack.enter_async_context(RestApi(kubeconfig=plane.kubeconfig("admin")))
        installer = Installer(plane, await stack.enter_async_context(plane.client()))
        pods = [f"extender-{index}" for index in range(replicas)]
        await prepare(plane, api, names, definition)
        await confine(installer)
        extenders_own = {
            pod: await deployed.credentials(plane, installer, deployed.EXTENDER, names[0], pod)
            for pod in pods
        }
        agents_own = await deployed.credentials(plane, installer, AGENTS, names[0])
        server = plane.authority.issue("tangram-extender")
        client = plane.authority.issue("tangram-client")
        ports = {pods[0]: url.rpartition(":")[2]}
        if replicas > 1:
            ports = {pod: str(free_port()) for pod in pods}
            service = LeaderService(api, {pod: int(port) for pod, port in ports.items()})
            await stack.enter_async_context(service.serving(int(url.rpartition(":")[2])))
        extenders = {
            pod: Process(
                directory / f"{pod}.log",
                *(program, "--log-level", "debug", "serve"),
                *("--kubeconfig", str(extenders_own[pod])),
                *("--port", port, "--http-timeout", str(http_timeout)),
                *("--own-pod", f"{keys.SYSTEM_NAMESPACE}/{pod}"),
                *("--tls-cert", str(server.public), "--tls-key", str(server.key)),
                *("--client-ca", str(plane.ca_file), "--policy", policy),
                *("--decision-log", str(directory / "decisions" / pod)),
                *(ELECTION if replicas > 1 else ()),
                *options,
            )
            for pod, port in ports.items()
        }
        agents = Process(
            directory / "agents.log",
            *("nodeagent", "run", "--simulate", MODEL.name, "--gpus", str(gpus)),
            *("--mode", "vgpu-vfio", "--kubeconfig", str(agents_own)),
            *("--create-latency", str(create_latency)),
            *(f"--node={name}" for name in names),
        )
        trust = ssl.create_default_context(cafile=plane.ca_file)
        trust.load_cert_chain(client.public, client.key)
        running = Stack(plane, api, extenders, agents, url, trust)
        for process in (*extenders.values(), agents):
            stack.push_async_callback(process.stop, signal.SIGKILL)
            await process.start()
        await running.ready()
        await reported(running, nodes)
        await plane.start_scheduler(
            scheduler_config(url, http_timeout=http_timeout, ca=plane.ca_file, client=client)
        )
        yield running
        assert refusals(audit, (deployed.EXTENDER, AGENTS)) == {}
        for pod in pods:
            await decided_again(directory / "decisions" / pod)


async def decided_again(log: Path) -> None:
    """Make every decision of an extender's log again: none is missing, each comes out the same."""
    told = await asyncio.to_thread(lambda: reproduced(runs([log])))
    assert not told.different, msgspec.json.encode(told)
    assert (told.gaps, told.unclaimed) == (0, 0), msgspec.json.encode(told)
    assert told.damaged_at == (), msgspec.json.encode(told)
    assert told.identical == told.decisions, msgspec.json.encode(told)
    assert told.calls > 0


async def install(plane: ControlPlane, definition: Path = CRD) -> None:
    """Make the CRD and the namespace."""
    async with plane.client() as http:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        async with http.post(path, json=_document(definition)) as answer:
            assert answer.status == 201, await answer.text()
        namespace = {"metadata": {"name": keys.SYSTEM_NAMESPACE}}
        async with http.post("/api/v1/namespaces", json=namespace) as answer:
            assert answer.status == 201, await answer.text()
        gpunodes = f"/apis/{keys.API_VERSION}/{keys.GPU_NODE_PLURAL}"

        async def served() -> bool:
            async with http.get(gpunodes) as answer:
                return answer.status == 200

        await until(served, within=30, every=0.1)


def _document(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


async def prepare(
    plane: ControlPlane,
    api: RestApi,
    names: list[str],
    definition: Path = CRD,
) -> None:
    """Make the CRD, the namespace, and the nodes."""
    await install(plane, definition)
    amounts = {"cpu": "128", "memory": "1Ti", "pods": "250", "devices.kubevirt.io/kvm": "1000"}
    for name in names:
        body = {
            "metadata": {"name": name, "labels": {"kubevirt.io/schedulable": "true"}},
            "status": {"allocatable": amounts, "capacity": amounts},
        }
        await api.create(NODES, body)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with held_port() as port:
        return int(port.getsockname()[1])


async def reported(running: Stack, nodes: int) -> None:
    """Wait until every agent has reported and every node advertises its slots."""

    async def reported() -> bool:
        known = [n for n in await running.gpu_nodes() if n.status.agent_epoch]
        offering = [
            node
            for node in await running.listed(NODES)
            if set(RESOURCES.values()) <= node["status"].get("allocatable", {}).keys()
        ]
        return len(known) == len(offering) == nodes

    await until(reported, within=90, every=0.2)


def artifacts(default: Path) -> Path:
    """Return where logs go: into a folder of ``TANGRAM_E2E_LOGS``, or away with the test."""
    kept = os.environ.get("TANGRAM_E2E_LOGS")
    directory = Path(kept) / default.name if kept else default
    (directory / "controlplane").mkdir(parents=True)
    return directory
