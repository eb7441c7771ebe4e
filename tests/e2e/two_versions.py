"""Runs a cluster whose extender and agent are of this version or of the one before.

The GPUs are a file and the kubelet is the test's, so that agents can be replaced, too; extenders
are replaced as a rolling update does it, the new one standing by before the old one goes. Both have
their accounts' tokens, and no more than the roles and policies of one version or the other allow.
"""

from __future__ import annotations

import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

from extender.demo.pods import launcher
from nodeagent.api import keys
from nodeagent.api.resources import of_profile
from nodeagent.apiserver.protocol import PODS
from nodeagent.apiserver.rest import RestApi
from tests.e2e.accounts import bounds
from tests.e2e.audit import audited, refusals
from tests.e2e.container_node import ContainerNode
from tests.e2e.controlplane.cluster import control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.deployed import EXTENDER, credentials
from tests.e2e.installation import Installer
from tests.e2e.judge import violations
from tests.e2e.process import ROOT, Process
from tests.e2e.service import LeaderService
from tests.e2e.stack import CRD, ELECTION, Stack, free_port, prepare, scheduler_config
from tests.fakes.kubelet import temporary_places
from tests.manifests.calls import Permission
from tests.manifests.kustomize import Manifest, built
from tests.waiting import until

NODE = "gpu-node-0"
AGENT = "tangram-agent"
HTTP_TIMEOUT = 15.0
SMALL, MEDIUM, LARGE = (of_profile(name) for name in ("1g.10gb", "2g.20gb", "3g.40gb"))


class Entry(NamedTuple):
    """What must not change while a VM lives."""

    id: str
    gpu: str
    profile_id: int
    start: int


def bounds_of(tree: Path) -> list[Manifest]:
    """Return a version's accounts, their roles, and the policies that keep them in bounds."""
    return bounds(built(tree / "manifests/base"))


class Versions:
    """A cluster of one GPU node; extender and agent are of one version or of the other."""

    def __init__(
        self,
        running: Stack,
        node: ContainerNode,
        installer: Installer,
        extenders: Mapping[Path, str],
        agent: Path,
        log: Path,
        audit: Path,
    ) -> None:
        self.running = running
        self.node = node
        self._installer = installer
        self._pods = extenders
        """The pod of the extender by the tree its code is in."""
        self._kubeconfig = agent
        self._log = log
        self._audit = audit

    async def bounded_as_by(self, tree: Path) -> None:
        """Give the accounts the roles of that version, and its policies."""
        for each in bounds_of(tree):
            await self._installer.apply(each)

    def refusals(self) -> dict[str, set[Permission]]:
        """Return by account what it has asked for in vain."""
        return refusals(self._audit, (EXTENDER, AGENT))

    async def extender_of(self, tree: Path) -> None:
        """Replace the extender by one of that version, which first stands by."""
        coming, going = self._pods[tree], self.running.extender
        self.running.extender = successor = self.running.extenders[coming]
        served_before = len(successor.events("serving")) if successor.log.exists() else 0
        await successor.start()
        await until(lambda: len(successor.events("serving")) > served_before, within=60, every=0.05)
        await going.stop()

        async def leads() -> bool:
            return await self.running.leader() == coming

        await until(leads, within=60, every=0.1)
        await self.running.ready()

    async def agent_of(self, tree: Path) -> None:
        """Replace the agent by one of that version."""
        await self.running.agents.stop()
        epochs = {node.status.agent_epoch for node in await self.running.gpu_nodes()}
        self.running.agents = self.node.agent(self._log, self._kubeconfig, tree=tree)
        await self.running.agents.start()

        async def reported() -> bool:
            nodes = await self.running.gpu_nodes()
            return bool(nodes) and all(
                node.status.agent_epoch and node.status.agent_epoch not in epochs for node in nodes
            )

        await until(reported, within=60, every=0.1)

    async def vms(self, *, come: Mapping[str, str], go: tuple[str, ...] = ()) -> None:
        """Let VMs come and go, and see that those that stay have what they had."""
        before, opened = await self._entries(), dict(self.node.opened)
        pods = await self.running.pods()
        for name in go:
            metadata = pods[name]["metadata"]
            await self.running.api.delete(PODS, metadata["name"], namespace="default")
            del before[metadata["uid"]], opened[metadata["uid"]]
        for name, resource in come.items():
            body = launcher(name, "default", resource)
            body["spec"]["terminationGracePeriodSeconds"] = 30  # its kubelet ends it first
            await self.running.api.create(PODS, body, namespace="default")
        await self._settled(len(before) + len(come))
        after = await self._entries()
        assert before.items() <= after.items()
        assert opened.items() <= self.node.opened.items()

    async def _settled(self, vms: int) -> None:
        """Wait until so many VMs run, each on its own GPU instance, and nothing is left over."""

        async def settled() -> bool:
            pods = await self.running.pods()
            assert not any(pod["status"]["phase"] == "Failed" for pod in pods.values()), pods
            running = [pod for pod in pods.values() if pod["status"]["phase"] == "Running"]
            nodes = await self.running.gpu_nodes()
            planned = {entry.id for node in nodes for entry in node.spec.assignments}
            own = {i.assignment for n in nodes for gpu in n.status.gpus for i in gpu.instances}
            return (
                len(running) == len(pods) == vms
                and own == planned  # the agent knows what its predecessor has made
                and not list(violations(nodes, pods))
            )

        await until(settled, within=90, every=0.2)
        assert sorted(self.node.opened.values()) == sorted(self.node.instances)
        assert self.node.tries_to_destroy_what_is_open == []

    async def _entries(self) -> dict[str, Entry]:
        return {
            entry.pod.uid: Entry(entry.id, entry.gpu, entry.profile_id, entry.start)
            for node in await self.running.gpu_nodes()
            for entry in node.spec.assignments
            if entry.pod is not None
        }


