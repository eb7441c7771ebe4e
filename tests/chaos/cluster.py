"""The processes of a small cluster, each of which may be killed, frozen, cut off and started."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from extender.cluster import Election, OwnPod, Replica
from extender.service.seam import Witness
from extender.settings import LeaseTiming
from extender.settings import Settings as ExtenderSettings
from nodeagent.agent import Agent
from nodeagent.api import keys
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import (
    NODES,
    PODS,
    VIRTUAL_MACHINES,
    ApiError,
    Conflict,
    PatchType,
)
from nodeagent.apiserver.reflector import Pace
from nodeagent.settings import Settings as AgentSettings
from nodeagent.simulated.admission import Checkpoint
from nodeagent.simulated.hardware import Hardware, SimulatedGpu
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.builders import H100, raw_pod
from tests.chaos.gpus import Board, Disk
from tests.chaos.judge import Judge
from tests.chaos.loop import Process, SeededLoop
from tests.chaos.scheduler import Extender, Scheduler
from tests.chaos.wire import SENDER, Network, Wire

GPUS = {"node-1": 2, "node-2": 1}
NODE_NAMES = tuple(GPUS)
REPLICAS = ("a", "b")
GANGS = {"duo": ("duo-0", "duo-1"), "trio": ("trio-0", "trio-1", "trio-2")}
"""The names of the pods that come in gangs."""
RANKS = 3
"""Priorities there are, where pods have any: one for each name."""
VMS = (*(f"vm-{n}" for n in range(6)), "duo-0", "trio-1")
"""The names whose pods belong to a VirtualMachine."""
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SKEW_SECONDS = 3600

# A minute of a cluster's life in a few seconds: what waits, waits about a sixth of the default.
EXTENDER = ExtenderSettings(
    http_timeout_seconds=8.0,
    reservation_seconds=20.0,
    restart_hold_seconds=10.0,
    avoidance_seconds=5.0,
    avoidance_longest_seconds=20.0,
    circuit_failures=3,
    circuit_window_seconds=60.0,
    circuit_seconds=4.0,
    circuit_longest_seconds=16.0,
    lease_missed_seconds=12.0,
    snapshot_age_seconds=12.0,
    plan_burst_pods=3,
    claim_seconds=20.0,
    eviction_patience_seconds=6.0,
    preemption_pause_seconds=1.0,
    preemption_longest_pause_seconds=8.0,
    unseen_pod_seconds=30.0,
    unseen_pod_recheck_seconds=5.0,
)
TIMING = LeaseTiming(lease_duration_seconds=6, renew_deadline_seconds=4.0, retry_period_seconds=1.0)
AGENT = AgentSettings(
    rescan_seconds=10.0,
    lease_renew_seconds=3.0,
    api_timeout_seconds=4.0,
    driver_timeout_seconds=5.0,
    kubelet_timeout_seconds=5.0,
    longest_retry_seconds=8.0,
)
PACE = Pace(first_pause=0.25, longest_pause=3.0)


class Cluster:
    """Two nodes, with as many GPUs as *gpus* says, their agents, two extenders, and a scheduler.

    Pods are of different priorities if they are *ranked*. Each extender has a *witness* of its own.
    """

    def __init__(
        self,
        loop: SeededLoop,
        chance: random.Random,
        *,
        settings: ExtenderSettings = EXTENDER,
        gpus: Mapping[str, int] = GPUS,
        ranked: bool = False,
        witness: Callable[[], Witness | None] = lambda: None,
    ) -> None:
        self.loop = loop
        self._settings = settings
        self._ranked = ranked
        self._witness = witness
        self.chance = chance
        self.api = InMemoryApi(clock=self._time, chance=chance)
        self.network = Network(loop, self.api, chance)
        self.hardware = {n: Hardware(n, [H100] * gpus[n], Mode.VGPU_VFIO) for n in NODE_NAMES}
        self.judge = Judge(
            self.hardware,
            clock=loop.time,
            waited_for=lambda uid: self.scheduler.waited_for(uid),
            writer=self._writer,
            hold_seconds=EXTENDER.restart_hold_seconds,
            listed=lambda process, kind: self.network.lists.get((process, kind.plural), 0.0),
            greedy=settings.plan_solve_seconds <= 0.0,
        )
        self.api.witnessed_by(self.judge.wrote)
        self.boards = {n: Board(loop, h, chance, self.judge) for n, h in self.hardware.items()}
        self.disks = {name: Disk(chance) for name in NODE_NAMES}
        self.checkpoints = {name: Checkpoint() for name in NODE_NAMES}
        self.extenders: dict[str, Extender] = {}
        self.agents: dict[str, Process] = {}
        self.scheduler = Scheduler(
            loop,
            lambda: self.judge,
            chance,
            lambda: tuple(self.extenders.values()),
            NODE_NAMES,
            timeout=settings.http_timeout_seconds,
            late=lambda: PODS.plural in self.network.stuck,
        )
        self.happened: Counter[str] = Counter()
        self._lives = 0
        self._graves: list[Process] = []

    async def start(self) -> None:
        """Start everything; nothing is waited for."""
        for name in NODE_NAMES:
            await self.api.create(NODES, {"metadata": {"name": name}})
            self.start_agent(name)
        self.api.register(VIRTUAL_MACHINES)
        for name in VMS:
            await self.create_vm(name)
        for name in REPLICAS:
            await self.api.create(
                PODS,
                {"metadata": {"name": name}, "spec": {"nodeName": "control-plane"}},
                namespace=keys.SYSTEM_NAMESPACE,
            )
            self.start_extender(name)
        self.loop.spawn_outside(self.scheduler.run())

    # Processes.

    def start_extender(self, name: str) -> None:
        """Start a replica, unless it runs."""
        if name in self.extenders:
            return
        process = self._born(name)
        started, skew = self.loop.time(), self._skew()
        stop = asyncio.Event()
        ids = self.chance
        replica = Replica(
            Wire(self.network, process),
            self._settings,
            election=Election(repr(process), TIMING),
            own_pod=OwnPod(keys.SYSTEM_NAMESPACE, name),
            clock=lambda: 1e6 + self.loop.time() - started,
            utc_now=lambda: self._time() + skew,
            chance=self.chance.random,
            new_id=lambda: f"{ids.getrandbits(48):012x}",
            witness=self._witness(),
        )
        self.extenders[name] = Extender(process, replica, stop)
        self._live(process, replica.run(stop))

    def start_agent(self, name: str) -> None:
        """Start a node's agent, and with it what the agent needs of a kubelet."""
        if name in self.agents:
            return
        process = self.agents[name] = self._born(name)
        skew = self._skew()
        agent = Agent(
            name,
            api=Wire(self.network, process),
            driver=self.boards[name],
            kubelet=SimulatedKubelet(
                Wire(self.network, process, conflicts=False),
                self.hardware[name],
                self.checkpoints[name],
                timeout=4.0,
                pace=PACE,
            ),
            journal=self.disks[name],
            epoch=repr(process),
            settings=AGENT,
            pace=PACE,
            chance=self.chance.random,
            clock=self.loop.time,
            utc_now=lambda: self._time() + skew,
        )
        self._live(process, agent.run())

    def kill_extender(self, name: str) -> None:
        """SIGKILL."""
        if name in self.extenders:
            self._bury(self.extenders.pop(name).process)

    def dismiss_extender(self, name: str) -> None:
        """SIGTERM; SIGKILL after 15 s, if it is there still."""
        extender = self.extenders.pop(name, None)
        if extender is not None:
            extender.stop.set()
            self.loop.call_later(15.0, self._bury, extender.process, context=self.loop.world.copy())

    def kill_agent(self, name: str) -> None:
        """SIGKILL."""
        if name in self.agents:
            self._bury(self.agents.pop(name))

    async def restart_agent(self, name: str, after: float) -> None:
        """Start a node's agent once its predecessor's calls of the driver have ended."""
        await asyncio.sleep(after)
        await self.boards[name].idle()
        self.start_agent(name)

    async def restart_extender(self, name: str, after: float) -> None:
        """Start a replica after some seconds."""
        await asyncio.sleep(after)
        self.start_extender(name)

    async def heal(self) -> None:
        """Let nothing go wrong any more."""
        for name in NODE_NAMES:
            await self.cordon(name, shut=False)
        self.network.rough.clear()
        self.network.stalled.clear()
        for kind in tuple(self.network.stuck):
            self.network.unstick(kind)
        for name in (*REPLICAS, *NODE_NAMES):
            self.network.rejoin(name)
        for each in (*(e.process for e in self.extenders.values()), *self.agents.values()):
            self.loop.thaw(each)
        for name in NODE_NAMES:
            self.boards[name].rough = self.disks[name].rough = 0.0
            self.boards[name].broken = False
            for gpu in self.hardware[name].gpus:
                if gpu.lost:
                    self.revive(gpu)

    async def cordon(self, node: str, *, shut: bool) -> None:
        """Do as kubectl cordon does; if not *shut*, as uncordon."""
        spec = {"spec": {"unschedulable": shut}}
        await self.api.patch(NODES, node, spec, patch_type=PatchType.MERGE)

    # Pods and GPUs.

    async def create_vm(self, name: str) -> None:
        """Create what makes the pods of that name again, unless it is there."""
        with contextlib.suppress(Conflict):
            await self.api.create(
                VIRTUAL_MACHINES, {"metadata": {"name": name}, "spec": {}}, namespace="default"
            )

    async def create_pod(self, name: str, wants: Sequence[str], grace: int) -> None:
        """Create a pod, unless there is one of that name; it says so if it is one of a gang."""
        if any(each.name == name for each in self.judge.pods.values()):
            return
        pod = raw_pod(*wants, name=name, owner=("VirtualMachineInstance", name))
        del pod["metadata"]["uid"]
        for gang, members in GANGS.items():
            if name in members:
                size = str(len(members))
                pod["metadata"]["annotations"] = {keys.GANG: gang, keys.GANG_SIZE: size}
        pod["spec"]["terminationGracePeriodSeconds"] = grace
        if self._ranked:
            pod["spec"]["priority"] = 10 * (sum(name.encode()) % RANKS)
        try:
            made = await self.api.create(PODS, pod, namespace="default")
        except ApiError:
            return
        self.scheduler.add(dict(msgspec.json.decode(made)))

    def gpu(self, number: int) -> tuple[str, SimulatedGpu]:
        """Return one of the GPUs, with its node's name."""
        every = [(name, gpu) for name in NODE_NAMES for gpu in self.hardware[name].gpus]
        return every[number % len(every)]

    def revive(self, gpu: SimulatedGpu) -> None:
        """Bring a lost GPU back, which takes a reset."""
        gpu.lost = False
        gpu.reset()
        self.judge.upheaval(gpu.uuid)

    # Odds and ends.

    def _born(self, name: str) -> Process:
        self._lives += 1
        return Process(name, self._lives)

    def _live(self, process: Process, life: Coroutine[Any, Any, None]) -> None:
        task = self.loop.spawn(process, life, name=repr(process))
        task.add_done_callback(
            lambda done: self._ended(process, done), context=self.loop.world.copy()
        )

    def _ended(self, process: Process, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.judge.crashed(process, error)

    def _bury(self, process: Process) -> None:
        if process.alive:
            self.loop.kill(process)
            self._graves.append(process)  # or its tasks would be collected, and run on

    def _writer(self) -> str:
        sender = SENDER.get()
        return sender if sender.partition("_")[0] in REPLICAS else ""

    def _time(self) -> datetime:
        return EPOCH + timedelta(seconds=self.loop.time())

    def _skew(self) -> timedelta:
        return timedelta(seconds=self.chance.uniform(-SKEW_SECONDS, SKEW_SECONDS))
