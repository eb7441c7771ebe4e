"""Extender and agents together: VMs come and go, and every process may be killed at any time.

Some VMs were there before: they are adopted, and never disturbed.

Judged from the GPUs and the bound pods, never from the code's own ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extender.cluster import KubernetesCluster, feed
from extender.demo.audit import audit, instances
from extender.service import Service
from nodeagent.agent import Agent
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode, PodRef
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import NODES, PODS
from nodeagent.apiserver.reflector import Pace
from nodeagent.journal_file import FileJournal
from nodeagent.kubelet import Holder
from nodeagent.settings import Settings
from nodeagent.simulated.admission import Admitted, Checkpoint
from nodeagent.simulated.driver import SimulatedDriver
from nodeagent.simulated.hardware import Hardware
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.builders import H100, VGPU, raw_pod
from tests.fakes.world import QUICK, bind_args, filter_args
from tests.waiting import until

NODE_NAMES = ("node-1", "node-2")
SOON = Pace(first_pause=0.001, longest_pause=0.001)
EAGER = Settings(first_retry_seconds=0.001, longest_retry_seconds=0.01)
# One extender, patient enough for a bind to outlast an agent's restart, quick to give up a place.
PATIENT = msgspec.structs.replace(QUICK, http_timeout_seconds=5.0, reservation_seconds=1.0)

Move = tuple[str, Any]
wanted = st.lists(st.sampled_from(["1-10C", "2-20C", "3-40C", "7-80C"]), min_size=1, max_size=2)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), wanted),
        st.tuples(st.just("arrive"), wanted),
        st.tuples(st.just("leave"), st.integers(0, 20)),
        st.tuples(st.just("kill the extender"), st.none()),
        st.tuples(st.just("kill the agent"), st.sampled_from(NODE_NAMES)),
        st.tuples(st.just("pass"), st.integers(1, 30)),
    ),
    max_size=14,
)


# VMs that another plugin served before Tangram came: node, and start of a 1g.10gb.
before = st.lists(
    st.tuples(st.sampled_from(NODE_NAMES), st.integers(0, 6)), max_size=4, unique=True
)


class Cluster:
    """Two nodes with one H100 each, their agents, an extender, and a hasty scheduler."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.api = InMemoryApi()
        self.hardware = {n: Hardware(n, [H100], Mode.VGPU_VFIO) for n in NODE_NAMES}
        self._tasks = tasks
        self._checkpoints = {name: Checkpoint() for name in NODE_NAMES}
        self._journals = {name: FileJournal() for name in NODE_NAMES}
        self._running: dict[str, list[asyncio.Task[None]]] = {}
        self._binds: set[asyncio.Task[None]] = set()
        self._lives = 0
        self._arrived = 0
        self.vms: list[dict[str, Any]] = []
        self._old: dict[str, tuple[str, int]] = {}
        self.abandoned: set[tuple[str, int, int]] = set()

    async def start(self, before: list[tuple[str, int]]) -> None:
        for name in NODE_NAMES:
            await self.api.create(NODES, {"metadata": {"name": name}})
        for node, start in before:
            await self.serve_before(node, start)
        for name in NODE_NAMES:
            self.start_agent(name)
        self.start_extender()
        await until(
            lambda: (
                len(self.service.knowledge.views) == len(NODE_NAMES)
                and all(v.reported and not v.stale for v in self.service.knowledge.views.values())
            )
        )

    def start_agent(self, name: str) -> None:
        self._lives += 1
        agent = Agent(
            name,
            api=self.api,
            driver=SimulatedDriver(self.hardware[name]),
            kubelet=SimulatedKubelet(
                self.api, self.hardware[name], self._checkpoints[name], pace=SOON
            ),
            journal=self._journals[name],
            epoch=f"life-{self._lives}",
            settings=EAGER,
            pace=SOON,
        )
        self._running[name] = [self._tasks.create_task(agent.run())]

    def start_extender(self) -> None:
        self.service = Service(KubernetesCluster(self.api), PATIENT)
        self._running["extender"] = [
            self._tasks.create_task(feed(self.api, self.service.knowledge)),
            self._tasks.create_task(self.service.run()),
        ]

    async def kill(self, name: str) -> None:
        dying = self._running.pop(name)
        if name == "extender":
            dying += self._binds  # the calls it was answering die with it
            self._binds = set()
        for task in dying:
            task.cancel()
        await asyncio.gather(*dying, return_exceptions=True)

    async def arrive(self, types: list[str]) -> None:
        pod = raw_pod(*types, name=f"vm-{self._arrived}")
        self._arrived += 1
        del pod["metadata"]["uid"]
        pod["spec"]["terminationGracePeriodSeconds"] = 0
        made = await self.api.create(PODS, pod, namespace="default")
        self.vms.append(dict(msgspec.json.decode(made)))
        self._try(self.vms[-1])

    async def serve_before(self, node: str, start: int) -> None:
        """Have a VM run that knows nothing of Tangram: no label, no slot, no decision."""
        name, (gpu,) = f"old-{node}-{start}", self.hardware[node].gpus
        gi_id = gpu.create(19, Placement(start, 1))
        pod = raw_pod("1-10C", name=name)
        del pod["metadata"]["uid"], pod["metadata"]["labels"]
        pod["spec"] |= {"terminationGracePeriodSeconds": 0, "nodeName": node}
        made = dict(msgspec.json.decode(await self.api.create(PODS, pod, namespace="default")))
        uid = made["metadata"]["uid"]
        holder = Holder(VGPU + "1-10C", gpu.device(gi_id).id, PodRef("default", name, uid))
        boot = self.hardware[node].boot_id
        self._checkpoints[node].admitted[uid] = Admitted((), boot, (holder,))
        self.hardware[node].open(gpu.uuid, gi_id, uid)
        self._old[uid] = (node, gi_id)
        self.vms.append(made)

    def disturbed(self) -> list[str]:
        """Return the old VMs that have lost what they had."""
        return [
            pod["metadata"]["name"]
            for pod in self.vms
            if (old := self._old.get(pod["metadata"]["uid"]))
            and pod["metadata"]["uid"] not in self.hardware[old[0]].gpus[0].clients.get(old[1], ())
        ]

    def adopted(self) -> bool:
        """Tell whether every old VM that is left is in its node's plan."""
        uids = self._old.keys() & {pod["metadata"]["uid"] for pod in self.vms}
        return uids <= self.service.knowledge.assigned.keys()

    def _try(self, pod: dict[str, Any]) -> None:
        """Filter and, if it fits anywhere, bind in the background, as the scheduler does."""
        answer = self.service.hooks.filter(filter_args(pod, *NODE_NAMES))
        for node in (answer.node_names or ())[:1]:

            async def bind(service: Service = self.service, node: str = node) -> None:
                await service.binder.bind(bind_args(pod, node))

            task = self._tasks.create_task(bind())
            self._binds.add(task)
            task.add_done_callback(self._binds.discard)

    async def leave(self, index: int) -> None:
        if self.vms:
            pod = self.vms.pop(index % len(self.vms))
            if old := self._old.get(pod["metadata"]["uid"]):
                self._abandon_unless_ours(*old)
            await self.api.delete(PODS, pod["metadata"]["name"], namespace="default")

    def _abandon_unless_ours(self, node: str, gi_id: int) -> None:
        """Note that what an old VM leaves behind may stay: nobody has adopted it in time."""
        (gpu,) = self.hardware[node].gpus
        place = gpu.instances[gi_id].placement
        if place not in {made.placement for made in self._journals[node].made}:
            self.abandoned.add((gpu.uuid, 19, place.start))

    async def pods(self) -> list[dict[str, Any]]:
        page = await self.api.list(PODS, namespace="default")
        return [dict(msgspec.json.decode(raw)) for raw in page.items]

    async def retry_until_settled(self) -> None:
        """Let the scheduler come back for every pending pod until nothing more can be bound."""

        async def settled() -> bool:
            pending = [p for p in await self.pods() if not p["spec"].get("nodeName")]
            entering = [p for p in await self.bound() if p["status"].get("phase") == "Pending"]
            if self._binds or entering:
                return False
            for pod in pending:
                if not self.service.knowledge.freshness.not_ready():
                    self._try(pod)
            return not self._binds and self.quiet()

        await until(settled, within=30, every=0.005)

    async def bound(self) -> list[dict[str, Any]]:
        return [pod for pod in await self.pods() if pod["spec"].get("nodeName")]

    def quiet(self) -> bool:
        """Tell whether plans, inventories and GPUs agree."""
        for name, hardware in self.hardware.items():
            view = self.service.knowledge.views.get(name)
            if view is None or view.releasing:
                return False
            planned = {(a.gpu, a.profile_id, a.start) for a in view.node.spec.assignments}
            told = {
                (g.uuid, i.profile_id, i.start) for g in view.node.status.gpus for i in g.instances
            }
            there = {
                (g.uuid, i.profile_id, i.placement.start)
                for g in hardware.gpus
                for i in g.instances.values()
            }
            if told != there or told - planned - self.abandoned or planned - told:
                return False
        return True


