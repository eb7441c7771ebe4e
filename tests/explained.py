"""Small clusters of VMs for explanations, and what becomes of them when VMs move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from extender.explain import Situation
from extender.explain.explanation import Move, Spot
from extender.ledger import Ledger
from extender.request import Request
from extender.snapshot import NodeView
from nodeagent.api import resources
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode, OwnerRef, Realized
from tests.builders import H100, VGPU, assignment, gpu, gpu_node, instance, view

PROFILE_OF = {
    resource: profile_id
    for resource, profile_id in resources.served(
        Mode.VGPU_VFIO, H100.geometry, H100.vgpu_types
    ).items()
    if resource.startswith(VGPU) and resource.endswith("C")
}
RESOURCE_OF = {profile_id: resource for resource, profile_id in PROFILE_OF.items()}


class Pod(msgspec.Struct, frozen=True):
    """What is known of a VM's pod."""

    node: str
    movable: bool = True
    deleting: bool = False
    over: bool = False
    evictable: bool = True
    restartable: bool = False
    priority: int = 0
    asked: object = None


@dataclass(frozen=True)
class Vm:
    """A VM with one vGPU: its profile's id, and where it is."""

    name: str
    profile_id: int
    node: str
    gpu: int
    start: int
    movable: bool = True

    @property
    def placement(self) -> Placement:
        return Placement(self.start, H100.geometry.by_id[self.profile_id].size)


@dataclass(frozen=True)
class Small:
    """VMs on nodes with so many H100s each."""

    gpus: Mapping[str, int]
    vms: Mapping[str, Vm] = field(default_factory=dict)

    @classmethod
    def of(cls, vms: Iterable[Vm], **gpus: int) -> Small:
        return cls(gpus, {vm.name: vm for vm in vms})

    @property
    def pods(self) -> Mapping[str, Pod]:
        return {vm.name: Pod(vm.node, vm.movable) for vm in self.vms.values()}

    @property
    def views(self) -> dict[str, NodeView]:
        return {name: self._view(name) for name in self.gpus}

    def _view(self, name: str) -> NodeView:
        here = [vm for vm in self.vms.values() if vm.node == name]
        plan = [
            assignment(
                f"of-{vm.name}",
                vm.profile_id,
                vm.start,
                gpu=f"{name}-{vm.gpu}",
                pod=vm.name,
                resource=RESOURCE_OF[vm.profile_id],
                owner=OwnerRef("VirtualMachineInstance", "default", vm.name),
            )
            for vm in here
        ]
        gpus = [
            gpu(
                at,
                uuid=f"{name}-{at}",
                instances=tuple(
                    instance(vm.profile_id, vm.start, assignment=f"of-{vm.name}")
                    for vm in here
                    if vm.gpu == at
                ),
            )
            for at in range(self.gpus[name])
        ]
        realized = [Realized(each.id) for each in plan]
        return view(gpu_node(name, gpus=gpus, plan=plan, realized=realized))

    def situation(self, request: Request) -> Situation:
        return Situation(request, self.views, Ledger(), "default", "v1", self.pods)

    def free(self, spot: Spot, *, besides: str = "") -> bool:
        """Tell whether slices are free of all VMs but one."""
        mask = Placement(spot.start, spot.size).mask
        return not any(
            vm.placement.mask & mask for vm in self._on(spot.node, spot.gpu) if vm.name != besides
        )

    def _on(self, node: str, gpu: int) -> Iterator[Vm]:
        return (vm for vm in self.vms.values() if (vm.node, vm.gpu) == (node, gpu))

    def moved(self, move: Move) -> Small:
        """Carry out a move, which must be of a VM that may move, from where it is, to free slices.

        The target is taken before the source is left: the VM's own slices are not free to it.
        """
        vm, to = self.vms[move.name], move.target
        assert vm.movable
        assert (move.source.node, move.source.gpu, move.source.start) == (vm.node, vm.gpu, vm.start)
        profile = H100.geometry.by_id[vm.profile_id]
        assert move.profile == profile.name
        assert Placement(to.start, to.size) in profile.placements
        assert to.gpu < self.gpus[to.node]
        assert to.uuid == f"{to.node}-{to.gpu}"
        assert self.free(to)
        there = replace(vm, node=to.node, gpu=to.gpu, start=to.start)
        return replace(self, vms={**self.vms, vm.name: there})
