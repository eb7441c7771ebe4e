"""Pods that come and go, others that make GPU instances, and what must hold at every moment.

Whoever calls plays the extender, kube-scheduler and the users. What must never be is an
AssertionError, whenever it shows.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment
from nodeagent.apiserver.protocol import PODS, PatchType
from tests.fakes.kubelet import Container, NotAdmitted, Pod
from tests.fakes.nvml.machine import Refused
from tests.properties.nodeagent.whole.devices import Place
from tests.properties.nodeagent.whole.site import FOREIGN, GPUS, NODE, Profile, Site
from tests.properties.nodeagent.whole.vm import OVER, PLANNED, RUNNING, Vm


class Population:
    """All pods of a *site*, and the GPU instances that somebody else has made there."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.vms: dict[str, Vm] = {}
        self.foreign: dict[Place, int] = {}
        self.counts: Counter[str] = Counter()
        self._named = 0

    def names(self, *states: str) -> list[str]:
        """Return the pods in one of *states*, the oldest first."""
        return [name for name, vm in self.vms.items() if vm.state in states]

    def free(self, profile: Profile) -> list[Place]:
        """Return where there is nothing, nor will be."""
        taken = [0] * GPUS
        uuids = self.site.machine.uuids
        for vm in self.vms.values():
            for each in vm.assignments:
                taken[uuids.index(each.gpu)] |= each.placement.mask
        for gpu in range(GPUS):
            for instance in self.site.machine.gpu_instances(gpu):
                taken[gpu] |= instance.placement.mask
        return [
            (gpu, start)
            for gpu in range(GPUS)
            for start in profile.starts
            if not Placement(start, profile.size).mask & taken[gpu]
        ]

    # -- what the extender does --------------------------------------------------------------------

    async def plan(
        self, profile: Profile, places: Sequence[Place], init: Sequence[int], apart: bool
    ) -> None:
        """Plan a new pod at *places*, whose init containers ask for as many as *init* says.

        One container has all of its devices, or each has one, *apart*.
        """
        resource = profile.resource(self.site.mode)
        counts = [1] * len(places) if apart else [len(places)]
        pod = await self._created(resource, counts, init)
        since = f"2026-01-01T00:00:00.{self._named:06}Z"
        uuids = self.site.machine.uuids
        assignments = tuple(
            Assignment(
                f"{pod.name}/{number}",
                uuids[gpu],
                profile.id,
                start,
                profile.size,
                resource,
                since,
                pod.ref,
            )
            for number, (gpu, start) in enumerate(places)
        )
        self.vms[pod.name] = Vm(pod, profile, frozenset(places), assignments)
        await self._write_plan()

    async def withdraw(self, name: str) -> None:
        """Take what is planned for a pod that does not run out of the plan."""
        vm = self.vms.pop(name)
        assert vm.state != RUNNING
        if vm.state == PLANNED:
            await self._end(vm.pod, deleted=True)
        await self._write_plan()

    async def ready(self, name: str) -> bool:
        """Tell whether a pod may be bound: it is realized, and the Node shows the resource."""
        vm = self.vms[name]
        told = {each.id for each in (await self.site.gpu_node()).status.realized}
        resource = vm.profile.resource(self.site.mode)
        shown = self.site.kubelet.allocatable.get(resource, 0)
        return shown >= len(vm.places) and {each.id for each in vm.assignments} <= told

    # -- what befalls pods -------------------------------------------------------------------------

    async def serve(self, name: str, *, rejected: bool = False) -> str:
        """Bind a pod that is ready and have it admitted; return why it was not, "" if it was.

        Where it is *rejected*, it is so after its devices have been allocated.
        """
        vm = self.vms[name]
        await self._bind(vm.pod)
        try:
            answers = await self.site.kubelet.admit(vm.pod, rejected=rejected)
        except NotAdmitted as error:
            await self._end(vm.pod, deleted=False)
            vm.state = OVER
            return str(error)
        vm.run(self.site, answers)
        return ""

    async def end(self, name: str, *, deleted: bool) -> None:
        """End a running pod, and delete it or not; what is planned for it stays."""
        vm = self.vms[name]
        vm.end(self.site)
        self.site.kubelet.end(vm.pod)
        await self._end(vm.pod, deleted=deleted)

    async def intrude(self, profile: Profile) -> None:
        """Have a pod come that nobody has planned, where nobody is expected: it is refused."""
        pod = await self._created(profile.resource(self.site.mode), [1], ())
        await self._bind(pod)
        try:
            given = await self.site.kubelet.admit(pod)
        except NotAdmitted:
            pass
        else:
            raise AssertionError(f"a pod that nobody has planned was given {given}")
        finally:
            await self._end(pod, deleted=True)

    # -- others ------------------------------------------------------------------------------------

    def appear(self, place: Place) -> None:
        """Have a GPU instance of somebody else appear, unless one of ours was there first."""
        with contextlib.suppress(Refused):
            self.foreign[place] = self.site.machine.create_gpu_instance(
                place[0], FOREIGN.id, Placement(place[1], FOREIGN.size)
            )

    def disappear(self, place: Place) -> None:
        """Have it go again."""
        self.site.machine.destroy_gpu_instance(place[0], self.foreign.pop(place))

    # -- what must hold ----------------------------------------------------------------------------

    def check(self) -> None:
        """Assert what holds at every moment, whatever anybody is at."""
        there = self.site.instances()
        for place, gi_id in self.foreign.items():
            assert there.get(place) == (FOREIGN.id, gi_id), f"a foreign one was touched: {there}"
        for name in self.names(RUNNING):
            self.vms[name].examine(self.site)
        for vgpu in self.site.kernel.vgpus():
            ids = {gi_id for (gpu, _), (_, gi_id) in there.items() if gpu == vgpu.gpu}
            assert vgpu.gi_id in ids, f"{vgpu} is without a GPU instance"

    # -- how it is done ----------------------------------------------------------------------------

    async def _write_plan(self) -> None:
        await self.site.plan([each for vm in self.vms.values() for each in vm.assignments])

    async def _created(self, resource: str, counts: Sequence[int], init: Sequence[int]) -> Pod:
        self._named += 1
        name = f"pod-{self._named}"
        containers = tuple(
            Container(f"main-{n}", {resource: each}) for n, each in enumerate(counts)
        )
        first = tuple(
            Container(f"init-{n}", {resource: each} if each else {}) for n, each in enumerate(init)
        )
        spec = {"initContainers": [*map(_body, first)], "containers": [*map(_body, containers)]}
        body = {"metadata": {"name": name}, "spec": spec}
        made = msgspec.json.decode(await self.site.api.create(PODS, body, namespace="default"))
        return Pod(name, containers, init=first, uid=made["metadata"]["uid"])

    async def _bind(self, pod: Pod) -> None:
        binding = {"metadata": {"name": pod.name}, "target": {"name": NODE}}
        await self.site.api.create(
            PODS, binding, namespace="default", name=pod.name, subresource="binding"
        )

    async def _end(self, pod: Pod, *, deleted: bool) -> None:
        """Have the API server tell that a pod has failed, or that there is none any more."""
        if deleted:
            await self.site.api.delete(PODS, pod.name, namespace="default", grace_seconds=0)
            return
        await self.site.api.patch(
            PODS,
            pod.name,
            {"status": {"phase": "Failed"}},
            patch_type=PatchType.MERGE,
            namespace="default",
            subresource="status",
        )


def _body(container: Container) -> dict[str, Any]:
    limits = {resource: str(count) for resource, count in container.limits.items()}
    return {"name": container.name, "resources": {"limits": limits}}
