"""Putting agents together from parts; those of simulated nodes. ``real_node`` has the others."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from nodeagent.agent import Agent
from nodeagent.api import resources
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.protocol import ApiServer
from nodeagent.journal_file import FileJournal
from nodeagent.purview import Purview
from nodeagent.simulated.driver import SimulatedDriver
from nodeagent.simulated.hardware import Hardware
from nodeagent.simulated.kubelet import SimulatedKubelet

JOURNAL = "journal.json"


class WrongUsage(Exception):
    """The options do not fit together; the message names the option and the remedy."""


class Parts(Protocol):
    """What agents are made of."""

    @property
    def connections(self) -> int:
        """How many connections to the API server the agents need at once."""

    def check(self) -> None:
        """Raise :class:`WrongUsage` if this cannot be put together."""

    def assembled(
        self, api: ApiServer, purview: Purview
    ) -> AbstractAsyncContextManager[Sequence[Agent]]:
        """Return the agents, which use the parts until the context is left."""


def check_resource(name: str) -> None:
    """Raise :class:`WrongUsage` if no GPU can serve a resource of that name."""
    if not resources.ours(name):
        raise WrongUsage(
            f"--resource {name}: GPU instances are asked for as nvidia.com/mig-1g.10gb"
            " or nvidia.com/NVIDIA_A100-1-5C"
        )


class Simulation(msgspec.Struct, frozen=True):
    """Nodes with *gpus* simulated GPUs each, of a known *model*."""

    nodes: tuple[str, ...]
    model: str
    gpus: int
    mode: Mode
    state_dir: Path | None = None
    create_seconds: float = 0.0
    preparing: bool = False

    @property
    def connections(self) -> int:
        """Each node watches its plan and its pods, and makes a request now and then."""
        return 4 * len(self.nodes) + 4

    def check(self) -> None:
        """Raise :class:`WrongUsage` if this cannot be simulated."""
        if self.model not in MODELS:
            raise WrongUsage(f"no such GPU model: {self.model}; known are {', '.join(MODELS)}")
        if self.mode is Mode.HARVESTER:
            raise WrongUsage("Harvester's own device plugin cannot be simulated yet")
        if self.preparing:
            raise WrongUsage("--enable-mig and --enable-sriov are for real GPUs")
        if len(set(self.nodes)) < len(self.nodes):
            raise WrongUsage("a node is named twice")

    @contextlib.asynccontextmanager
    async def assembled(self, api: ApiServer, purview: Purview) -> AsyncIterator[Sequence[Agent]]:
        """Return an agent for each node, whose kubelet is simulated, too."""
        yield [self._agent(api, purview, node) for node in self.nodes]

    def _agent(self, api: ApiServer, purview: Purview, node: str) -> Agent:
        models = [MODELS[self.model]] * self.gpus
        hardware = Hardware(node, models, self.mode, power_on=str(uuid.uuid4()))
        return Agent(
            node,
            api=api,
            driver=SimulatedDriver(hardware, create_seconds=self.create_seconds),
            kubelet=SimulatedKubelet(api, hardware),
            journal=FileJournal(self.state_dir and self.state_dir / node / JOURNAL),
            epoch=str(uuid.uuid4()),
            purview=purview,
        )
