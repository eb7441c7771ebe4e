"""Simulated nodes whose GPUs and kubelets outlive their agents: all is kept in files.

``python -m tests.e2e.chaos.machines`` runs the agents of several such nodes. Killed at any moment,
it finds GPUs, GPU instances, who uses them, and the kubelet's claims as they were, as the agent of
a real node does; what had not reached the file had not happened yet for anybody.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from nodeagent.agent import Agent
from nodeagent.api.catalog import Model
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.rest import RestApi
from nodeagent.assembly import JOURNAL
from nodeagent.driver import LiveInstance, Purpose
from nodeagent.journal_file import FileJournal
from nodeagent.logs import log_to_stderr
from nodeagent.purview import Purview
from nodeagent.serving import serve
from nodeagent.simulated.admission import Admitted, Checkpoint
from nodeagent.simulated.driver import SimulatedDriver
from nodeagent.simulated.hardware import Hardware
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.e2e.chaos.spots import Spot
from tests.e2e.stack import MODEL

FILE = "machine.json"


class _Gpu(msgspec.Struct):
    instances: dict[int, LiveInstance]
    clients: dict[int, set[str]]


class _File(msgspec.Struct):
    gpus: dict[str, _Gpu]
    admitted: dict[str, Admitted]


_DECODER = msgspec.json.Decoder(_File)


class Machine(Hardware):
    """The GPUs and the kubelet's checkpoint of one node, kept under *directory*."""

    def __init__(self, directory: Path, node: str, models: Sequence[Model]) -> None:
        super().__init__(node, models, Mode.VGPU_VFIO, power_on="once")
        self.checkpoint = Checkpoint()
        self.directory = directory / node
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / FILE
        if file.exists():
            kept = _DECODER.decode(file.read_bytes())
            self.checkpoint.admitted = kept.admitted
            for gpu in self.gpus:
                gpu.instances = kept.gpus[gpu.uuid].instances
                gpu.clients = kept.gpus[gpu.uuid].clients

    def open(self, gpu: str, gi_id: int, client: str) -> None:
        """Let *client* use a GPU instance."""
        super().open(gpu, gi_id, client)
        self.save()

    def close(self, client: str) -> None:
        """End whatever *client* uses."""
        super().close(client)
        self.save()

    def save(self) -> None:
        """Put the file's next state in the place of the one before, at once."""
        gpus = {gpu.uuid: _Gpu(gpu.instances, gpu.clients) for gpu in self.gpus}
        new = self.directory / f"{FILE}.new"
        new.write_bytes(msgspec.json.encode(_File(gpus, self.checkpoint.admitted)))
        os.replace(new, self.directory / FILE)

    @property
    def spots(self) -> dict[Spot, set[str]]:
        """Who uses each GPU instance there is, by where that is."""
        return {
            Spot(gpu.uuid, each.profile_id, each.placement.start, each.placement.size): {
                *gpu.clients.get(gi_id, ())
            }
            for gpu in self.gpus
            for gi_id, each in gpu.instances.items()
        }


class Driver(SimulatedDriver):
    """A machine's driver: its calls have returned once the file says what they did."""

    def __init__(self, machine: Machine, create_seconds: float = 0.0) -> None:
        super().__init__(machine, create_seconds=create_seconds)
        self._machine = machine

    async def create(
        self, gpu: str, profile_id: int, placement: Placement, purpose: Purpose | None = None
    ) -> int:
        """Create a GPU instance at exactly *placement* and return its id."""
        gi_id = await super().create(gpu, profile_id, placement, purpose)
        self._machine.save()
        return gi_id

    async def destroy(self, gpu: str, gi_id: int) -> None:
        """Destroy a GPU instance that nobody uses."""
        await super().destroy(gpu, gi_id)
        self._machine.save()


def machine(directory: Path, node: str, gpus: int) -> Machine:
    """Return a node's machine with so many GPUs, as it was left."""
    return Machine(directory, node, [MODEL] * gpus)


def plant(directory: Path, node: str, gpus: int, gpu: int, profile_id: int, start: int) -> Spot:
    """Make a GPU instance that no agent made, on the GPU of that index, and return where it is."""
    there = machine(directory, node, gpus)
    size = MODEL.geometry.by_id[profile_id].size
    there.gpus[gpu].create(profile_id, Placement(start, size))
    there.save()
    return Spot(there.gpus[gpu].uuid, profile_id, start, size)


async def main(arguments: argparse.Namespace) -> None:
    """Run the agents until the process is told to end."""
    nodes: list[str] = arguments.node
    async with RestApi(kubeconfig=arguments.kubeconfig, connections=4 * len(nodes) + 4) as api:
        agents = []
        for node in nodes:
            there = machine(arguments.machines, node, arguments.gpus)
            agents.append(
                Agent(
                    node,
                    api=api,
                    driver=Driver(there, arguments.create_latency),
                    kubelet=SimulatedKubelet(api, there, there.checkpoint),
                    journal=FileJournal(there.directory / JOURNAL),
                    epoch=str(uuid.uuid4()),
                    purview=Purview(),
                )
            )
        await serve(agents)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="machines", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--machines", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--create-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--node", action="append", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    log_to_stderr("info")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(_arguments()))
