"""Runs the installation for trials as it is: accounts, roles, certificates, options, policies.

Its programs run as processes (``deployed``), kube-scheduler with what ``tangram scheduler-config``
prints once the agents have reported. The API server calls the webhook where it is, for
Services lead nowhere here.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import json
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml

from nodeagent.api import gpunode, keys
from nodeagent.apiserver.protocol import GPU_NODES, PODS
from nodeagent.apiserver.rest import RestApi
from tests.e2e import deployed
from tests.e2e.audit import REFUSED, asked, audited
from tests.e2e.chaos.link import Link
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.deployed import EXTENDER, SCHEDULER, Ports, Secrets
from tests.e2e.installation import Installer, Manifest, point_webhook
from tests.e2e.process import Process
from tests.manifests.calls import Permission
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import overlay
from tests.waiting import until

CONTROL_PLANE_NODE = "control-plane"
AGENT = "tangram-simulated-agent"
ACCOUNTS = (EXTENDER, AGENT, SCHEDULER)
NODES = 2
"""How many simulated nodes the overlay for trials has."""


class Installed:
    """The running installation."""

    def __init__(
        self,
        plane: ControlPlane,
        api: RestApi,
        session: aiohttp.ClientSession,
        audit: Path,
        ports: Ports,
        ways: Ways,
        secrets: Secrets,
        policy: Path,
        processes: Mapping[str, Process],
    ) -> None:
        self.plane = plane
        self.api = api
        self.session = session
        """With the API server, as its administrator."""
        self._audit = audit
        self.hooks = f"https://127.0.0.1:{ports.hooks}"
        self.webhook = f"https://127.0.0.1:{ports.admission}"
        self.desk = f"https://127.0.0.1:{ports.desk}"
        self.ways = ways
        self.secrets = secrets
        self.policy = policy
        """The file of it, as components/policy mounts one."""
        self.processes = processes

    async def reported(self) -> None:
        """Wait until every simulated node has told what its GPUs offer."""

        async def told() -> bool:
            nodes = [gpunode.decode(raw) for raw in (await self.api.list(GPU_NODES)).items]
            return len(nodes) == NODES and all(node.status.vgpu_types for node in nodes)

        await until(told, within=60, every=0.2)

    async def create_vms(self, count: int) -> None:
        """Create the pod for trials so many times, as of somebody who knows nothing of Tangram."""
        trial = vm()
        gate = asyncio.Semaphore(8)

        async def create() -> None:
            async with gate:
                await self.api.create(PODS, trial, namespace="default")

        await asyncio.gather(*(create() for _ in range(count)))

    async def pods(self) -> list[dict[str, Any]]:
        """Return the trials."""
        return [json.loads(raw) for raw in (await self.api.list(PODS, namespace="default")).items]

    async def running(self, count: int) -> None:
        """Wait until there are so many trials, all running."""

        async def run() -> bool:
            phases = collections.Counter(pod["status"]["phase"] for pod in await self.pods())
            return phases == {"Running": count}

        await until(run, within=120, every=0.5)

    async def planned(self, count: int) -> None:
        """Wait until there are so many entries in all plans, each of them realized."""

        async def reached() -> bool:
            nodes = [gpunode.decode(raw) for raw in (await self.api.list(GPU_NODES)).items]
            planned = [entry.id for node in nodes for entry in node.spec.assignments]
            realized = [each.id for node in nodes for each in node.status.realized]
            return sorted(planned) == sorted(realized) and len(planned) == count

        await until(reached, within=60, every=0.5)

    async def create(self, pod: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Try to create a pod as an administrator; return the status and the answer."""
        async with self.session.post("/api/v1/namespaces/default/pods", json=pod) as answer:
            return answer.status, await answer.json()

    def asked(self, account: str) -> Mapping[Permission, set[int]]:
        """Return what an account has asked for, and the statuses of the answers."""
        return asked(self._audit, account)

    def refusals(self) -> dict[str, set[Permission]]:
        """Return what the accounts asked for and were refused; nothing, if their roles fit."""
        found = {
            account: {what for what, codes in self.asked(account).items() if codes & REFUSED}
            for account in ACCOUNTS
        }
        return {account: refused for account, refused in found.items() if refused}


def vm() -> dict[str, Any]:
    """Return the pod for trials without what says that it is Tangram's: its label and scheduler."""
    trial: dict[str, Any] = yaml.safe_load((MANIFESTS / "overlays/dev/pod.yaml").read_text())
    del trial["metadata"]["labels"][keys.MANAGED_LABEL], trial["spec"]["schedulerName"]
    return trial


class Ways(NamedTuple):
    """From kube-scheduler to the hooks, and from the API server to the webhook."""

    hooks: Link
    admission: Link


@contextlib.asynccontextmanager
async def installed(directory: Path) -> AsyncIterator[Installed]:
    """Install the overlay for trials, and run it until the block ends."""
    manifests = copy.deepcopy(overlay("dev"))
    audit, flags = audited(directory)
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(
            control_plane(
                required_binaries(),
                directory=directory / "controlplane",
                options=Options(apiserver_flags=flags),
            )
        )
        session = await stack.enter_async_context(plane.client())
        api = await stack.enter_async_context(RestApi(kubeconfig=plane.kubeconfig("admin")))
        installer = Installer(plane, session)
        ports, secrets = Ports.free(), Secrets.issued(plane, directory)
        ways = Ways(
            await stack.enter_async_context(Link(ports.hooks).serving()),
            await stack.enter_async_context(Link(ports.admission).serving()),
        )
        point_webhook(manifests, ways.admission.port, plane.ca_file)
        await installer.install(manifests)
        async with session.post(
            "/api/v1/nodes", json={"metadata": {"name": CONTROL_PLANE_NODE}}
        ) as answer:
            assert answer.status == 201
        policy = Path(shutil.copy(MANIFESTS / "components/policy/policy.yaml", directory))
        kubeconfigs = {
            account: await deployed.credentials(plane, installer, account, CONTROL_PLANE_NODE)
            for account in ACCOUNTS
        }
        processes = {
            "extender": deployed.extender(
                directory / "extender.log",
                manifests,
                kubeconfigs[EXTENDER],
                ports,
                secrets.extender,
                f"--policy={policy}",
                "--leader-elect",
            ),
            "agent": _agent(directory, manifests, kubeconfigs[AGENT]),
        }
        for process in processes.values():
            stack.push_async_callback(process.stop, signal.SIGKILL)
            await process.start()
        await deployed.ready(ports)
        running = Installed(plane, api, session, audit, ports, ways, secrets, policy, processes)
        await running.reported()
        printed = await deployed.printed_configuration(plane, secrets.scheduler, ways.hooks.port)
        await plane.start_scheduler(printed | deployed.calling(kubeconfigs[SCHEDULER]))
        await deployed.admission_in_force(session, vm())
        yield running


def _agent(directory: Path, manifests: list[Manifest], kubeconfig: Path) -> Process:
    return Process(
        directory / "agent.log",
        "nodeagent",
        *deployed.arguments(manifests, "Deployment", AGENT),
        f"--kubeconfig={kubeconfig}",
    )
