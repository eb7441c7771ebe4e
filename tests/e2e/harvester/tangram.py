"""Tangram on a Harvester cluster, as its overlay installs it; and its removal, as documented."""

from __future__ import annotations

import contextlib
import copy
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import msgspec

from extender.cli.harvester import provided, taken_back
from tests.e2e import deployed
from tests.e2e.audit import refusals, unused
from tests.e2e.controlplane import identities
from tests.e2e.deployed import EXTENDER, SCHEDULER, Ports, Secrets
from tests.e2e.harvester.cluster import RESOURCES, Cluster
from tests.e2e.harvester.nodes import Node
from tests.e2e.harvester.site import MIG_SECONDS, site
from tests.e2e.installation import Installer, point_webhook
from tests.e2e.process import Process
from tests.e2e.stack import ELECTION
from tests.fakes.pcidevices.log import AGENT, WRITE
from tests.fakes.pcidevices.names import KUBEVIRT, KUBEVIRT_NAMESPACE, KUBEVIRTS, Version
from tests.manifests.calls import Permission
from tests.manifests.kustomize import overlay
from tests.manifests.roles import Grant
from tests.waiting import until

ACCOUNT = "tangram-agent"
ACCOUNTS = (EXTENDER, SCHEDULER, ACCOUNT)
MANIFESTS = "harvester"
MODEL_RESOURCE = RESOURCES[19]
KEEP_OUT = (
    ("MutatingWebhookConfiguration", "tangram-pods"),
    ("ValidatingAdmissionPolicyBinding", "tangram-created-pods"),
)
"""By what pods that ask for our resources are refused where nobody answers for Tangram."""


class Tangram:
    """The installation on *cluster*, whose files are in *directory*; *audit* tells of its calls.

    Only if it *elects* a leader does an extender wait until it is one, which takes a while.
    """

    def __init__(
        self,
        cluster: Cluster,
        session: aiohttp.ClientSession,
        directory: Path,
        audit: Path,
        *,
        elects: bool = False,
    ) -> None:
        self._cluster = cluster
        self._session = session
        self._directory = directory
        self._audit = audit
        self._elects = elects
        self._manifests = copy.deepcopy(overlay(MANIFESTS))
        self._ports = Ports.free()
        self._secrets = Secrets.issued(cluster.plane, directory)
        self._installer = Installer(cluster.plane, session)
        point_webhook(self._manifests, self._ports.admission, cluster.plane.ca_file)
        self.extender = Process(directory / "extender.log")

    async def install(self, *agents: str) -> None:
        """Install the overlay and run it, with these further arguments for the *agents*."""
        plane, here = self._cluster.plane, next(iter(self._cluster.nodes))
        await self._installer.install(self._manifests)
        extender = await deployed.credentials(plane, self._installer, EXTENDER, here)
        self.extender = deployed.extender(
            self._directory / "extender.log",
            self._manifests,
            extender,
            self._ports,
            self._secrets.extender,
            *(ELECTION if self._elects else ()),
        )
        await self.extender.start()
        await deployed.ready(self._ports)
        scheduler = await deployed.credentials(plane, self._installer, SCHEDULER, here)
        await plane.stop_scheduler()
        await plane.start_scheduler(
            deployed.scheduler_configuration(
                self._manifests, scheduler, self._secrets.scheduler, self._ports.hooks
            )
        )
        amounts = {"limits": {MODEL_RESOURCE: "1"}}
        trial = {"spec": {"containers": [{"name": "x", "image": "x", "resources": amounts}]}}
        await deployed.admission_in_force(self._session, trial)
        arguments = (*deployed.arguments(self._manifests, "DaemonSet", ACCOUNT), *agents)
        for node in self._cluster.nodes.values():
            await node.install(await self._account(node.name), arguments)

    async def uninstall(self) -> None:
        """Remove all of it, in the documented order; VMs need not end for it."""
        async for _ in taken_back(self._cluster.api):
            pass
        first = [m for m in self._manifests if (m["kind"], m["metadata"]["name"]) in KEEP_OUT]
        await self._installer.remove(first)
        await self.stop()
        await self._installer.remove(self._manifests)

    async def stop(self) -> None:
        """Stop what runs, as the Deployments' and the DaemonSet's removal does."""
        for node in self._cluster.nodes.values():
            await node.agent.stop(signal.SIGTERM)
        await self._cluster.plane.stop_scheduler()
        await self.extender.stop(signal.SIGTERM)

    async def replace_extender(self) -> None:
        """End the extender at whatever it does, and start another, as its kubelet does."""
        await self.extender.stop(signal.SIGKILL)
        await self.extender.start()

    async def kill(self) -> None:
        """End what runs, at the end of a test."""
        await self.extender.stop(signal.SIGKILL)

    def unused(self, account: str) -> frozenset[Grant]:
        """Return what an account's roles allow it, and it has not asked for."""
        return unused(self._audit, self._manifests, account)

    def refusals(self) -> dict[str, set[Permission]]:
        """Return what accounts asked for and were refused; nothing, if roles and policies fit."""
        return refusals(self._audit, ACCOUNTS)

    async def _account(self, node: str) -> Path:
        """Return the kubeconfig of the agent on a node, by a token that is bound to it."""
        plane, pod = self._cluster.plane, f"agent-{node}"
        await self._installer.pod(pod, ACCOUNT, node)
        token = await self._installer.token(ACCOUNT, pod)
        file = self._directory / f"{pod}.kubeconfig"
        file.write_text(identities.kubeconfig(plane.url, plane.ca_file, token))
        return file


@contextlib.asynccontextmanager
async def beside(
    cluster: Cluster, directory: Path, audit: Path, *, elects: bool = False
) -> AsyncIterator[Tangram]:
    """Have Tangram's installation at hand, which is yet to be installed, until the block ends.

    What its agents have written is in the cluster's log of deeds by then.
    """
    async with cluster.plane.client() as session:
        tangram = Tangram(cluster, session, directory, audit, elects=elects)
        try:
            yield tangram
        finally:
            await tangram.kill()
        # Else none of them could have been found to be a step into a trap.
        assert any(each.actor == AGENT for each in cluster.log.of(WRITE))


@contextlib.asynccontextmanager
async def installed(
    directory: Path,
    version: Version,
    *,
    nodes: int,
    gpus: int = 2,
    scan_seconds: float = 30.0,
    mig_seconds: float = MIG_SECONDS,
    heeds_touches: bool = True,
    elects: bool = False,
    before: Callable[[Node], None] = lambda node: None,
) -> AsyncIterator[tuple[Cluster, Tangram]]:
    """Run a cluster on which Tangram is installed and VMs may ask for every type.

    Each node is given to *before* before anything is on it.
    """
    async with (
        site(
            directory,
            version,
            nodes=nodes,
            gpus=gpus,
            scan_seconds=scan_seconds,
            mig_seconds=mig_seconds,
            heeds_touches=heeds_touches,
            before=before,
        ) as (running, audit),
        beside(running, directory, audit, elects=elects) as tangram,
    ):
        await tangram.install()
        await ready(running)
        yield running, tangram


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
    await bootstrapped(running)


async def bootstrapped(running: Cluster) -> None:
    """Have every type permitted, and see that KubeVirt is told to make no mediated devices.

    Its virt-handler would make such, and remove all others.
    """
    async for _ in provided(running.api):
        pass
    raw = await running.api.get(KUBEVIRTS, KUBEVIRT, namespace=KUBEVIRT_NAMESPACE)
    configuration = msgspec.json.decode(raw)["spec"]["configuration"]
    assert configuration.keys() == {"permittedHostDevices"}
