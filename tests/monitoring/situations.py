"""For each alert, a situation in which it is to fire: brought about in an extender, not made up."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from pathlib import Path

import aiohttp
import msgspec

from extender.cluster import KubernetesCluster
from extender.decision_log import DecisionLog
from extender.decision_log.waiting import weighed
from extender.policy import InForce, PolicyName
from extender.server import serving
from extender.service.plans import Plans
from extender.service.ports import Feed, PlanConflict
from extender.service.reloading import Reloading
from extender.service.seam import Call
from extender.service.trust import Trust
from extender.settings import Settings
from nodeagent.api import gpunode
from nodeagent.api.gpunode import Assignment, Condition, Failed, GpuNode
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, PatchType
from tests.builders import assignment, gpu, gpu_node, raw_pod
from tests.monitoring.stage import HEAD, NODES, Stage
from tests.waiting import until

Script = Callable[[], Awaitable[Stage]]

SITUATIONS: dict[str, tuple[Script, Set[str]]] = {}
"""By alert: the script, and which other alerts are right to fire then, too."""

CAPPED = """
tenants:
- name: red
  namespaces: {matchLabels: {team: red}}
  caps: {memorySlices: 8, profiles: {7g.80gb: 1}}
"""
HEADROOM = "headroom: [{profile: 7g.80gb, keep: 4}]"
BADLY = [  # a 1g in each half of each GPU: nothing of four slices fits, and half would be free
    assignment(f"{gpu_at}-{start}", 19, start, gpu=f"GPU-{gpu_at}", pod=f"p{gpu_at}{start}")
    for gpu_at in range(2)
    for start in (0, 4)
]
WHOLE = [assignment(f"w{at}", 0, 0, gpu=f"GPU-{at}", pod=f"w{at}") for at in range(2)]


def situation(alert: str, *companions: str) -> Callable[[Script], Script]:
    """Register a script under the alert that is to fire, with those that fire rightly besides."""

    def register(script: Script) -> Script:
        SITUATIONS[alert] = script, frozenset((alert, *companions))
        return script

    return register


def quiet(policy: str = "") -> Stage:
    """A stage after ten minutes in which all was well."""
    stage = Stage(policy)
    for _ in stage.minutes(10):
        pass
    stage.begin()
    return stage


def lasting(stage: Stage, minutes: int) -> Stage:
    """The same stage after so many minutes more in which nothing changes."""
    for _ in stage.minutes(minutes):
        pass
    return stage


@situation("TangramDown")
async def nobody_is_scraped() -> Stage:
    stage = quiet()
    for _ in range(10):
        stage.gone()
    return stage


@situation("TangramNoLeader")
async def the_leader_loses_its_lease() -> Stage:
    stage = quiet()
    stage.service.knowledge.tenure.end()
    return lasting(stage, 4)


@situation("TangramSeveralLeaders")
async def two_lead() -> Stage:
    stage = quiet()
    stage.add_replica(leads=True)
    return lasting(stage, 5)


@situation("TangramNotReady")
async def the_inventory_does_not_load() -> Stage:
    stage = quiet()
    stage.add_replica(synced=False)
    return lasting(stage, 8)


@situation("TangramFeedSilent")
async def a_watch_is_interrupted() -> Stage:
    stage = quiet()
    stage.service.knowledge.freshness.interrupted(Feed.PODS)
    return lasting(stage, 3)


@contextlib.asynccontextmanager
async def hooks(
    stage: Stage, namespace: str = "default"
) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Open the hooks, and yield what sends so many filter calls as kube-scheduler does."""
    pod = raw_pod("1-10C", namespace=namespace)
    body = msgspec.json.encode({"Pod": pod, "NodeNames": list(NODES)})
    async with serving(stage.service) as url, aiohttp.ClientSession() as http:

        async def ask(times: int) -> None:
            for _ in range(times):
                async with http.post(f"{url}/filter", data=body) as answer:
                    assert answer.status == 200

        yield ask


@situation("TangramHooksSlow")
async def filter_takes_long() -> Stage:
    stage = quiet()
    async with hooks(stage) as ask:
        for _ in stage.minutes(20):
            stage.step = 0.05  # each look at the clock, of which filter takes several
            await ask(5)
            stage.step = 0.0
    return stage


@situation("TangramHooksFail")
async def a_namespace_stays_unknown() -> Stage:
    stage = quiet(CAPPED)
    async with hooks(stage, namespace="of-which-no-watch-has-told") as ask:
        for _ in stage.minutes(20):
            await ask(2)
    return stage


