"""What kube-scheduler proposes to evict for a pod, and the judge's part for how that is answered.

It proposes pods below it, on any node, as it does for want of CPU and memory.

* ``evicted in vain``: a node is kept on which the pod would not fit without those proposed, or
  where that was not asked; or those to go are others, or their disruption budgets forbid it.
* ``promised unasked``: to answer has promised something to somebody.

Whoever answers may know of more that is in the way than the plan and its agent say, and need not
have heard the last of these: it is judged if it has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

from extender.wire import MetaPod, MetaVictims
from nodeagent.api.gpunode import GpuNode
from nodeagent.simulated.hardware import Hardware
from tests.chaos.pods import Pod

FORBIDDEN = 0.1  # how often budgets forbid it
HEARD_SECONDS = 0.1  # from what a watch has brought to where it is known

Proposed = Mapping[str, MetaVictims]


def proposed(chance: random.Random, pod: Pod, pods: Mapping[str, Pod]) -> Proposed:
    """Draw whom to evict for a pod on each node where somebody below it is."""
    below: dict[str, list[Pod]] = {}
    for each in pods.values():
        if each.node and each.alive and each.priority < pod.priority:
            below.setdefault(each.node, []).append(each)
    found = {}
    for node, there in below.items():
        victims = chance.sample(there, chance.randint(1, len(there)))
        uids = tuple(MetaPod(each.uid) for each in victims)
        found[node] = MetaVictims(uids, int(chance.random() < FORBIDDEN))
    return found


class Proposals:
    """Judges answers; *plans* are by node, *pods* by UID, and *read* tells who has read what."""

    def __init__(
        self,
        plans: Mapping[str, GpuNode],
        pods: Mapping[str, Pod],
        hardware: Mapping[str, Hardware],
        *,
        clock: Callable[[], float],
        read: Callable[[str, str, float], tuple[int, float]],
    ) -> None:
        self._plans = plans
        self._pods = pods
        self._hardware = hardware
        self._clock = clock
        self._read = read
        self.kept = 0

    def answered(self, process: str, pod: Pod, asked: Proposed, kept: Proposed) -> Iterator[str]:
        """Yield what is wrong about what a *process* has kept of what was *asked* for a pod."""
        self.kept += len(kept)
        for node, victims in kept.items():
            if victims != asked.get(node) or victims.num_pdb_violations:
                yield f"evicted in vain: {victims} on {node} for {pod.name}, which nobody may"
                continue
            plan = self._plans.get(node)
            number, _ = self._read(process, node, self._clock() - HEARD_SECONDS)
            if plan is None or number < plan.version:
                continue
            uids = {each.uid for each in victims.pods or ()}
            if not self._fits(node, pod.wants, self._taken(plan, pod, uids)):
                yield f"evicted in vain: {uids} on {node}, where {pod.name} would not fit"

    def _taken(self, plan: GpuNode, pod: Pod, leaving: set[str]) -> dict[str, int]:
        """Return the slices of each GPU, as bits, that are taken when some have left."""
        free = {
            (each.gpu, each.placement)
            for each in plan.spec.assignments
            if each.pod is None or each.pod.uid in leaving | {pod.uid}
        }
        taken = dict.fromkeys((gpu.uuid for gpu in self._hardware[plan.name].gpus), 0)
        for entry in plan.spec.assignments:
            if entry.pod is not None and entry.pod.uid not in leaving | {pod.uid}:
                taken[entry.gpu] |= entry.placement.mask
        for gpu in plan.status.gpus:
            for instance in gpu.instances:
                if (gpu.uuid, instance.placement) not in free:
                    taken[gpu.uuid] |= instance.placement.mask
        return taken

    def _fits(self, node: str, wants: tuple[str, ...], taken: Mapping[str, int]) -> bool:
        """Tell whether each of *wants* has a place, however many of a profile there may be."""
        if not wants:
            return True
        hardware = self._hardware[node]
        for gpu in hardware.gpus:
            profile = gpu.geometry.by_id[gpu.seen(hardware.mode).served(hardware.mode)[wants[0]]]
            for place in profile.placements:
                mask = taken[gpu.uuid]
                left = {**taken, gpu.uuid: mask | place.mask}
                if not place.mask & mask and self._fits(node, wants[1:], left):
                    return True
        return False