async def story(told: list[Move], before: list[tuple[str, int]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        cluster = Cluster(tasks)
        await cluster.start(before)
        for move, detail in told:
            match move:
                case "arrive":
                    await cluster.arrive(detail)
                case "leave":
                    await cluster.leave(detail)
                case "kill the extender":
                    await cluster.kill("extender")
                    cluster.start_extender()
                case "kill the agent":
                    await cluster.kill(detail)
                    cluster.start_agent(detail)
                case "pass":
                    for _ in range(detail):
                        await asyncio.sleep(0)
            found = audit(cluster.hardware, await cluster.pods())
            assert found.double_promised == 0
            assert cluster.disturbed() == []
        await until(cluster.adopted)
        await cluster.retry_until_settled()
        pods = await cluster.pods()
        found = audit(cluster.hardware, pods)
        assert (found.double_promised, found.lost_assignments) == (0, 0)
        assert not [p for p in pods if p["status"].get("phase") == "Failed"]
        assert cluster.disturbed() == []
        while cluster.vms:
            await cluster.leave(0)
        left = len(cluster.abandoned)
        await until(lambda: instances(cluster.hardware) <= left and cluster.quiet(), within=30)
        for name in (*NODE_NAMES, "extender"):
            with contextlib.suppress(KeyError):
                await cluster.kill(name)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(moves, before)
def test_whatever_comes_and_whoever_is_killed_no_promise_is_broken(
    told: list[Move], before: list[tuple[str, int]]
) -> None:
    asyncio.run(story(told, before))