@situation("TangramPlanConflicts")
async def somebody_else_writes_plans() -> Stage:
    stage, api = quiet(), InMemoryApi()
    knowledge, rival = stage.service.knowledge, KubernetesCluster(api)
    plans = Plans(knowledge, KubernetesCluster(api))
    await rival.create_gpu_node(SHARED)
    await reported(api)
    await plans.refresh(SHARED)
    knowledge.node(SHARED, cordoned=False)
    stage.agents.add(SHARED)
    for _ in stage.minutes(20):
        for at in range(10):
            await written(rival, add=[assignment(f"theirs-{at}", 19, 0)])
            # What is known of the plan is older than theirs.
            with contextlib.suppress(PlanConflict):
                await plans.write(knowledge.views[SHARED], add=[assignment("ours", 19, 1)])
        await written(rival)
        await reported(api)
        await plans.refresh(SHARED)
    return stage


SHARED = "node-3"
"""A node whose plan somebody else writes, too."""


async def written(cluster: KubernetesCluster, add: Sequence[Assignment] = ()) -> None:
    """Let the shared node's plan be *add* and nothing else."""
    there = await cluster.read_gpu_node(SHARED)
    assert there is not None
    await cluster.write_plan(there, add=add, remove=[each.id for each in there.spec.assignments])


async def reported(api: InMemoryApi) -> None:
    """Let the shared node's agent report that it has followed the plan."""
    there = gpunode.decode(await api.get(GPU_NODES, SHARED))
    status = gpu_node(SHARED, gpus=2, generation=there.metadata.generation).status
    patch = [{"op": "add", "path": "/status", "value": msgspec.to_builtins(status)}]
    await api.patch(GPU_NODES, SHARED, patch, patch_type=PatchType.JSON, subresource="status")


async def reload(stage: Stage, text: str, which: int = 0) -> None:
    """Let a replica's policy file be another."""
    knowledge = stage.replicas[which].knowledge
    looked_at = Reloading(knowledge, (HEAD + text).encode, source="p", seen=b"")
    await looked_at.look()


@situation("TangramPolicyRefused")
async def the_policy_file_has_a_fault() -> Stage:
    stage = quiet()
    await reload(stage, "tenants: 3")
    return lasting(stage, 4)


@situation("TangramPoliciesDiffer")
async def one_replica_is_behind() -> Stage:
    stage = Stage()
    stage.add_replica()
    lasting(stage, 10)
    stage.begin()
    await reload(stage, "value: mfi", which=1)
    return lasting(stage, 14)


@situation("TangramJointPlansUnproven")
async def plans_run_out_of_time() -> Stage:
    stage = quiet()
    knowledge = stage.service.knowledge
    knowledge.settings = msgspec.structs.replace(knowledge.settings, plan_solve_seconds=0.0)
    for minute in stage.minutes(40):
        for pod in range(3):
            stage.ask("3-40C", "1-10C", pod=f"vm-{minute}-{pod}")
        knowledge.ledger = knowledge.ledger.expire(now=stage.now + 60)
        await stage.service.planner.plan()
        for pod in range(3):
            knowledge.pod_gone(f"vm-{minute}-{pod}")
    return stage


@situation("TangramNodesStale")
async def an_agent_falls_silent() -> Stage:
    stage = quiet()
    stage.agents = {"node-2"}
    for _ in stage.minutes(14):
        stage.service.knowledge.tick()
    return stage


def fail(stage: Stage, times: int) -> None:
    """Let the driver of node-1 refuse to create instances, each for another pod."""
    knowledge = stage.service.knowledge
    trust = Trust(knowledge)
    for at in range(times):
        entry = assignment(f"f{at}", 19, 0, pod=f"f{at}")
        with trust.probing("node-1", [entry.id]):
            stage.node(plan=[entry])
        stage.node(plan=[entry], failed=[Failed(entry.id, "CreateGpuInstance: in use")])
        trust.not_realized(knowledge.views["node-1"], [entry.id])
        stage.node()


@situation("TangramNodesFailing", "TangramRealizationsFail")
async def a_driver_refuses_everything() -> Stage:
    stage = quiet()
    for _ in stage.minutes(20):
        if not stage.service.knowledge.views["node-1"].failing:
            fail(stage, 6)
    return stage


@situation("TangramRealizationsFail")
async def some_instances_cannot_be_made() -> Stage:
    stage = quiet()
    fail(stage, 4)
    return lasting(stage, 3)


