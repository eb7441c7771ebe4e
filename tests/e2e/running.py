"""Runs an overlay as it is: accounts, roles, certificates, options, policies, webhook.

Its programs run as processes (``deployed``), kube-scheduler with what ``tangram scheduler-config``
prints once the agents (``gpus``) have reported. The API server calls the webhook where it is, for
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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from nodeagent.api import gpunode
from nodeagent.apiserver.protocol import GPU_NODES, NODES, PODS, Kind
from nodeagent.apiserver.rest import RestApi
from tests.e2e import deployed
from tests.e2e.audit import audited, refusals, unused
from tests.e2e.chaos.link import Link
from tests.e2e.controlplane.cluster import control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.deployed import EXTENDER, SCHEDULER, Ports, Secrets
from tests.e2e.gpus import CONTROL_PLANE_NODE, Gpus, Place, SimulatedGpus
from tests.e2e.installation import Installer, point_webhook
from tests.e2e.judge import violations
from tests.e2e.process import Process
from tests.manifests.calls import Permission
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import overlay
from tests.manifests.roles import Grant
from tests.waiting import until


class Installed:
    """The running installation."""

    def __init__(
        self,
        place: Place,
        session: aiohttp.ClientSession,
        audit: Path,
        ports: Ports,
        ways: Ways,
        secrets: Secrets,
        policy: Path,
        extender: Process,
        gpus: Gpus,
    ) -> None:
        self.place = place
        self.plane = place.plane
        self.api = place.api
        self.session = session
        """With the API server, as its administrator."""
        self._audit = audit
        self._ports = ports
        self.hooks = f"https://127.0.0.1:{ports.hooks}"
        self.webhook = f"https://127.0.0.1:{ports.admission}"
        self.desk = f"https://127.0.0.1:{ports.desk}"
        self.ways = ways
        self.secrets = secrets
        self.policy = policy
        """The file of it, as components/policy mounts one."""
        self.extender = extender
        self._overlay = gpus.overlay
        self.accounts = (EXTENDER, gpus.account, SCHEDULER)
        self.trial = gpus.trial
        self._nodes = gpus.nodes

    async def ready(self) -> None:
        """Wait until the extender serves, and start the scheduler with what it is told then."""
        await deployed.ready(self._ports)
        await self.reported()
        own = deployed.kubeconfig(self.plane, f"{SCHEDULER}-0")
        printed = await deployed.printed_configuration(
            self.plane, self.secrets.scheduler, self.ways.hooks.port
        )
        await self.plane.start_scheduler(printed | deployed.calling(own))
        await deployed.admission_in_force(self.session, self.trial())

    async def install_again(self, agents: Callable[[Place], Awaitable[None]]) -> None:
        """Install it anew where it was uninstalled; *agents* starts them."""
        await self.place.installer.install(self.place.manifests)
        await credentials(self.place)
        await self.extender.start()
        await agents(self.place)
        await self.ready()

    async def gpu_nodes(self) -> list[gpunode.GpuNode]:
        """Return what there is of plans and inventories."""
        return [gpunode.decode(raw) for raw in (await self.api.list(GPU_NODES)).items]

    async def reported(self) -> None:
        """Wait until every node has told what its GPUs offer."""

        async def told() -> bool:
            nodes = await self.gpu_nodes()
            return len(nodes) == self._nodes and all(node.status.gpus for node in nodes)

        await until(told, within=60, every=0.2)

    async def create_vms(self, count: int) -> None:
        """Create the pod for trials so many times, as of somebody who knows nothing of Tangram."""
        trial = self.trial()
        gate = asyncio.Semaphore(8)

        async def create() -> None:
            async with gate:
                await self.api.create(PODS, trial, namespace="default")

        await asyncio.gather(*(create() for _ in range(count)))

    async def listed(self, kind: Kind, namespace: str = "") -> list[dict[str, Any]]:
        """Return every object of a kind, or those in a namespace."""
        return [json.loads(raw) for raw in (await self.api.list(kind, namespace=namespace)).items]

    async def pods(self) -> list[dict[str, Any]]:
        """Return the trials."""
        return await self.listed(PODS, "default")

    async def running(self, count: int) -> None:
        """Wait until there are so many trials, all running."""
        await self._all("Running", count)

    async def waiting(self, count: int) -> None:
        """Wait until there are so many trials, none of which has a node."""
        await self._all("Pending", count)

    async def _all(self, phase: str, count: int) -> None:
        async def are() -> bool:
            phases = collections.Counter(pod["status"]["phase"] for pod in await self.pods())
            assert not phases["Failed"], [pod["status"] for pod in await self.pods()]
            return phases == collections.Counter({phase: count})

        await until(are, within=300, every=0.5)

    async def planned(self, count: int) -> None:
        """Wait until there are so many entries in all plans, each of them realized."""

        async def reached() -> bool:
            nodes = await self.gpu_nodes()
            planned = [entry.id for node in nodes for entry in node.spec.assignments]
            realized = [each.id for node in nodes for each in node.status.realized]
            return sorted(planned) == sorted(realized) and len(planned) == count

        await until(reached, within=60, every=0.5)

    async def violations(self) -> list[str]:
        """Return what is wrong with plans, inventories and decisions; nothing if all is well."""
        pods = {pod["metadata"]["name"]: pod for pod in await self.pods()}
        return list(violations(await self.gpu_nodes(), pods))

    async def create(self, pod: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Try to create a pod as an administrator; return the status and the answer."""
        async with self.session.post("/api/v1/namespaces/default/pods", json=pod) as answer:
            return answer.status, await answer.json()

    def unused(self, account: str) -> frozenset[Grant]:
        """Return what an account's roles allow it, and it has not asked for."""
        return unused(self._audit, overlay(self._overlay), account)

    def refusals(self) -> dict[str, set[Permission]]:
        """Return what the accounts asked for and were refused; nothing, if their roles fit."""
        return refusals(self._audit, self.accounts)


class Ways(NamedTuple):
    """From kube-scheduler to the hooks, and from the API server to the webhook."""

    hooks: Link
    admission: Link


@contextlib.asynccontextmanager
async def installed(directory: Path, gpus: Gpus | None = None) -> AsyncIterator[Installed]:
    """Install the overlay of those *gpus*, or the one for trials, and run it until the block ends.

    *directory* keeps the logs.
    """
    gpus = gpus or SimulatedGpus()
    manifests = copy.deepcopy(overlay(gpus.overlay))
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
        await api.create(NODES, {"metadata": {"name": CONTROL_PLANE_NODE}})
        policy = Path(shutil.copy(MANIFESTS / "components/policy/policy.yaml", directory))
        place = Place(directory, plane, api, installer, manifests)
        extenders, _ = await credentials(place)
        extender = deployed.extender(
            directory / "extender.log",
            manifests,
            extenders,
            ports,
            secrets.extender,
            f"--policy={policy}",
            "--leader-elect",
        )
        stack.push_async_callback(extender.stop, signal.SIGKILL)
        await extender.start()
        await stack.enter_async_context(gpus.at_work(place))
        running = Installed(place, session, audit, ports, ways, secrets, policy, extender, gpus)
        await running.ready()
        yield running


async def credentials(place: Place) -> list[Path]:
    """Return the kubeconfigs of extender and scheduler, in pods that are new."""
    return [
        await deployed.credentials(place.plane, place.installer, account, CONTROL_PLANE_NODE)
        for account in (EXTENDER, SCHEDULER)
    ]
