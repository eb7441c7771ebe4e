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
from extender.policy import InForce, PolicyName
from extender.service.seam import Witness
from extender.settings import LeaseTiming
from extender.settings import Settings as ExtenderSettings
from nodeagent.agent import Agent
from nodeagent.api import keys
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.history import Write
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import (
    NODES,
    PODS,
    VIRTUAL_MACHINES,
    ApiError,
    Conflict,
    Kind,
    NotFound,
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
from tests.chaos.owners import Owners
from tests.chaos.pods import Pod
from tests.chaos.scheduler import Extender, Scheduler
from tests.chaos.wire import LATE, SENDER, SENT, Network, Wire

GPUS = {"node-1": 2, "node-2": 1}
ROOMY = {"node-1": 2, "node-2": 2}
"""As many as it takes for VMs to have somewhere to be moved to."""
NODE_NAMES = tuple(GPUS)
REPLICAS = ("a", "b")
GANGS = {"duo": ("duo-0", "duo-1"), "trio": ("trio-0", "trio-1", "trio-2")}
"""The names of the pods that come in gangs."""
RANKS = 3
"""Priorities there are, where pods have any: one for each name."""
VMS = (*(f"vm-{n}" for n in range(6)), "duo-0", "trio-1")
"""The names whose pods belong to a VirtualMachine."""
READ_WITHIN_SECONDS = 3.0
"""How long it takes until a replica goes by a policy that was changed."""
MORE_VMS = tuple(f"vm-{n}" for n in range(6, 9))
"""And those besides where VMs are moved."""
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
    move_seconds=15.0,
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

    Pods are of different priorities if they are *ranked*. With a *policy*, VMs are moved. Each
    extender has a *witness* of its own.
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
        policy: InForce | None = None,
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
            lead_seconds=TIMING.renew_deadline_seconds,
            sent=SENT.get,
            late=LATE.get,
            knew=self.network.hearsay.knew,
            read=self.network.hearsay.last,
            replicas=self._replicas,
        )
        self.api.witnessed_by(self._wrote)
        self.policy = self._allowing = policy or InForce.of(PolicyName.DEFAULT)
        self.owners = None if policy is None else Owners(self)
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
            ranked=ranked,
        )
        self.happened: Counter[str] = Counter()
        self._skews: dict[str, timedelta] = {}
        self._lives = 0
        self._graves: list[Process] = []

    async def start(self) -> None:
        """Start everything; nothing is waited for."""
        for name in NODE_NAMES:
            await self.add_node(name)
            self.start_agent(name)
        self.api.register(VIRTUAL_MACHINES)
        for name in VMS:
            await self.create_vm(name)
        if self.owners is not None:
            await self.owners.start()
            for name in MORE_VMS:
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
        started = self.loop.time()
        self.step_clock(name)
        stop = asyncio.Event()
        ids = self.chance
        replica = Replica(
            Wire(self.network, process),
            self._settings,
            self.policy,
            election=Election(repr(process), TIMING),
            own_pod=OwnPod(keys.SYSTEM_NAMESPACE, name),
            clock=lambda: 1e6 + self.loop.time() - started,
            utc_now=lambda: self._time() + self._skews[name],
            chance=self.chance.random,
            new_id=lambda: f"{ids.getrandbits(48):012x}",
            witness=self._witness(),
        )
        self.extenders[name] = Extender(process, replica, stop)
        self.judge.moves.adopted(process.label, self.policy.moving)
        self._live(process, replica.run(stop))

    def start_agent(self, name: str) -> None:
        """Start a node's agent, and with it what the agent needs of a kubelet."""
        if name in self.agents:
            return
        process = self.agents[name] = self._born(name)
        self.step_clock(name)
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
            utc_now=lambda: self._time() + self._skews[name],
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
            await self.add_node(name)
            await self.cordon(name, shut=False)
        self.network.rough.clear()
        self.scheduler.relent()
        if self.owners is not None:
            await self.owners.relent()
            self.obey(self._allowing)
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
        """Do as kubectl cordon does; if not *shut*, as uncordon. There may be no such Node now."""
        spec = {"spec": {"unschedulable": shut}}
        with contextlib.suppress(NotFound):
            await self.api.patch(NODES, node, spec, patch_type=PatchType.MERGE)

    async def add_node(self, name: str) -> None:
        """Do as a kubelet does that finds its Node gone, or never there."""
        with contextlib.suppress(Conflict):
            await self.api.create(NODES, {"metadata": {"name": name}})

    async def remove_node(self, name: str) -> None:
        """Do as kubectl delete node does; what runs there runs on."""
        with contextlib.suppress(NotFound):
            await self.api.delete(NODES, name)

    def step_clock(self, name: str) -> None:
        """Set a process's, or its machine's, idea of the time of day to another, an hour off."""
        seconds = self.chance.uniform(-SKEW_SECONDS, SKEW_SECONDS)
        self._skews[name] = timedelta(seconds=seconds)

    def obey(self, policy: InForce) -> None:
        """Change the policy that all replicas go by; each reads it in its own time."""
        self.policy = policy
        for each in self.extenders.values():
            self.loop.spawn(each.process, self._adopted(each, self.chance.random()))

    async def _adopted(self, extender: Extender, when: float) -> None:
        await asyncio.sleep(READ_WITHIN_SECONDS * when)
        extender.replica.service.knowledge.adopt(self.policy)
        self.judge.moves.adopted(extender.process.label, self.policy.moving)

    # Pods and GPUs.

    async def create_vm(self, name: str) -> None:
        """Create what makes the pods of that name again, unless it is there."""
        with contextlib.suppress(Conflict):
            spec = {} if self.owners is None else {"runStrategy": "Always"}
            body = {"metadata": {"name": name}, "spec": spec}
            await self.api.create(VIRTUAL_MACHINES, body, namespace="default")

    async def create_pod(self, vm: str, wants: Sequence[str], grace: int) -> None:
        """Create a VM's pod, unless it has one; it says so if it is one of a gang."""
        if not any(each.vm == vm for each in self.judge.pods.values()):
            nodes = () if self.owners is None else self.owners.nodes(vm)
            await self.create_next(vm, vm, wants, grace, nodes)

    async def create_next(
        self, name: str, vm: str, wants: Sequence[str], grace: int, nodes: tuple[str, ...]
    ) -> str:
        """Create a pod of a VM, be there another or not; return its UID, "" if there is none.

        If any *nodes* are named, it goes to those alone.
        """
        pod = raw_pod(*wants, name=name, owner=("VirtualMachineInstance", vm))
        del pod["metadata"]["uid"]
        for gang, members in GANGS.items():
            if vm in members:
                size = str(len(members))
                pod["metadata"]["annotations"] = {keys.GANG: gang, keys.GANG_SIZE: size}
        pod["spec"]["terminationGracePeriodSeconds"] = grace
        if self.owners is not None:
            self.owners.marked(pod, vm)
        if self._ranked:
            pod["spec"]["priority"] = 10 * (sum(vm.encode()) % RANKS)
        try:
            made = await self.api.create(PODS, pod, namespace="default")
        except ApiError:
            return ""
        created = dict(msgspec.json.decode(made))
        self.scheduler.add(created, nodes)
        return str(created["metadata"]["uid"])

    def gpu(self, number: int) -> tuple[str, SimulatedGpu]:
        """Return one of the GPUs, with its node's name."""
        every = [(name, gpu) for name in NODE_NAMES for gpu in self.hardware[name].gpus]
        return every[number % len(every)]

    def revive(self, gpu: SimulatedGpu) -> None:
        """Bring a lost GPU back, which takes a reset."""
        with self.judge.upheaval(gpu):
            gpu.lost = False
            gpu.reset()

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

    def _wrote(self, kind: Kind, write: Write) -> None:
        """Show a write to the judge, and to whoever has to do something about it."""
        gone: Pod | None = None
        if kind == PODS and write.after is None and write.before is not None:
            gone = self.judge.pods.get(write.before.uid)
        self.judge.wrote(kind, write)
        if self.owners is not None:
            self.owners.wrote(kind, write, gone)

    def _writer(self) -> str:
        sender = SENDER.get()
        return sender if sender.partition("_")[0] in REPLICAS else ""

    def _replicas(self) -> frozenset[str]:
        """Return the extenders there are that have read what GpuNodes there are."""
        living = [each.process.label for each in self.extenders.values()]
        return self.network.hearsay.informed(living)

    def _time(self) -> datetime:
        return EPOCH + timedelta(seconds=self.loop.time())
