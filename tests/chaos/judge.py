"""The judge: locks on intervals of slices, followed through the writes and the driver's calls.

It knows nothing of the extender's ledger or the agent's journal. A plan's entry takes the lock on
its slices. The lock is given back when the entry has left the plan and the GPU instance made for it
is gone; whoever took the entry away must wait for that (a successor need not: it cannot know of it,
and the agent makes nothing where something is left).

Broken promises are told at the moment they are broken:

* ``promised twice``: an entry is written for slices that somebody else still has.
* ``lost``: the GPU instance of a bound pod is destroyed, or the pod runs on another.
* ``foreign destroyed``: an agent destroys what no agent made.
* ``half bound``: a pod is bound without its decision, or the decision is not in the plan.
* ``bound after the answer``: a Binding is written that nobody waits for any more.
* ``not the leader``: a plan is written by a process that does not hold the Lease.

What holds for places that are held says ``holds``. The owner's next pod may be given its place
before the last one's GPU instance is gone: the agent destroys that first.

What a GPU reset, a reboot or somebody with nvidia-smi or kubectl has ended, nobody can keep:
*excuses* are taken note of by GPU, with their time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import Assignment, Decision, GpuNode, Inventory
from nodeagent.apiserver.history import Write
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, PODS, Kind
from nodeagent.simulated.hardware import Hardware
from tests.chaos.holds import Holds

LATE_SECONDS = 3.0  # after a hold's time is over it may still count for so long
LINGERS_SECONDS = 15.0  # what was decided before an upheaval may be written this long after it
_DECISIONS = msgspec.json.Decoder(list[Decision])


class Pod(msgspec.Struct):
    """A pod as it was last written."""

    name: str
    uid: str
    node: str = ""
    phase: str = ""
    deleting: bool = False
    wants: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    bound_at: float = 0.0
    ended: bool = False

    @property
    def over(self) -> bool:
        """Whether it has ended, even if a kubelet behind its time says afterwards that it runs."""
        return self.ended or self.phase == "Failed"


class Judge:
    """Follows one history; *waited_for* tells whether somebody waits for a pod's bind."""

    def __init__(
        self,
        hardware: Mapping[str, Hardware],
        *,
        clock: Callable[[], float],
        waited_for: Callable[[str], bool],
        writer: Callable[[], str],
        hold_seconds: float,
    ) -> None:
        self.violations: list[str] = []
        self.pods: dict[str, Pod] = {}
        self.plans: dict[str, GpuNode] = {}
        self._told: dict[str, Inventory] = {}
        self.holder = ""
        self.foreign: set[tuple[str, int]] = set()
        self.made_for: dict[tuple[str, int], str] = {}
        self._hardware = hardware
        self._clock = clock
        self._waited_for = waited_for
        self._writer = writer
        self._upheavals: dict[str, float] = {}
        self._removed_by: dict[str, str] = {}
        self._gpus = {gpu.uuid: gpu for node in hardware.values() for gpu in node.gpus}
        self.holds = Holds(hold_seconds, clock, alive=self._alive, clear=self._clear)

    # What is seen.

    def wrote(self, kind: Kind, write: Write) -> None:
        """See a write of the API server."""
        if kind == GPU_NODES:
            self._wrote_plan(write)
        elif kind == PODS and write.key[0] != keys.SYSTEM_NAMESPACE:
            self._wrote_pod(write)
        elif kind == LEASES and write.key[1] == keys.LEADER_LEASE and write.after:
            self.holder = write.after.value()["spec"]["holderIdentity"]

    def created(self, node: str, gpu: str, gi_id: int) -> None:
        """See an agent make a GPU instance."""
        made = self._gpus[gpu].instances[gi_id]
        entry = next((e for e in self._entries(node) if _sits_at(e, gpu, made)), None)
        self.made_for[gpu, gi_id] = entry.id if entry else "an assignment withdrawn meanwhile"

    def destroying(self, node: str, gpu: str, gi_id: int) -> None:
        """See an agent destroy a GPU instance, or try to."""
        instance = self._gpus[gpu].instances.get(gi_id)
        if instance is None:
            return
        if (gpu, gi_id) in self.foreign:
            self._broken(f"foreign destroyed: GPU instance {gi_id} of {gpu}")
        for pod in self.pods.values():
            if pod.node == node and not pod.over and not self._excused(pod):
                for each in pod.decisions:
                    if each.gpu == gpu and _same(each, instance):
                        self._broken(f"lost: the GPU instance of {pod.name}, which is bound")
        users = self._gpus[gpu].clients.get(gi_id)
        if users:
            self._broken(f"lost: a GPU instance in use by {users} was to be destroyed")
        else:
            self.made_for.pop((gpu, gi_id), None)

    def upheaval(self, *gpus: str) -> None:
        """See that what is on these GPUs may be gone by no fault of ours."""
        for gpu in gpus:
            self._upheavals[gpu] = self._clock()
            there = self._gpus[gpu].instances
            for key in [k for k in (*self.foreign, *self.made_for) if k[0] == gpu]:
                if key[1] not in there:
                    self.foreign.discard(key)
                    self.made_for.pop(key, None)

    # What must hold.

    def _wrote_plan(self, write: Write) -> None:
        name = write.key[1]
        before = self.plans.get(name)
        if write.after is None:
            self.plans.pop(name, None)
            self._told.pop(name, None)
            return
        node = self.plans[name] = gpunode.decode(write.after.raw)
        told = self._told.get(name)
        # A write that came too late takes the place of a newer one; that one was told all the same.
        if (
            told is None
            or told.agent_epoch != node.status.agent_epoch
            or told.sequence <= node.status.sequence
        ):
            self._told[name] = node.status
        if before is not None and before.metadata.generation == node.metadata.generation:
            return
        known = {e.id for e in before.spec.assignments} if before else set()
        fresh = [e for e in node.spec.assignments if e.id not in known]
        writer = self._writer()
        for id in known - {e.id for e in node.spec.assignments}:
            self._removed_by[id] = writer
        if writer and writer != self.holder:
            self._broken(f"not the leader: {writer} wrote the plan of {name}, {self.holder} leads")
        for entry in fresh:
            self._take_lock(node, entry, writer)
        for fault in self.holds.wrote(before, node):
            self._broken(fault)

    def _take_lock(self, node: GpuNode, entry: Assignment, writer: str) -> None:
        mask = entry.placement.mask
        for other in node.spec.assignments:
            if other.id != entry.id and other.gpu == entry.gpu and other.placement.mask & mask:
                self._broken(f"promised twice: {entry.id} and {other.id} on {entry.gpu}")
        uid = entry.pod.uid if entry.pod else ""
        for pod in self.pods.values():
            if pod.uid == uid or not pod.node or pod.over or self._excused(pod):
                continue
            for each in pod.decisions:
                if each.gpu == entry.gpu and _mask(each) & mask:
                    self._broken(f"promised twice: {entry.id} where {pod.name} is bound")
        for gi_id, there in self._gpus[entry.gpu].instances.items():
            owner = self.made_for.get((entry.gpu, gi_id))
            if (
                owner is not None
                and self._removed_by.get(owner) == writer != ""
                and there.placement.mask & mask
                and self._calm(entry.gpu)
                and not self.holds.succeeds(entry, owner)
            ):
                self._broken(f"promised twice: {entry.id} where the instance of {owner} is left")

    def _wrote_pod(self, write: Write) -> None:
        if write.after is None:
            if write.before is not None:
                self.pods.pop(write.before.uid, None)
            return
        value = write.after.value()
        meta, spec, status = value["metadata"], value["spec"], value["status"]
        pod = self.pods.get(meta["uid"])
        if pod is None:
            amounts = spec["containers"][0]["resources"]["limits"]
            wants = tuple(r for r, n in sorted(amounts.items()) for _ in range(int(n)))
            pod = self.pods[meta["uid"]] = Pod(meta["name"], meta["uid"], wants=wants)
        newly_bound = not pod.node and "nodeName" in spec
        pod.node = spec.get("nodeName", "")
        phase, pod.phase = pod.phase, status["phase"]
        pod.deleting = "deletionTimestamp" in meta
        if newly_bound:
            self._bound(pod, meta)
        pod.ended = pod.ended or pod.phase == "Succeeded"
        if pod.phase == "Running" != phase and not pod.over:
            for fault in self._faults(pod):
                self._broken(f"lost: {pod.name} runs, but {fault}")

    def _bound(self, pod: Pod, meta: Mapping[str, Any]) -> None:
        pod.bound_at = self._clock()
        text = (meta.get("annotations") or {}).get(keys.DECISION_ANNOTATION, "[]")
        pod.decisions = tuple(_DECISIONS.decode(text))
        if sorted(each.resource for each in pod.decisions) != list(pod.wants):
            self._broken(f"half bound: {pod.name} without a decision for each {pod.wants}")
        if not self._waited_for(pod.uid):
            self._broken(f"bound after the answer: {pod.name}")
        if self._excused(pod):
            return
        entries = {e.id: e for e in self._entries(pod.node) if e.pod and e.pod.uid == pod.uid}
        told = self._told.get(pod.node)
        realized = {each.id for each in told.realized} if told else set()
        for each in pod.decisions:
            entry = entries.get(each.id)
            if entry is None or (entry.gpu, entry.start) != (each.gpu, each.start):
                self._broken(f"half bound: {pod.name} has {each.id}, which is not planned")
            elif each.id not in realized:
                self._broken(f"half bound: {pod.name} has {each.id}, which is not realized")

    # What must hold in the end, when nothing more goes wrong.

    def unsettled(self) -> Iterator[str]:
        """Yield what is not as it should be when all has come to rest."""
        planned: dict[str, tuple[str, Assignment]] = {
            entry.id: (name, entry)
            for name in self.plans
            for entry in self._entries(name)
            if entry.pod is not None  # what is held leaves with the next write, and harms nobody
        }
        placed = {entry.pod.uid for _, entry in planned.values() if entry.pod}
        for pod in self.pods.values():
            if pod.deleting:
                yield f"left behind: {pod.name} is still being deleted"
            elif not pod.node:
                if not pod.over and pod.uid in placed:
                    yield f"starved: {pod.name} has a place and is pending"
                elif not pod.over and self._has_room(pod):
                    yield f"starved: {pod.name} would fit and is pending"
            elif not pod.over:
                yield from self._not_at_rest(pod, planned)
            elif pod.phase == "Failed" and not self._excused(pod):
                yield f"lost: {pod.name} was bound, and its kubelet could not run it"
        for name, entry in planned.values():
            owner = self.pods.get(entry.pod.uid) if entry.pod else None
            if owner is None or owner.over or owner.node != name:
                yield f"leaked: {entry.id} on {name} is planned for nobody"
        # While a pod lives whose claim has lost its plan, any of its kind may be behind the claim.
        unexplained = {pod.node for pod in self.pods.values() if self._excused(pod)}
        for gpu in self._gpus.values():
            for gi_id, there in gpu.instances.items():
                known = (gpu.uuid, gi_id) in self.foreign or self._node_of(gpu.uuid) in unexplained
                if not known and not any(
                    _sits_at(entry, gpu.uuid, there) for _, entry in planned.values()
                ):
                    yield f"leaked: GPU instance {gi_id} of {gpu.uuid}"

    def _not_at_rest(self, pod: Pod, planned: Mapping[str, Any]) -> Iterator[str]:
        if self._excused(pod):
            return
        if pod.phase != "Running":
            yield f"lost: {pod.name} is bound and does not run"
        for each in pod.decisions:
            if each.id not in planned:
                yield f"lost: {pod.name} is bound, and {each.id} is not planned"
        for fault in self._faults(pod):
            yield f"lost: {pod.name} is bound, but {fault}"

    def _faults(self, pod: Pod) -> Iterator[str]:
        """Yield what a running pod does not have of what was decided."""
        if self._excused(pod):
            return
        for each in pod.decisions:
            held = any(
                _same(each, there) and pod.uid in self._gpus[each.gpu].clients.get(gi_id, ())
                for gi_id, there in self._gpus[each.gpu].instances.items()
            )
            if not held:
                yield f"it does not hold {each.id}"

    def _has_room(self, pod: Pod) -> bool:
        """Tell whether some node could hold all a pod wants, by what is on its GPUs."""
        for name, node in self._hardware.items():
            planned = [e for e in self._entries(name) if self.holds.in_force(e, give=LATE_SECONDS)]
            taken = {
                gpu.uuid: sum(
                    1 << s
                    for s in range(gpu.geometry.memory_slices)
                    if any(i.placement.mask >> s & 1 for i in gpu.instances.values())
                    or any(e.gpu == gpu.uuid and e.placement.mask >> s & 1 for e in planned)
                )
                for gpu in node.gpus
            }
            if name in self.plans and self._fits(node, pod.wants, taken):
                return True
        return False

    def _fits(self, node: Hardware, wants: tuple[str, ...], taken: dict[str, int]) -> bool:
        if not wants:
            return True
        for gpu in node.gpus:
            seen = gpu.seen(node.mode)
            profile_id = seen.served(node.mode).get(wants[0])
            vacant = any(
                (gpu.uuid, gi_id) in self.foreign and there.profile_id == profile_id
                for gi_id, there in gpu.instances.items()
            )
            if profile_id is None or vacant or self._used_up(gpu, profile_id):
                continue
            for place in gpu.geometry.by_id[profile_id].placements:
                if not place.mask & taken[gpu.uuid]:
                    left = {**taken, gpu.uuid: taken[gpu.uuid] | place.mask}
                    if self._fits(node, wants[1:], left):
                        return True
        return False

    @staticmethod
    def _used_up(gpu: Any, profile_id: int) -> bool:
        alike = sum(each.profile_id == profile_id for each in gpu.instances.values())
        return bool(alike >= gpu.geometry.by_id[profile_id].max_instances)

    def _node_of(self, gpu: str) -> str:
        return next(n for n, h in self._hardware.items() if any(g.uuid == gpu for g in h.gpus))

    def _excused(self, pod: Pod) -> bool:
        return any(
            self._upheavals.get(each.gpu, float("-inf")) > pod.bound_at - LINGERS_SECONDS
            for each in pod.decisions
        )

    def _alive(self, uid: str) -> bool:
        return uid in self.pods and not self.pods[uid].over

    def _clear(self, entry: Assignment) -> bool:
        there = self._gpus[entry.gpu].instances.items()
        foreign = (i for gi_id, i in there if (entry.gpu, gi_id) in self.foreign)
        return self._calm(entry.gpu) and not any(
            i.profile_id == entry.profile_id or i.placement.mask & entry.placement.mask
            for i in foreign
        )

    def _calm(self, gpu: str) -> bool:
        return self._clock() - self._upheavals.get(gpu, float("-inf")) > LINGERS_SECONDS

    def _entries(self, name: str) -> tuple[Assignment, ...]:
        node = self.plans.get(name)
        return node.spec.assignments if node else ()

    def _broken(self, what: str) -> None:
        self.violations.append(f"{self._clock():.3f} s: {what}")


def _mask(decision: Decision) -> int:
    return ((1 << decision.size) - 1) << decision.start


def _same(decision: Decision, there: Any) -> bool:
    return (decision.profile_id, decision.start) == (there.profile_id, there.placement.start)


def _sits_at(entry: Assignment, gpu: str, there: Any) -> bool:
    return (entry.gpu, entry.profile_id, entry.start) == (
        gpu,
        there.profile_id,
        there.placement.start,
    )