def report(stage: Stage, condition: Condition) -> None:
    """Let node-1's agent set a condition."""
    heard = stage.node()
    status = msgspec.structs.replace(heard.status, conditions=(condition,))
    stage.service.knowledge.gpu_node(_later(heard, status=status))


def _later(node: GpuNode, **changes: object) -> GpuNode:
    version = str(int(node.metadata.resource_version) + 1)
    metadata = msgspec.structs.replace(node.metadata, resource_version=version)
    return msgspec.structs.replace(node, metadata=metadata, **changes)


CONDITIONS: Mapping[str, Condition] = {
    "TangramAgentsNotReady": Condition("Ready", "False", "DriverUnavailable"),
    "TangramDrift": Condition("Drift", "True", "NotByTangram"),
    "TangramRivalPlugins": Condition("RivalPlugins", "True", "AdvertisedTwice"),
}


def _set_by_an_agent(condition: Condition) -> Script:
    async def script() -> Stage:
        stage = quiet()
        report(stage, condition)
        return lasting(stage, 13)

    return script


for _alert, _condition in CONDITIONS.items():
    situation(_alert)(_set_by_an_agent(_condition))


@situation("TangramGpusQuarantined")
async def a_gpu_reports_an_xid() -> Stage:
    stage = quiet()
    stage.node(gpus=[gpu(0, unhealthy="the driver reported XID 79: reset it"), gpu(1)])
    return lasting(stage, 13)


@situation("TangramRealizationSlow")
async def an_agent_owes_an_instance() -> Stage:
    stage = quiet()
    stage.node(plan=[assignment("a", 19, 0)], observed=1)
    return lasting(stage, 6)


@situation("TangramFragmented")
async def free_slices_lie_badly() -> Stage:
    stage = Stage()
    stage.realized(BADLY, *NODES)
    lasting(stage, 10)
    stage.begin()
    for _ in stage.minutes(22):
        stage.ask("4-40C")
        await stage.service.knowledge.causes.look(stage.service.knowledge.views)
    return stage


@situation("TangramFull")
async def everything_is_taken() -> Stage:
    stage = Stage()
    stage.realized(WHOLE, *NODES)
    lasting(stage, 10)
    stage.begin()
    for _ in stage.minutes(22):
        stage.ask("1-10C")
        await stage.service.knowledge.causes.look(stage.service.knowledge.views)
    return stage


@situation("TangramTenantAtCap")
async def a_tenant_has_all_it_may_have() -> Stage:
    stage = quiet(CAPPED)
    stage.realized(WHOLE[:1], "node-1")
    return lasting(stage, 34)


@situation("TangramHeadroomSpent")
async def those_it_is_for_have_the_headroom() -> Stage:
    stage = quiet(HEADROOM)
    stage.realized(BADLY[:1], "node-1")
    return lasting(stage, 18)


def logged(stage: Stage, folder: Path, *, most_bytes: int = 2**20) -> DecisionLog:
    """A decision log of the first replica's, which tells its figures there."""
    log = DecisionLog(
        folder,
        policy=InForce.of(PolicyName.DEFAULT),
        settings=Settings(),
        most_bytes=most_bytes,
        clock=lambda: stage.now,
    )
    log.follow(stage.service.knowledge)
    return log


def lease(number: int) -> Call:
    return Call("Knowledge.lease", ("node-1", str(number)), {}, (), None)


@situation("TangramDecisionLogLost")
async def more_comes_than_is_written() -> Stage:
    stage = Stage()
    with tempfile.TemporaryDirectory() as folder:
        log = logged(stage, Path(folder), most_bytes=10 * weighed(lease(0)))
        for _ in stage.minutes(10):
            pass
        stage.begin()
        for at in stage.minutes(5):  # nobody writes
            for number in range(11 if at == 0 else 0):
                log.heard(lease(number))
    return stage


@situation("TangramDecisionLogBroken", "TangramDecisionLogLost")
async def the_volume_of_the_decision_log_is_gone() -> Stage:
    stage = Stage()
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above) / "log"
        with logged(stage, folder) as log:
            for _ in stage.minutes(10):
                pass
            stage.begin()
            shutil.rmtree(folder)
            folder.write_text("no folder")
            for number in stage.minutes(10):
                before = log.figures()
                log.heard(lease(number))
                await until(lambda before=before: log.figures().errors > before.errors)  # type: ignore[misc]
    return stage
