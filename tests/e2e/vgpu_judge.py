"""Whether VMs have the vGPUs that were planned for them: judged from the GPUs themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from nodeagent.api.gpunode import GpuNode
from tests.e2e.harvester.place import Place, decided
from tests.e2e.vgpu_node import VgpuNode
from tests.fakes.pcidevices.names import resource_name

CONTAINER = "/dev/vfio/vfio"
"""What every VM opens, besides the file of its vGPU."""


def misplaced(node: VgpuNode, plan: GpuNode, pods: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield what is wrong on a node where those *pods* are, all running; nothing if all is well."""
    taken: Counter[Place] = Counter()
    functions: Counter[str] = Counter()
    for pod in pods:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        mine = node.launchers.devices(uid)
        places = node.places(uid)
        if (given := _resources(node, mine)) != (wanted := _asked(pod)):
            yield f"{name}: has {dict(given)}, and asks for {dict(wanted)}"
        entries = (e for e in plan.spec.assignments if e.pod and e.pod.uid == uid)
        planned = Counter((e.gpu, e.profile_id, e.start) for e in entries)
        if not places == planned == decided(pod):
            yield f"{name}: is at {places}, was decided to be at {decided(pod)}, planned {planned}"
        if (files := node.files(uid)) != {CONTAINER, *(node.file(each) for each in mine)}:
            yield f"{name}: was given {files} for its vGPUs on {mine}"
        taken += places
        functions.update(mine)
    if any(count > 1 for count in (*taken.values(), *functions.values())):
        yield f"VMs share GPU instances, or vGPUs: {taken}, {functions}"
    machine = node.host.machine
    instances = {
        (machine.uuids[gpu], each.profile_id, each.placement.start)
        for gpu in node.host.gpus.values()
        for each in machine.gpu_instances(gpu)
    }
    if instances != taken.keys():
        yield f"{node.name}: GPU instances and VMs differ by {instances ^ taken.keys()}"
    vgpus = node.host.kernel.vgpus()
    if len(vgpus) != functions.total() or not all(each.opened for each in vgpus):
        yield f"{node.name}: {vgpus} are not the vGPUs of {functions}"


def _asked(pod: dict[str, Any]) -> Counter[str]:
    limits = pod["spec"]["containers"][0]["resources"]["limits"].items()
    return Counter({name: int(n) for name, n in limits if name.startswith("nvidia.com/")})


def _resources(node: VgpuNode, functions: Iterable[str]) -> Counter[str]:
    vgpus = (node.host.vgpu(function) for function in functions)
    return Counter(resource_name(node.host.type_name(vgpu)) for vgpu in vgpus if vgpu)
