"""This version and the one before, really run, one of each: no VM notices which is which.

The GPUs are a file and the kubelet is the test's, so that agents can be replaced, too; extenders
are replaced as a rolling update does it, the new one standing by before the old one goes.
"""

from __future__ import annotations

import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from extender.demo.pods import launcher
from nodeagent.api import keys
from nodeagent.api.resources import of_profile
from nodeagent.apiserver.protocol import PODS
from nodeagent.apiserver.rest import RestApi
from tests.e2e.container_node import ContainerNode
from tests.e2e.controlplane.cluster import control_plane
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.definition import define, read
from tests.e2e.judge import violations
from tests.e2e.previous import PINNED, VARIABLE, previous_version
from tests.e2e.process import ROOT, Process
from tests.e2e.service import LeaderService
from tests.e2e.stack import (
    CRD,
    ELECTION,
    Stack,
    artifacts,
    free_port,
    prepare,
    scheduler_config,
)
from tests.fakes.kubelet import temporary_places
from tests.manifests.test_crd_evolution import PREVIOUS
from tests.waiting import until

NODE = "gpu-node-0"
SMALL, MEDIUM, LARGE = (of_profile(name) for name in ("1g.10gb", "2g.20gb", "3g.40gb"))
HTTP_TIMEOUT = 15.0


class Entry(NamedTuple):
    """What must not change while a VM lives."""

    id: str
    gpu: str
    profile_id: int
    start: int


class Versions:
    """A cluster of one GPU node; extender and agent are of one version or of the other."""

    def __init__(
        self, running: Stack, node: ContainerNode, extenders: Mapping[Path, str], log: Path
    ) -> None:
        self.running = running
        self.node = node
        self._pods = extenders
        """The pod of the extender by the tree its code is in."""
        self._log = log
        self._kubeconfig = running.plane.kubeconfig("admin")

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
        arguments = self.node.arguments(self._kubeconfig)
        self.running.agents = Process(self._log, *arguments, tree=tree)
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
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(
            control_plane(required_binaries(), directory=directory / "controlplane")
        )
        kubeconfig = plane.kubeconfig("admin")
        api = await stack.enter_async_context(RestApi(kubeconfig=kubeconfig))
        pods = {first: "extender-before", ROOT: "extender-now"}
        await prepare(plane, api, [NODE], list(pods.values()), first / CRD.relative_to(ROOT))
        ports = {pod: str(free_port()) for pod in pods.values()}
        service = LeaderService(api, {pod: int(port) for pod, port in ports.items()})
        address = free_port()
        await stack.enter_async_context(service.serving(address))
        url = f"https://127.0.0.1:{address}"
        server, client = (plane.authority.issue(name) for name in ("extender", "scheduler"))
        extenders = {
            pod: Process(
                directory / f"{pod}.log",
                *("extender", "serve", "--kubeconfig", str(kubeconfig), "--port", ports[pod]),
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
        agent = Process(log, *node.arguments(kubeconfig), tree=first)
        running = Stack(plane, api, extenders, agent, url, trust)
        stack.push_async_callback(_ended, running)
        await running.extender.start()
        made = Versions(running, node, pods, log)
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


async def test_vms_come_stay_and_go_whichever_version_extender_and_agent_are_of(
    tmp_path: Path,
) -> None:
    before, now = previous_version(tmp_path), ROOT
    home = tmp_path / "node"
    home.mkdir()
    async with versions(artifacts(tmp_path), before, home) as cluster:
        await cluster.vms(come={"a": SMALL, "b": MEDIUM, "c": LARGE, "d": SMALL})

        # The order of an upgrade: the definition, the extender, the agents.
        await define(cluster.running.plane, read(CRD))
        await cluster.extender_of(now)
        await cluster.vms(come={"e": SMALL, "f": SMALL}, go=("a",))
        await cluster.agent_of(now)
        await cluster.vms(come={"g": MEDIUM}, go=("b",))

        # And back, the other one first: then the older extender has a newer agent.
        await cluster.extender_of(before)
        await cluster.vms(come={"h": SMALL, "i": SMALL}, go=("d",))
        await cluster.agent_of(before)
        await define(cluster.running.plane, read(before / CRD.relative_to(ROOT)))
        await cluster.vms(come={"j": SMALL}, go=("e", "h"))

        await cluster.vms(come={}, go=("c", "f", "g", "i", "j"))
        assert cluster.node.instances == set()


def test_what_definitions_are_compared_with_is_the_previous_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, PINNED)
    before = previous_version(tmp_path)

    assert read(PREVIOUS) == read(before / CRD.relative_to(ROOT))
