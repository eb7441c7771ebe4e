"""VMs and what is held for them as plain values, moved by the steps of an order one at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from extender.advice import Asked, Setting
from extender.advice.advise import advise
from extender.advice.setting import Waiting
from extender.claims import claims_of, vacated
from extender.kubescheduler.eligible import Traits
from extender.ledger import Ledger
from extender.moving import Order, There, order_of
from extender.request import Request
from extender.service.ports import PodFacts
from extender.snapshot import NodeView
from nodeagent.api import keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Condition, OwnerRef, PodRef, Realized
from tests.builders import H100, assignment, gpu, gpu_node, instance, request, view
from tests.explained import RESOURCE_OF, Vm

VMI = "VirtualMachineInstance"


@dataclass
class Fleet:
    """Nodes with so many H100s each; of each VM its pods are numbered."""

    gpus: Mapping[str, int]
    vms: dict[str, Vm]
    waits: dict[str, int] = field(default_factory=dict)
    """Pods that wait, each for a profile."""
    holds: dict[str, list[Assignment]] = field(default_factory=dict)
    pod_of: dict[str, int] = field(default_factory=dict)
    remains: list[Vm] = field(default_factory=list)
    """What has gone, and whose GPU instances have yet to."""
    stopped: dict[str, Vm] = field(default_factory=dict)
    ending: set[str] = field(default_factory=set)
    """VMs whose pods are being deleted."""
    cordoned: set[str] = field(default_factory=set)
    unready: dict[str, str] = field(default_factory=dict)
    """Pods that are not Ready, by UID, each with why."""
    over: set[str] = field(default_factory=set)
    """Pods that have failed, by UID."""
    silent: set[str] = field(default_factory=set)
    """Nodes whose driver does not answer."""
    traits: dict[str, Traits] = field(default_factory=dict)
    """What of nodes keeps pods from them."""

    def uid(self, name: str) -> str:
        return f"{name}.{self.pod_of.get(name, 1)}"

    def request(self, name: str, profile_id: int) -> Request:
        owner = OwnerRef(VMI, "default", name)
        return request(RESOURCE_OF[profile_id], pod=self.uid(name), owner=owner)

    @property
    def pods(self) -> dict[str, PodFacts]:
        found = [
            PodFacts(
                asked.pod,
                asked,
                vm.node,
                "Failed" if asked.pod.uid in self.over else "Running",
                deleting=vm.name in self.ending,
                movable=vm.movable,
            )
            for vm in self.vms.values()
            for asked in (self.request(vm.name, vm.profile_id),)
        ]
        waiting = (self.request(name, profile) for name, profile in self.waits.items())
        found += [PodFacts(asked.pod, asked) for asked in waiting]
        return {each.ref.uid: each for each in found}

    @property
    def views(self) -> dict[str, NodeView]:
        return {name: self._view(name) for name in self.gpus}

    def _view(self, name: str) -> NodeView:
        here = [vm for vm in self.vms.values() if vm.node == name]
        plan = [self._entry(vm) for vm in here]
        gpus = [
            gpu(
                at,
                uuid=f"{name}-{at}",
                instances=tuple(
                    instance(vm.profile_id, vm.start, assignment=self._entry(vm).id)
                    for vm in here
                    if vm.gpu == at
                )
                + tuple(
                    instance(vm.profile_id, vm.start, assignment="of nobody any more")
                    for vm in self.remains
                    if (vm.node, vm.gpu) == (name, at)
                ),
            )
            for at in range(self.gpus[name])
        ]
        plan += self.holds.get(name, [])
        realized = [Realized(each.id) for each in plan if each.pod is not None]
        node = gpu_node(name, gpus=gpus, plan=plan, realized=realized)
        if name in self.silent:
            unavailable = Condition("Ready", "False", keys.DRIVER_UNAVAILABLE)
            status = msgspec.structs.replace(node.status, conditions=(unavailable,))
            node = msgspec.structs.replace(node, status=status)
        return view(node, cordoned=name in self.cordoned)

    def _entry(self, vm: Vm) -> Assignment:
        return assignment(
            f"of-{self.uid(vm.name)}",
            vm.profile_id,
            vm.start,
            gpu=f"{vm.node}-{vm.gpu}",
            pod=self.uid(vm.name),
            resource=RESOURCE_OF[vm.profile_id],
            owner=OwnerRef(VMI, "default", vm.name),
        )

    def there(self) -> There:
        placed = {self.uid(name) for name in self.vms}
        return There(
            self.views,
            self.pods,
            placed,
            Ledger(),
            lambda asked: asked,
            self.unready,
            {},
            self.traits,
        )

    def order(self, asked: Asked) -> Order | None:
        """Return the order for the plan that attains something, None if there is no such."""
        waiting = {
            ("default", name): Waiting(self.request(name, profile))
            for name, profile in self.waits.items()
        }
        setting = Setting(self.views, Ledger(), self.pods, waiting=waiting)
        found = advise(setting, asked, clock=lambda: 0.0)
        if not found.advice.attains or not found.errands.moves:
            return None
        return order_of("0123456789ab", found.errands, since="now", goals=("a goal",), asked=asked)

    # What happens.

    def hold(self, node: str, entry: Assignment) -> None:
        """Write a reservation, which must lie over nothing but what a claim waits for."""
        self.holds.setdefault(node, []).append(entry)
        if not entry.owner or entry.owner.kind == VMI:
            assert self.free(node, entry, besides=entry.id)

    def free(self, node: str, entry: Assignment, *, besides: str) -> bool:
        others = [
            each.placement.mask
            for each in self.views[node].node.spec.assignments
            if each.gpu == entry.gpu and each.id != besides
        ]
        return not any(mask & entry.placement.mask for mask in others)

    def stop(self, pod: PodRef) -> str:
        """End a VM's pod, whose GPU instance remains for a while; return the VM."""
        (name,) = [each for each in self.vms if self.uid(each) == pod.uid]
        self.stopped[name] = self.vms.pop(name)
        self.remains.append(self.stopped[name])
        return name

    def come(self, name: str, node: str, gpu: str, start: int) -> None:
        """Let a VM's next pod come to a place, by what is held there for it."""
        self.pod_of[name] = self.pod_of.get(name, 1) + 1
        owner = OwnerRef(VMI, "default", name)
        self.holds[node] = [each for each in self.holds.get(node, []) if each.owner != owner]
        profile_id = self.stopped[name].profile_id
        self.vms[name] = Vm(name, profile_id, node, int(gpu.rpartition("-")[2]), start)
        mine = Placement(start, H100.geometry.by_id[profile_id].size)
        for vm in self.vms.values():
            if vm.name != name and (vm.node, vm.gpu) == (node, self.vms[name].gpu):
                assert not vm.placement.mask & mine.mask

    def admit(self, ripe: Collection[str]) -> bool:
        """Let a pod that waits have its claimed place, if that is free by now, and *ripe*."""
        for name in tuple(self.waits):
            for node, there in self.views.items():
                own = claims_of(there, self.uid(name))
                if own and vacated(there, own) and own[0].id in ripe:
                    (claim,) = own
                    self.holds[node] = [e for e in self.holds[node] if e.id != claim.id]
                    profile, index = self.waits.pop(name), int(claim.gpu.rpartition("-")[2])
                    self.vms[name] = Vm(name, profile, node, index, claim.start)
                    return True
        return False