@contextlib.asynccontextmanager
async def versions(directory: Path, first: Path, home: Path) -> AsyncIterator[Versions]:
    """Run a cluster with extender, agent and definition of the *first* version."""
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
        pods = {first: "extender-before", ROOT: "extender-now"}
        await prepare(plane, api, [NODE], first / CRD.relative_to(ROOT))
        installer = Installer(plane, session)
        for each in bounds_of(first):
            await installer.apply(each)
        extenders_own = {
            pod: await credentials(plane, installer, EXTENDER, NODE, pod) for pod in pods.values()
        }
        agents_own = await credentials(plane, installer, AGENT, NODE)
        ports = {pod: str(free_port()) for pod in pods.values()}
        service = LeaderService(api, {pod: int(port) for pod, port in ports.items()})
        address = free_port()
        await stack.enter_async_context(service.serving(address))
        url = f"https://127.0.0.1:{address}"
        server, client = (plane.authority.issue(name) for name in ("extender", "scheduler"))
        extenders = {
            pod: Process(
                directory / f"{pod}.log",
                *("extender", "serve", "--kubeconfig", str(extenders_own[pod])),
                *("--port", ports[pod]),
                *("--own-pod", f"{keys.SYSTEM_NAMESPACE}/{pod}"),
                *("--http-timeout", str(HTTP_TIMEOUT), "--client-ca", str(plane.ca_file)),
                *("--tls-cert", str(server.public), "--tls-key", str(server.key), *ELECTION),
                tree=tree,
            )
            for tree, pod in pods.items()
        }
        places = stack.enter_context(temporary_places())
        node = ContainerNode(home, places, api, NODE)
        await stack.enter_async_context(node.working())
        trust = ssl.create_default_context(cafile=plane.ca_file)
        trust.load_cert_chain(client.public, client.key)
        log = directory / "agent.log"
        agent = node.agent(log, agents_own, tree=first)
        running = Stack(plane, api, extenders, agent, url, trust)
        stack.push_async_callback(_ended, running)
        await running.extender.start()
        made = Versions(running, node, installer, pods, agents_own, log, audit)
        await running.ready()
        await made.agent_of(first)
        await plane.start_scheduler(
            scheduler_config(
                url,
                http_timeout=HTTP_TIMEOUT,
                ca=plane.ca_file,
                client=client,
                managed=(SMALL, MEDIUM, LARGE),
            )
        )
        yield made


async def _ended(running: Stack) -> None:
    for process in (*running.extenders.values(), running.agents):
        await process.stop(signal.SIGKILL)
