"""Judges every write, in order: who holds which memory slices, as locks on intervals.

It knows the objects and nothing of how they came about. What it calls broken:

* ``promised twice``: a plan gives slices to two, or slices that a bound pod still has, or those of
  a foreign GPU instance, or those of an entry that is still on its way out (``releasing``); or a
  node reports two GPU instances in one place. A place that is held for a VM that restarts is
  promised like any other, and an entry that is changed is promised anew.
* ``lost``: what a bound pod was promised leaves the plan or is changed there, or its GPU instance
  leaves the inventory, before the pod has ended; or the pod's kubelet had to refuse it.
* ``half bound``: a pod is bound and its decision is not one entry of that node's plan for each
  device it asked for, each reported realized.
* ``foreign``: a GPU instance that nobody of ours made is gone.
* ``hold`` and ``half a gang``: see the modules by these names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec

from nodeagent.api import gpunode, keys, resources
from nodeagent.api.gpunode import Decision, GpuNode
from tests.e2e.chaos.gangs import Gangs, Member
from tests.e2e.chaos.history import Write
from tests.e2e.chaos.holds import Holds
from tests.e2e.chaos.releasing import Releases
from tests.e2e.chaos.spots import Spot, existing, fresh, spot

GPU_NODES = f"{keys.GROUP}/{keys.GPU_NODE_PLURAL}/"
PODS = "pods/default/"
OVER = ("Succeeded", "Failed")

_DECISIONS = msgspec.json.Decoder(list[Decision])


class Pod(msgspec.Struct, frozen=True):
    """A pod as it was last written (``raw``); ``wants`` are resources, one for each device."""

    name: str
    uid: str
    vm: str
    node: str
    phase: str
    reason: str
    deleting: bool
    wants: tuple[str, ...]
    decisions: tuple[Decision, ...]
    gang: str
    gang_size: int
    raw: msgspec.Raw

    @property
    def holds(self) -> bool:
        """Whether it is bound and has not ended: what it was promised is its own."""
        return bool(self.node) and self.phase not in OVER

    @property
    def member(self) -> Member | None:
        """The pod as a member of its gang, None if it is in none."""
        if not self.gang:
            return None
        return Member(self.uid, self.gang, self.gang_size, len(self.wants))


def pod(raw: bytes) -> Pod:
    """Read a pod."""
    value: dict[str, Any] = msgspec.json.decode(raw)
    meta, spec, status = value["metadata"], value["spec"], value.get("status", {})
    limits: dict[str, str] = spec["containers"][0].get("resources", {}).get("limits", {})
    ours = ((name, int(n)) for name, n in sorted(limits.items()) if resources.ours(name))
    annotations = meta.get("annotations", {})
    text = annotations.get(keys.DECISION_ANNOTATION)
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        vm=meta.get("labels", {}).get("vm.kubevirt.io/name", ""),
        node=spec.get("nodeName", ""),
        phase=status.get("phase", ""),
        reason=f"{status.get('reason', '')} {status.get('message', '')}".strip(),
        deleting="deletionTimestamp" in meta,
        wants=tuple(name for name, count in ours for _ in range(count)),
        decisions=tuple(_DECISIONS.decode(text)) if text else (),
        gang=annotations.get(keys.GANG, ""),
        gang_size=int(annotations.get(keys.GANG_SIZE, 0)),
        raw=msgspec.Raw(raw),
    )


class Checker:
    """Sees one history; *foreign* are the GPU instances that were there before us.

    *broken* is told of each broken promise, in words. *hold_seconds*, by the *clock*, is for how
    long a place is held for a VM that restarts.
    """

    def __init__(
        self,
        foreign: Collection[Spot],
        broken: Callable[[str], None],
        *,
        hold_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.holds = Holds(hold_seconds, clock)
        self.gangs = Gangs()
        self.releases = Releases()
        self.nodes: dict[str, GpuNode] = {}
        self.pods: dict[str, Pod] = {}
        """By key in etcd, as are the nodes by name: the last of either that was written."""
        self._foreign = frozenset(foreign)
        self._broken = broken

    def see(self, write: Write) -> None:
        """Judge one write."""
        if write.key.startswith(GPU_NODES):
            name = write.key.removeprefix(GPU_NODES)
            faults = self._node_written(name, write.value)
        elif write.key.startswith(PODS):
            faults = self._pod_written(write.key, write.value)
        else:
            return
        for fault in list(faults):  # seen to its end: it also remembers what was written
            self._broken(f"revision {write.revision}: {fault}")

    def _node_written(self, name: str, value: bytes | None) -> Iterator[str]:
        before = self.nodes.pop(name, GpuNode(gpunode.Metadata(name)))
        node = GpuNode(gpunode.Metadata(name)) if value is None else gpunode.decode(value)
        if value is not None:
            self.nodes[name] = node
        held = [
            (p, d) for p in self.pods.values() if p.node == name and p.holds for d in p.decisions
        ]
        if node.spec != before.spec:
            yield from self._plan_written(before, node, held)
            yield from self.holds.plan_written(before.spec, node.spec)
        if value is None:
            self.releases.gone(name)
        else:
            yield from self.releases.node_written(before, node)
        yield from self._inventory_written(before, node, held)

    def _plan_written(
        self, before: GpuNode, node: GpuNode, held: list[tuple[Pod, Decision]]
    ) -> Iterator[str]:
        known = {entry.id for entry in before.spec.assignments}
        kept = {(e.id, spot(e), e.pod.uid) for e in node.spec.assignments if e.pod is not None}
        for entry in fresh(before.spec, node.spec):
            place = spot(entry)
            for other in node.spec.assignments:
                if other.id != entry.id and place.overlaps(spot(other)):
                    yield f"promised twice: {entry.id} and {other.id}, {place}"
            for pod, decision in held:
                mine = entry.pod is not None and entry.pod.uid == pod.uid
                if not mine and place.overlaps(spot(decision)):
                    yield f"promised twice: {entry.id}, and to {pod.name}, which is bound, {place}"
            for other_place in self._foreign:
                if place.overlaps(other_place):
                    yield f"promised twice: {entry.id} where a foreign GPU instance is, {place}"
        for pod, decision in held:
            if decision.id in known and (decision.id, spot(decision), pod.uid) not in kept:
                yield f"lost: {decision.id} of {pod.name}, which is bound, left the plan"

    def _inventory_written(
        self, before: GpuNode, node: GpuNode, held: list[tuple[Pod, Decision]]
    ) -> Iterator[str]:
        earlier, now = existing(before), existing(node)
        if earlier == now:
            return
        gone = set(earlier) - set(now)
        for place in self._foreign & gone:
            yield f"foreign: {place} is gone"
        for pod, decision in held:
            if spot(decision) in gone:
                yield f"lost: the GPU instance of {pod.name}, which is bound, is gone"
        for at, place in enumerate(now):
            for other in now[:at]:
                if place.overlaps(other):
                    yield f"promised twice: {place} and {other} exist at once"

    def _pod_written(self, key: str, value: bytes | None) -> Iterator[str]:
        before = self.pods.pop(key, None)
        if value is None:
            return
        now = self.pods[key] = pod(value)
        if before is None or before.uid != now.uid:
            before = None
        member = now.member
        if member is not None:
            self.gangs.seen(member)
        if now.node and not (before and before.node):
            yield from self._bound(now)
            if member is not None:
                yield from self.gangs.bound(member, self.nodes)
        if now.phase == "Failed" and (before is None or before.phase != "Failed"):
            yield f"lost: {now.name} was bound and its kubelet could not run it: {now.reason}"

    def _bound(self, pod: Pod) -> Iterator[str]:
        if sorted(decision.resource for decision in pod.decisions) != list(pod.wants):
            yield f"half bound: {pod.name} wants {pod.wants}, decided is {pod.decisions}"
        node = self.nodes.get(pod.node, GpuNode(gpunode.Metadata(pod.node)))
        entries = {e.id: e for e in node.spec.assignments if e.pod and e.pod.uid == pod.uid}
        realized = {each.id for each in node.status.realized}
        for decision in pod.decisions:
            entry = entries.get(decision.id)
            if entry is None or spot(entry) != spot(decision):
                yield f"half bound: {pod.name}, and {decision.id} is not planned on {pod.node}"
            elif decision.id not in realized:
                yield f"half bound: {pod.name}, and {decision.id} is not realized"
