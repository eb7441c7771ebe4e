"""What of an installation differs with its GPUs: the overlay, the agents, what a pod asks for."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml

from nodeagent.api.resources import of_profile
from nodeagent.apiserver.protocol import NODES
from nodeagent.apiserver.rest import RestApi
from tests.e2e import deployed
from tests.e2e.container_node import ContainerNode
from tests.e2e.controlplane.cluster import ControlPlane
from tests.e2e.installation import Installer, Manifest
from tests.e2e.process import Process
from tests.fakes.kubelet import temporary_places
from tests.manifests.generate import MANIFESTS

CONTROL_PLANE_NODE = "control-plane"
ALIVE = "--alive-file=/run/tangram"


class Place(NamedTuple):
    """Where something is installed."""

    directory: Path
    """Of logs."""
    plane: ControlPlane
    api: RestApi
    """Of its administrator."""
    installer: Installer
    manifests: list[Manifest]


class Gpus(Protocol):
    """The GPUs of an installation, and the agents on them."""

    @property
    def overlay(self) -> str:
        """What is installed for them."""

    @property
    def account(self) -> str:
        """The agents' account."""

    @property
    def nodes(self) -> int:
        """How many nodes have GPUs."""

    def trial(self) -> dict[str, Any]:
        """Return a pod that asks for a seventh of one, as somebody ignorant of Tangram creates it.

        Neither its label nor its scheduler says that it is Tangram's.
        """

    def at_work(self, place: Place) -> contextlib.AbstractAsyncContextManager[None]:
        """Run the agents until the block ends."""


class SimulatedGpus:
    """Those of the overlay for trials: its Nodes, and the one agent that plays their kubelets."""

    overlay = "dev"
    account = "tangram-simulated-agent"
    nodes = 2

    def trial(self) -> dict[str, Any]:
        """Return the overlay's own pod."""
        pod: dict[str, Any] = yaml.safe_load((MANIFESTS / "overlays/dev/pod.yaml").read_text())
        return pod

    @contextlib.asynccontextmanager
    async def at_work(self, place: Place) -> AsyncIterator[None]:
        """Run the agent until the block ends."""
        own = await deployed.credentials(
            place.plane, place.installer, self.account, CONTROL_PLANE_NODE
        )
        options = [
            each.replace(ALIVE, f"--alive-file={place.directory}")
            for each in deployed.arguments(place.manifests, "Deployment", self.account)
        ]
        log = place.directory / "agent.log"
        agent = Process(log, "nodeagent", *options, f"--kubeconfig={own}")
        await agent.start()
        try:
            yield
        finally:
            await agent.stop(signal.SIGKILL)


class ContainerGpus:
    """Eight H100s on each of two nodes, for containers; each node has its own agent.

    NVML, kubelets and container runtimes are fakes; the nodes' files are in *home*.
    """

    overlay = "default"
    account = "tangram-agent"
    nodes = 2
    elsewhere = frozenset({"--state-dir=/var/lib/tangram", "--root=/host"})
    """Those of the container's arguments that say where things are on a node."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.there: dict[str, ContainerNode] = {}
        """The nodes by name."""

    def pod(self, node: str) -> str:
        """Name the pod of the agent on a node."""
        return f"{self.account}-{node}"

    def trial(self) -> dict[str, Any]:
        """Return a pod with a container that asks for a MIG device."""
        limits = {of_profile("1g.10gb"): "1"}
        container = {"name": "compute", "image": "none", "resources": {"limits": limits}}
        return {
            "metadata": {"generateName": "trial-"},
            # Its kubelet ends it before that.
            "spec": {"terminationGracePeriodSeconds": 30, "containers": [container]},
        }

    @contextlib.asynccontextmanager
    async def at_work(self, place: Place) -> AsyncIterator[None]:
        """Run kubelets and agents until the block ends."""
        given = deployed.arguments(place.manifests, "DaemonSet", self.account)
        assert self.elsewhere <= set(given)
        options = [each for each in given if each not in self.elsewhere]
        async with contextlib.AsyncExitStack() as stack:
            for name in (f"gpu-node-{number}" for number in range(self.nodes)):
                await place.api.create(NODES, _node(name))
                (self._home / name).mkdir(parents=True)
                places = stack.enter_context(temporary_places())
                node = ContainerNode(self._home / name, places, place.api, name, gpus=8)
                await stack.enter_async_context(node.working())
                own = await deployed.credentials(
                    place.plane, place.installer, self.account, name, self.pod(name)
                )
                here = [
                    each.replace(ALIVE, f"--alive-file={self._home / name}") for each in options
                ]
                agent = node.agent(place.directory / f"agent-{name}.log", own, options=here)
                stack.push_async_callback(agent.stop, signal.SIGKILL)
                await agent.start()
                self.there[name] = node
            yield


def _node(name: str) -> dict[str, Any]:
    amounts = {"cpu": "128", "memory": "1Ti", "pods": "250"}
    return {
        "metadata": {"name": name, "labels": {"tangram.dev/gpu-node": "true"}},
        "status": {"allocatable": amounts, "capacity": amounts},
    }
