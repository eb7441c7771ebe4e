"""A Harvester cluster over an API server: its kinds, its KubeVirt, and nodes with controllers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import NODES, ApiServer, Conflict
from tests.fakes.nvml.machine import Machine
from tests.fakes.pcidevices.admission import Admission
from tests.fakes.pcidevices.allocations import Environment
from tests.fakes.pcidevices.controller import Controller
from tests.fakes.pcidevices.host import Host, is_empty
from tests.fakes.pcidevices.log import Log
from tests.fakes.pcidevices.names import KINDS, KUBEVIRT, KUBEVIRT_NAMESPACE, KUBEVIRTS, Version
from tests.fakes.pcidevices.store import Step
from tests.fakes.pcidevices.vgpus import Plugins


class Shelf:
    """Device plugins that only remember: ``devices`` by resource, and whether each is healthy."""

    def __init__(self) -> None:
        self.devices: dict[str, Mapping[str, bool]] = {}

    async def publish(self, resource: str, devices: Mapping[str, bool]) -> None:
        """Take note of what is advertised."""
        self.devices[resource] = dict(devices)

    def healthy(self, resource: str) -> list[str]:
        """Return the devices that a kubelet may hand out, or has."""
        return [device for device, well in self.devices.get(resource, {}).items() if well]


class Cluster:
    """What all nodes share: the API server, the time (``now``, in seconds), the log of deeds."""

    def __init__(self, version: Version, api: ApiServer | None = None) -> None:
        self.version = version
        self.now = 0.0
        self.log = Log(lambda: self.now)
        self.hosts: list[Host] = []
        self.api = api or _twin()

    def client(self, actor: str) -> Admission:
        """Return the API server as *actor* finds it: behind the webhooks, its writes noted."""
        return Admission(
            self.api,
            self.log,
            actor,
            self.version,
            is_empty=lambda name: is_empty(self.hosts, name),
        )

    async def prepare(self, *nodes: str) -> None:
        """Create the nodes, and KubeVirt's configuration."""
        for name in nodes:
            with contextlib.suppress(Conflict):
                await self.api.create(NODES, {"metadata": {"name": name}})
        body = {"metadata": {"name": KUBEVIRT}, "spec": {"configuration": {}}}
        with contextlib.suppress(Conflict):
            await self.api.create(KUBEVIRTS, body, namespace=KUBEVIRT_NAMESPACE)


class Site:
    """A node of *cluster* with a machine of its own; the controller is at work in it."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        machine: Machine,
        *,
        functions: int = 8,
        plugins: Plugins | None = None,
        environment: Environment = lambda uid: {},
        step: Step = lambda name: None,
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.shelf = Shelf()
        self.host = Host(name, machine, cluster.log, cluster.version, functions=functions)
        cluster.hosts.append(self.host)
        self._plugins = plugins or self.shelf
        self._environment = environment
        self.step = step
        self.heeds_touches = True
        self._lives = 0
        self.restart()

    def restart(self) -> None:
        """Let a new controller take over; whatever the old one had in memory is gone."""
        self._lives += 1
        self.shelf.devices.clear()
        self.controller = Controller(
            self.cluster.client(self.name),
            self.host,
            self._plugins,
            lambda: self.cluster.now,
            seed=self._lives,
            step=lambda name: self.step(name),
            environment=self._environment,
            heeds_touches=self.heeds_touches,
        )

    async def work(self) -> None:
        """Let the controller do what is due now."""
        await self.controller.work()

    async def pass_(self, seconds: float) -> None:
        """Let time pass, with the controller doing at each moment what is due."""
        until = self.cluster.now + seconds
        await self.controller.work()
        while self.controller.next_due <= until:
            self.cluster.now = max(self.cluster.now, self.controller.next_due)
            await self.controller.work()
        self.cluster.now = until


def machine(directory: Path, library: Path, model: str, *, gpus: int = 1, node: str) -> Machine:
    """Make a vGPU host's machine; *node* makes its GPUs' UUIDs differ from other nodes'."""
    return Machine.create(
        library, directory / f"state-{node}", model, gpus=gpus, node=node, vgpu_host=True
    )


def _twin() -> InMemoryApi:
    api = InMemoryApi()
    for kind in KINDS:
        api.register(kind)
    return api
