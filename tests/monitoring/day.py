"""A day in the demo's cluster on which everything happens once that is worth measuring."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from extender.advice import Asked
from extender.cluster import KubernetesCluster, feed
from extender.demo.pods import launcher
from extender.demo.scheduler import Scheduler
from extender.demo.world import NAMESPACE, World, world
from extender.metrics.decisions import LogFigures
from extender.metrics.preempting import Preempted
from extender.metrics.shadow import ShadowFigures
from extender.moving import Order
from extender.policy.file import parsed
from extender.service import Service
from extender.service.ports import Feed
from extender.service.reloading import Reloading
from extender.settings import Settings
from nodeagent.api import keys
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Instance
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    LEASES,
    PODS,
    VIRTUAL_MACHINES,
    PatchType,
)
from nodeagent.driver import PlacementUnavailable
from tests.fakes.world import bind_args, filter_args
from tests.waiting import until

HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
MORNING = """
pools: [{name: big, nodes: {matchLabels: {pool: training}}}]
tenants:
- name: red
  namespaces: {matchLabels: {team: tenants}}
  caps: {memorySlices: 40, profiles: {7g.80gb: 3}}
headroom: [{profile: 7g.80gb, keep: 1, releasedTo: {tenants: [red]}}]
moves: {mode: apply}
"""
EVENING = (
    MORNING.replace("memorySlices: 40", "memorySlices: 30")
    .replace("7g.80gb: 3", "7g.80gb: 2")
    .replace("keep: 1", "keep: 2")
)
BAD = "tenants: 3"
QUICK = Settings(
    http_timeout_seconds=4.0,
    sweep_interval_seconds=0.1,
    presumption_seconds=2.0,
    restart_hold_seconds=0.0,
    wake_interval_seconds=0.1,
    plan_burst_pods=0,
)
A, B, C, D = (f"gpu-node-{at}" for at in range(4))
RESOURCE = "nvidia.com/NVIDIA_H100XM-"
PLACED = {"outcome": Preempted.PLACED.value}

Look = Callable[[], Awaitable[None]]
"""Waits until monitoring has seen how things are."""


class Day:
    """What happens, in the cluster of *here*, seen by monitoring whenever it is to *look*."""

    def __init__(self, here: World, scheduler: Scheduler, url: str, look: Look) -> None:
        self._world = here
        self._scheduler = scheduler
        self._url = url
        self._look = look
        self._count = 0
        self._policy = MORNING
        self._reloading = Reloading(
            here.service.knowledge,
            lambda: (HEAD + self._policy).encode(),
            source="policy.yaml",
            seen=(HEAD + MORNING).encode(),
        )

    async def pod(self, kind: str, *, priority: int = 0) -> dict[str, Any]:
        """Create the pod of a VM that asks for a vGPU type such as 1-10C."""
        self._count += 1
        pod = launcher(f"vm-{self._count}", NAMESPACE, RESOURCE + kind)
        pod["spec"]["priority"] = priority
        return await self._world.create(pod)

    async def come(self, kind: str, *nodes: str) -> dict[str, Any]:
        """Have a VM placed on one of *nodes*."""
        pod = await self.pod(kind)
        attempt = await self._scheduler.schedule(pod, nodes)
        assert attempt.node, attempt.error
        return pod

    async def ask(self, verb: str, body: object) -> Any:
        """Call a hook."""
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self._url}/{verb}", data=msgspec.json.encode(body)) as answer,
        ):
            answer.raise_for_status()
            return msgspec.json.decode(await answer.read())

    async def run(self) -> None:
        """Let it all happen that happens while the process leads."""
        first, *ours = await self.vms_come()
        await self.several_are_planned_together()
        await self.somebody_cuts_gpus_and_some_vms_are_refused()
        await self.somebody_else_writes_plans()
        await self.one_of_high_priority_makes_room()
        await self.a_node_is_drained()
        await self.the_policy_changes()
        await self.somebody_takes_a_place_first()
        await self.several_are_planned_together()  # by a policy without a value: nothing is proven
        await self.a_gpu_reports_an_xid(first)
        await self.a_kubelet_refuses_a_pod()
        await self.an_agent_dies()
        await self.a_watch_is_interrupted()
        await self.the_disk_of_the_decision_log_is_full()
        await self.a_policy_runs_beside_the_live_one()
        for pod in ours:
            await self._world.delete(pod["metadata"]["name"])
            await self._world.vacated(A, pod["metadata"]["uid"])
        await self._look()

    async def end(self) -> None:
        """Let the process shut down and lead no more: it tells nothing of the fleet from then."""
        self._world.service.knowledge.stopping = True
        await self._look()
        self._world.service.knowledge.tenure.end()
        await self._look()
        await self._look()  # rules are evaluated between two scrapes

    async def vms_come(self) -> Sequence[dict[str, Any]]:
        """Let VMs come that fill a node nearly, and one that could go to either of two others."""
        found = [await self.come(kind, A) for kind in ("7-80C", "3-40C", "1-10C")]
        await self.come("2-20C", B, C)
        await self.ask("preempt", {"Pod": found[0], "NodeNameToMetaVictims": {A: {"Pods": []}}})
        await self._look()
        return found

    async def several_are_planned_together(self) -> None:
        """Let pods wait for each other, and be planned as one problem."""
        pods = [await self.pod("1-10C") for _ in range(3)]
        for pod in pods:
            await self.ask("filter", {"Pod": pod, "NodeNames": [B, C]})
        await self._world.service.planner.plan()
        await self._look()
        for pod in pods:
            attempt = await self._scheduler.schedule(pod, [B, C])
            assert attempt.node, attempt.error

    async def somebody_cuts_gpus_and_some_vms_are_refused(self) -> None:
        """Ask for what does not fit: on a full node, and on one where what is free lies badly."""
        for gpu in self._world.hardware[D].gpus:
            for start in (0, 4):
                gpu.create(19, Placement(start, 1))
        looked_at = {"metadata": {"annotations": {keys.GPUS_ANNOTATION: "all"}}}
        await self._world.api.patch(GPU_NODES, D, looked_at, patch_type=PatchType.MERGE)
        knowledge = self._world.service.knowledge
        await until(lambda: knowledge.views[D].node.status.conditions[1:])
        for kind, node in (("7-80C", A), ("4-40C", D)):
            refused = await self.ask("filter", {"Pod": await self.pod(kind), "NodeNames": [node]})
            assert refused["FailedAndUnresolvableNodes"], kind
        await self.ask("filter", {"Pod": await self.pod("1-10C"), "NodeNames": [C]})  # presumed
        await knowledge.causes.look(knowledge.views)
        await self._look()

    async def somebody_else_writes_plans(self) -> None:
        """Let a second extender, which thinks that it leads, bind to the same node."""
        rival = Service(KubernetesCluster(self._world.api), QUICK)
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(feed(self._world.api, rival.knowledge)),
                tasks.create_task(rival.run()),
            ]
            await until(lambda: not rival.knowledge.not_ready())
            conflicts = self._world.service.knowledge.work.registry
            while not conflicts.get_sample_value("tangram_plan_conflicts_total"):
                await self._race(rival)
            for each in work:
                each.cancel()
        await self._look()

    async def _race(self, rival: Service) -> None:
        """Have two pods bound at the same moment, one by each, and end them."""
        pods = [await self.pod("2-20C") for _ in range(2)]
        rival.hooks.filter(filter_args(pods[1], D))
        await asyncio.gather(
            self._scheduler.schedule(pods[0], [D]), rival.binder.bind(bind_args(pods[1], D))
        )
        for pod in pods:
            await self._world.delete(pod["metadata"]["name"])

    async def one_of_high_priority_makes_room(self) -> None:
        """Let a VM of high priority come where there is room no more: another is evicted for it."""
        knowledge = self._world.service.knowledge
        told = knowledge.work.registry
        await until(lambda: not knowledge.views[D].node.spec.assignments)
        await until(lambda: not any(i.assignment for i in self._instances(D)))
        all_that_is_left = (*["2-20C"] * 2, *["1-10C"] * 6)
        there = [await self.come(kind, D) for kind in all_that_is_left]
        pod = await self.pod("2-20C", priority=1000)
        assert not (await self._scheduler.schedule(pod, [D])).node
        await knowledge.causes.look(knowledge.views)

        async def placed() -> bool:
            return bool((await self._scheduler.schedule(pod, [D])).node)

        await until(placed, every=0.05)
        await until(lambda: told.get_sample_value("tangram_preemptions_total", PLACED))
        await self._look()
        for each in (*there, pod):
            if each["metadata"]["uid"] in knowledge.pods:  # but for whom was evicted
                await self._world.delete(each["metadata"]["name"])

    async def a_node_is_drained(self) -> None:
        """Let VMs that are always on be moved off their node."""
        service, asked = self._world.service, Asked(drain=(B,))
        moving, ordering = service.moving, service.ordering
        assert moving is not None
        assert ordering is not None
        self._world.api.register(VIRTUAL_MACHINES)
        for name in {each.owner.name for each in self._planned(B) if each.owner}:
            always = {"metadata": {"name": name}, "spec": {"runStrategy": "Always"}}
            await self._world.api.create(VIRTUAL_MACHINES, always, namespace=NAMESPACE)
        await until(lambda: not (self._planned(D) or any(i.assignment for i in self._instances(D))))
        plan = await service.advisor.advise(asked)
        order: Order | None = await ordering.apply(asked, plan.digest)
        while order is not None and not order.over:
            await self._come_back({each.owner.name: each.resource for each in order.legs})
            order = await moving.order()
        await self._look()

    async def _come_back(self, machines: Mapping[str, str]) -> None:
        """Make pods of VMs that have none, for a resource each, and find places for all."""
        name = "vm.kubevirt.io/name"
        pods = {pod["metadata"]["labels"].get(name): pod for pod in await self._world.pods()}
        for vm, resource in machines.items():
            pod = pods.get(vm) or await self._world.create(launcher(vm, NAMESPACE, resource))
            if not pod["spec"].get("nodeName"):
                await self._scheduler.schedule(pod, (A, B, C, D))

    def _planned(self, node: str) -> Sequence[Assignment]:
        return self._world.service.knowledge.views[node].node.spec.assignments

    def _instances(self, node: str) -> Iterator[Instance]:
        for gpu in self._world.service.knowledge.views[node].node.status.gpus:
            yield from gpu.instances

    async def the_policy_changes(self) -> None:
        """Let the policy file have a fault, and be good again: with a value other than before."""
        for self._policy in (BAD, EVENING + "value: best-fit"):
            await self._reloading.look()
            await self._look()

    async def somebody_takes_a_place_first(self) -> None:
        """Let GPUs be cut by hand just before a VM comes to them, so that its instance fails."""
        for gpu in self._world.hardware[C].gpus:
            for start in range(7):
                with contextlib.suppress(PlacementUnavailable):
                    gpu.create(19, Placement(start, 1))
        attempt = await self._scheduler.schedule(await self.pod("2-20C"), [C])
        assert "cannot be created" in attempt.error, attempt.error
        await self._look()

    async def a_gpu_reports_an_xid(self, pod: dict[str, Any]) -> None:
        """Let the driver close a GPU; the end of a *pod* there makes its agent look."""
        self._world.hardware[A].gpus[0].unhealthy = "the driver reported XID 79: reset the GPU"
        await self._world.delete(pod["metadata"]["name"])
        knowledge = self._world.service.knowledge
        await until(lambda: any(gpu.unhealthy for gpu in knowledge.views[A].node.status.gpus))
        await self._look()

    async def a_kubelet_refuses_a_pod(self) -> None:
        """Let a pod that is bound be refused for want of a device."""
        pod = await self.come("1-10C", B)
        status = {"phase": "Failed", "reason": "UnexpectedAdmissionError"}
        await self._world.api.patch(
            PODS,
            pod["metadata"]["name"],
            {"status": status},
            patch_type=PatchType.MERGE,
            subresource="status",
            namespace=NAMESPACE,
        )
        told = self._world.service.knowledge.work.registry
        await until(lambda: told.get_sample_value("tangram_pods_not_admitted_total"))
        await self._look()

    async def an_agent_dies(self) -> None:
        """Let an agent end while a VM waits for it, and its Lease with it."""
        (agent,) = (task for task in asyncio.all_tasks() if task.get_name() == f"agent-{B}")
        agent.cancel()
        await asyncio.wait([agent])
        waiting = asyncio.create_task(self._scheduler.schedule(await self.pod("1-10C"), [B]))
        await until(lambda: self._world.service.knowledge.realizing.unrealized()[0] > 0)
        await self._look()
        assert (await waiting).error
        await self._world.api.delete(LEASES, keys.lease_name(B), namespace=keys.SYSTEM_NAMESPACE)
        await until(lambda: self._world.service.knowledge.views[B].stale)
        await self._look()

    async def a_watch_is_interrupted(self) -> None:
        """Hear nothing of pods for a while."""
        freshness = self._world.service.knowledge.freshness
        freshness.interrupted(Feed.PODS)
        await self._look()
        freshness.synced(Feed.PODS)

    async def the_disk_of_the_decision_log_is_full(self) -> None:
        """Let a decision log be written, then lose lines for a while."""
        log = self._world.service.knowledge.work.decision_log
        for figures in (
            LogFigures(records=4_000, bytes=70_000),
            LogFigures(records=4_100, lost=250, errors=1, bytes=71_000, waiting=20_000),
            LogFigures(records=9_000, lost=250, errors=1, bytes=99_000),
        ):
            log.read = lambda told=figures: told  # type: ignore[misc]
            await self._look()

    async def a_policy_runs_beside_the_live_one(self) -> None:
        """Let a shadow decide, fall behind and lose something, and another policy be refused."""
        shadow = self._world.service.knowledge.work.shadow
        for figures in (
            ShadowFigures(running=True, seconds=0.0),
            ShadowFigures(
                running=True,
                refused_policy=True,
                behind=300,
                lag_seconds=20.0,
                seconds=3_600.0,
                agreement={"same": 80, "elsewhere": 12, "live_refused": 5},
                profiles={"1g.10gb": (5, 3)},
                tenants={"vision": (5, 3)},
                more=-2.0,
                more_interval=1.5,
                unusable=(4.0, 2.5),
                whole=(1.0, 2.0),
            ),
            ShadowFigures(ended={"lost": 1}, lost=40),
        ):
            shadow.read = lambda told=figures: told  # type: ignore[misc]
            await self._look()


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[tuple[World, str]]:
    """Run the demo's cluster with a policy, a pool and a tenant; yield it, and the hooks' URL."""
    policy = parsed((HEAD + MORNING).encode(), "policy.yaml").in_force
    model = MODELS["H100-80GB"]
    running = world(model, nodes=4, gpus=2, policy=policy, settings=QUICK, evicts=True)
    async with running as (here, url):
        await until(lambda: here.service.knowledge.tenancy.known(NAMESPACE))
        yield here, url
