"""Whether every VM is where it was decided to be: judged from the GPUs and what VMs have open.

Where a VM is, the fake machine tells. Where it should be, its pod's annotation says, which is there
from its binding on, or what a witness saw it might be given; and the plan must say so, too. That a
GPU instance is there for somebody is taken from the plan, or from what VMs keep. Which places are
legal, and which profile is behind a type, is read from the catalog that Tangram has, too: what is
wrong in that is not found here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Occupancy
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import Kind
from tests.e2e.harvester.administered import Administered
from tests.e2e.harvester.place import Place, decided, place
from tests.fakes.pcidevices.host import Host
from tests.fakes.pcidevices.log import Log, traps
from tests.fakes.pcidevices.names import VGPUS, VMS, resource_name
from tests.fakes.pcidevices.webhooks import allocated

PROFILES = {
    resource_name(kind.name): kind.profile_id
    for model in MODELS.values()
    for kind in model.vgpu_types
}
"""The profile behind each resource of the catalog's usual boards."""


class Launchers(Protocol):
    """The VMs of a node."""

    def devices(self, uid: str) -> tuple[str, ...]:
        """Return the virtual functions whose vGPUs the VM in a pod has open."""


class Node(Protocol):
    """A node, as far as it is judged."""

    @property
    def host(self) -> Host:
        """Its GPUs."""

    @property
    def launchers(self) -> Launchers:
        """Its VMs."""


class Witness(Protocol):
    """Who has watched since the cluster was there."""

    def may_have(self, uid: str) -> Collection[Place]:
        """Return where a launcher may be besides where it was decided to be."""

    def unfounded(self) -> Iterable[str]:
        """Yield what is wrong with plans that were rewritten."""


class Cluster(Protocol):
    """A cluster, as far as it is judged."""

    @property
    def witness(self) -> Witness:
        """Who has watched it."""

    @property
    def administered(self) -> Administered:
        """What was done by hand there."""

    @property
    def log(self) -> Log:
        """What was done."""

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes by name."""

    async def launchers(self) -> dict[str, dict[str, Any]]:
        """Return the launcher of each VM."""

    async def gpu_nodes(self) -> dict[str, GpuNode]:
        """Return the plan and inventory of each node."""

    async def listed(self, kind: Kind, namespace: str = "") -> list[dict[str, Any]]:
        """Return every object of a kind."""


async def violations(cluster: Cluster, *, within: float = 60.0) -> list[str]:
    """Return what is wrong; nothing if all is well, or comes to be so in time (in seconds).

    What is being taken away is not yet gone, and who looks at many things sees none of them at the
    same moment. A VM in a wrong place, or a step into a trap, does not pass.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + within
    while True:
        found = [
            *traps(cluster.administered.others(cluster.log.entries)),
            *cluster.witness.unfounded(),
            *[each async for each in _misplaced(cluster)],
        ]
        if not found or loop.time() >= until:
            return found
        await asyncio.sleep(1.0)


async def missed(cluster: Cluster) -> list[str]:
    """Return the VMs that are not bound though some node has legal free places for all they ask."""
    nodes = [
        [
            (geometry, _occupancy(node.host, index, geometry))
            for index, model in enumerate(node.host.machine.models)
            for geometry in [MODELS[model].geometry]
        ]
        for node in cluster.nodes.values()
    ]
    return [
        name
        for name, pod in (await cluster.launchers()).items()
        if not pod["spec"].get("nodeName")
        and any(fits(gpus, sorted(asked(pod).elements())) for gpus in nodes)
    ]


def asked(pod: Mapping[str, Any]) -> Counter[int]:
    """Return how many GPU instances of each profile a launcher asks for."""
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    found: Counter[int] = Counter()
    for resource, amount in limits.items():
        if resource.startswith("nvidia.com/"):
            found[PROFILES[resource]] += int(amount)
    return found


def fits(gpus: Sequence[tuple[Geometry, Occupancy]], profiles: Sequence[int]) -> bool:
    """Tell whether GPUs have legal free places for instances of all these *profiles* together."""
    if not profiles:
        return True
    first, *others = profiles
    return any(
        fits([*gpus[:n], (geometry, geometry.occupied(now, first, each)), *gpus[n + 1 :]], others)
        for n, (geometry, now) in enumerate(gpus)
        for each in geometry.legal(now, geometry.by_id[first])
    )


def _occupancy(host: Host, gpu: int, geometry: Geometry) -> Occupancy:
    now = geometry.empty
    for each in host.machine.gpu_instances(gpu):
        now = geometry.occupied(now, each.profile_id, each.placement)
    return now


async def _misplaced(cluster: Cluster) -> AsyncIterator[str]:
    pods = await cluster.launchers()
    nodes = await cluster.gpu_nodes()
    kept = {name for vm in await cluster.listed(VMS, "default") for name in allocated(vm)}
    vgpus = {each["metadata"]["name"]: each for each in await cluster.listed(VGPUS)}
    places: dict[str, list[Place]] = {}
    for name, pod in pods.items():
        node_name, uid = pod["spec"].get("nodeName", ""), pod["metadata"]["uid"]
        if not node_name or pod["status"]["phase"] != "Running":
            continue
        node = cluster.nodes[node_name]
        functions = node.launchers.devices(uid)
        places[name] = [place(node.host, function) for function in functions]
        profiles = Counter(profile for _, profile, _ in places[name])
        if profiles != asked(pod):
            yield f"{name}: has {dict(profiles)}, by profile, and asks for {dict(asked(pod))}"
        entries = [e for e in nodes[node_name].spec.assignments if e.pod and e.pod.uid == uid]
        planned = Counter((e.gpu, e.profile_id, e.start) for e in entries)
        if planned != Counter(places[name]):
            yield f"{name}: has {places[name]}, and the plan says {sorted(planned)}"
        decision = decided(pod)
        if decision is None:
            if name not in cluster.administered.vms:
                yield f"{name}: bound without a decision"
            continue
        strayed = Counter(places[name]) - decision
        if not strayed.keys() <= set(cluster.witness.may_have(uid)):
            yield f"{name}: decided to be at {sorted(decision)}, it has {places[name]}"
    every = Counter(each for found in places.values() for each in found)
    for each, count in every.items():
        if count > 1:
            yield f"{each}: has {count} VMs"
    for name, node in cluster.nodes.items():
        entries_of = {(e.gpu, e.profile_id, e.start) for e in nodes[name].spec.assignments if e.pod}
        backing = {
            place(node.host, vgpu["spec"]["address"]): each
            for each, vgpu in vgpus.items()
            if vgpu["spec"].get("nodeName") == name
            and any(
                node.host.vgpu(vgpu["spec"]["address"])
                for gpu in node.host.gpus.values()
                if vgpu["spec"]["address"] in node.host.functions(gpu)
            )
        }
        by_hand = cluster.administered.gpus(node.host)
        for index, uuid in enumerate(node.host.machine.uuids):
            taken = 0
            for instance in node.host.machine.gpu_instances(index):
                here = (uuid, instance.profile_id, instance.placement.start)
                if taken & instance.placement.mask:
                    yield f"{name}: {uuid} has overlapping GPU instances"
                taken |= instance.placement.mask
                accounted = here in entries_of or backing.get(here) in kept or uuid in by_hand
                if not accounted:
                    yield f"{name}: {here} is in no plan, and no VM keeps its device"
