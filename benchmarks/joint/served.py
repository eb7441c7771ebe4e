"""How long a plan takes from what ``tangram serve`` knows: views of nodes and pods that wait.

All of what the planner's thread does within the time it gives a plan: arrays from the views, what
each pod may have, the model, the solution, and places by name. The rest of the process shares the
interpreter with it.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Mapping, Sequence

from benchmarks.fleet import GPUS, RESOURCE, TYPES, filled
from benchmarks.joint.burst import Row
from extender.ledger import Ledger
from extender.planning.joint import JointPlan, Limits, Waiting, joint_plan, posed
from extender.policy import PolicyName
from extender.policy.values import PLAN_SECONDS
from extender.request import Request
from extender.service.pending import Pending
from extender.settings import Settings
from extender.snapshot import NodeView
from nodeagent.api.gpunode import PodRef

SERVED = (5_000, (50, 300))
"""(Nodes, pods that wait)."""


def views(nodes: int, *, seed: int) -> dict[str, NodeView]:
    """Return so many nodes with GPUs that chance has filled to about three quarters."""
    chance = random.Random(seed)
    found = {}
    for index in range(nodes):
        name = f"gpu-node-{index:05}"
        node = filled(name, chance, version=1)
        found[name] = NodeView(node, PolicyName.DEFAULT, stale=False)
        found[name].bins()  # as the hooks have worked them out before any plan
    return found


def waiting(names: Sequence[str], pods: int, *, seed: int) -> list[Waiting]:
    """Return pods that want one vGPU of a uniform mix, on any of the nodes.

    Each was filtered with names of its own, as they come in a request.
    """
    chance, pending = random.Random(seed), Pending(Settings(), clock=lambda: 0.0)
    listed = " ".join(names)
    for at in range(pods):
        wanted = (RESOURCE.format(chance.choice(TYPES)),)
        request = Request(PodRef("default", f"vm-{at:05}", f"vm-{at:05}"), wanted)
        pending.filtered(request, listed.split(" "))
    return list(pending.waiting.values())


def served(views: Mapping[str, NodeView], pods: int, *, repetitions: int, seed: int) -> Row:
    """Return how long a plan of pods takes, the first one apart: clock and processor, in seconds.

    ``reading_least_s`` is what it takes of the processor to pose its problem, without solving it.
    """
    queue = waiting(tuple(views), pods, seed=seed)
    limits, wall, processor, reading = Limits(pods, PLAN_SECONDS), [], [], []
    plan = JointPlan()
    for _ in range(repetitions + 1):
        gc.collect()
        started, worked = time.perf_counter(), time.thread_time()
        plan = joint_plan(views, Ledger(), queue, limits, clock=time.monotonic)
        processor.append(time.thread_time() - worked)
        wall.append(time.perf_counter() - started)
        worked = time.thread_time()
        posed(views, Ledger(), queue, {})
        reading.append(time.thread_time() - worked)
    return {
        "nodes": len(views),
        "gpus": len(views) * GPUS,
        "pods": pods,
        "placed": len(plan.places),
        "status": plan.status.value,
        "first_s": round(wall[0], 4),
        "median_s": round(statistics.median(wall[1:]), 4),
        "processor_first_s": round(processor[0], 4),
        "processor_least_s": round(min(processor[1:]), 4),
        "reading_least_s": round(min(reading), 4),
    }
