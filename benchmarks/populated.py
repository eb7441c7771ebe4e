"""A cluster in full use, as its API server holds it: nodes, agents' Leases, plans, pods.

Each node has 8 H100; each GPU holds five vGPUs of small profiles at random legal placements, more
or fewer where the number asked for says so, or as many as find room: five on the average, seven at
most. Each vGPU is a VM's, whose pod is as large as
KubeVirt's launchers are. Not all is well: a few nodes are cordoned, some agents have no Lease, some
GPUs are unhealthy or hold an instance that nobody planned; some VMs are still being placed, and
some pods wait for a place.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from functools import cache

import msgspec

from nodeagent.api import resources
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Occupancy, Placement
from nodeagent.api.gpunode import (
    Assignment,
    GpuNode,
    Instance,
    Metadata,
    Mode,
    OwnerRef,
    Plan,
    Realized,
)
from nodeagent.api.occupancy import occupied_by
from nodeagent.discover import inventory
from nodeagent.driver import Host, LiveGpu

MODEL = MODELS["H100-80GB"]
GPUS = 8
PER_GPU = 5
RESOURCES = {vgpu.profile_id: resources.of_vgpu_type(vgpu.name)[0] for vgpu in MODEL.vgpu_types}
SMALL = tuple(id for id in RESOURCES if MODEL.geometry.by_id[id].size <= 2)
"""The profiles of which five find room on a GPU in most orders."""

LEAST = min(
    (MODEL.geometry.by_id[id] for id in SMALL if id not in MODEL.geometry.limited),
    key=lambda profile: profile.size,
)
"""The profile of which most find room on a GPU."""

NAMESPACE = "default"
UNHEALTHY, FOREIGN, LEASELESS, CORDONED, PLACED_LATELY, GANG, OFF = 97, 89, 83, 79, 71, 67, 61
"""Every so manieth GPU, GPU, node, node, VM, pair and VM is that; primes, so that all mix."""


class Vm(msgspec.Struct, frozen=True):
    """A VM's pod as it is to be: ``node`` is "" while it is not bound.

    One that is ``off`` has no pod at the moment, and its place is held for it.
    """

    name: str
    entry: Assignment | None = None
    node: str = ""
    wanted: str = ""
    gang: str = ""
    off: bool = False


class Site(msgspec.Struct):
    """What there is: GpuNodes by the names of their nodes, VMs by their own.

    ``labels`` are those of the Nodes, where rules look at any.
    """

    nodes: dict[str, GpuNode] = {}
    vms: dict[str, Vm] = {}
    labels: dict[str, dict[str, str]] = {}
    cordoned: set[str] = set()
    leaseless: set[str] = set()

    @property
    def assignments(self) -> int:
        """How many entries all plans have together."""
        return sum(len(node.spec.assignments) for node in self.nodes.values())


def drawn(
    nodes: int, assignments: int | None, *, pending: int, seed: int, off: bool = False
) -> Site:
    """Return a site of so many *nodes*, *assignments*, and pods without a place.

    Without a number of assignments all GPUs are full: nothing more finds room. With *off*, some VMs
    are, and their places are held for them.

    Raises:
        ValueError: there is no room for so many.
    """
    chance = random.Random(seed)
    site = Site()
    gpus = nodes * GPUS
    for index in range(nodes):
        name = f"gpu-node-{index:05}"
        if index % CORDONED == CORDONED - 1:
            site.cordoned.add(name)
        if index % LEASELESS == LEASELESS - 1:
            site.leaseless.add(name)
        first = index * GPUS
        counts = [
            None
            if assignments is None
            else assignments * (gpu + 1) // gpus - assignments * gpu // gpus
            for gpu in range(first, first + GPUS)
        ]
        site.nodes[name] = _node(name, counts, first, site, chance, off=off)
    for index in range(pending):
        vm = Vm(f"pending-{index:05}", wanted=RESOURCES[chance.choice(list(RESOURCES))])
        site.vms[vm.name] = vm
    return site


def _node(
    name: str,
    counts: Iterable[int | None],
    first: int,
    site: Site,
    chance: random.Random,
    *,
    off: bool,
) -> GpuNode:
    """Draw a node whose GPUs, the *first* one's number given, hold so many instances each."""
    taken = {f"GPU-{name}-{index}": _taken(count, chance) for index, count in enumerate(counts)}
    entries = [_entry(uuid, *each) for uuid, there in taken.items() for each in there]
    for entry in entries:
        site.vms[entry.id] = _vm(entry, name, len(site.vms), off=off)
    made = [entry for entry in entries if site.vms[entry.id].node]
    instances = {uuid: tuple(instances_of(made, uuid)) for uuid in taken}
    for number, (uuid, there) in enumerate(taken.items(), first):
        if number % FOREIGN == FOREIGN - 1:
            instances[uuid] += tuple(_foreign(there))
    live = tuple(_gpu(uuid, number) for number, uuid in enumerate(taken, first))
    host = Host("boot", "simulated", Mode.VGPU_VFIO, live, simulated=True)
    status = inventory(host, dict.fromkeys(taken, ()), entries)
    status = msgspec.structs.replace(
        status,
        agent_epoch="epoch",
        sequence=1,
        observed_generation=1,
        gpus=tuple(
            msgspec.structs.replace(gpu, instances=instances[gpu.uuid]) for gpu in status.gpus
        ),
        realized=realized(made),
    )
    return GpuNode(Metadata(name), Plan(tuple(entries)), status)


def _gpu(uuid: str, number: int) -> LiveGpu:
    return LiveGpu(
        uuid,
        f"0000:{number % GPUS:02x}:00.0",
        MODEL.name,
        MODEL.geometry,
        MODEL.vgpu_types,
        unhealthy="row remap failure" if number % UNHEALTHY == UNHEALTHY - 1 else "",
    )


def _vm(entry: Assignment, node: str, number: int, *, off: bool) -> Vm:
    gang = f"pair-{number // GANG}" if number % GANG in (0, 1) else ""
    lately = number % PLACED_LATELY == PLACED_LATELY - 1 and not gang
    off = off and number % OFF == OFF - 1 and not gang and not lately
    return Vm(entry.id, entry, "" if lately or off else node, gang=gang, off=off)


def instances_of(entries: Iterable[Assignment], gpu: str) -> Iterator[Instance]:
    """Yield what an agent has made on a GPU for *entries*."""
    for gi_id, a in enumerate(entry for entry in entries if entry.gpu == gpu):
        yield Instance(gi_id, a.profile_id, a.start, a.size, a.id)


def _taken(count: int | None, chance: random.Random) -> list[tuple[int, Placement]]:
    """Draw *count* placements that fit together on one GPU; without a count, all that do."""
    taken: list[tuple[int, Placement]] = []
    occupancy = MODEL.geometry.empty
    while count is None or len(taken) < count:
        options = _options(occupancy, 0 if count is None else count - len(taken) - 1)
        if not options:
            if count is None:
                break
            raise ValueError(f"no GPU has room for {count} instances")
        profile_id, placements = chance.choice(options)
        taken.append((profile_id, chance.choice(placements)))
        occupancy = MODEL.geometry.occupied(occupancy, *taken[-1])
    return taken


@cache
def _options(occupancy: Occupancy, others: int) -> tuple[tuple[int, tuple[Placement, ...]], ...]:
    """Return where each small profile finds room so that so many *others* do afterwards."""
    geometry = MODEL.geometry

    def leaves_room(profile_id: int, placement: Placement) -> bool:
        after = geometry.occupied(occupancy, profile_id, placement)
        return sum(1 for _ in geometry.legal(after, LEAST)) >= others

    found = (
        (id, tuple(p for p in geometry.legal(occupancy, geometry.by_id[id]) if leaves_room(id, p)))
        for id in SMALL
    )
    return tuple((id, placements) for id, placements in found if placements)


def _foreign(taken: list[tuple[int, Placement]]) -> Iterator[Instance]:
    """Yield an instance that somebody made by hand, if there is room for one."""
    profile = MODEL.geometry.by_id[SMALL[0]]
    for place in MODEL.geometry.legal(occupied_by(MODEL.geometry, taken), profile):
        yield Instance(99, profile.id, place.start, place.size, vacant=True)
        return


def _entry(gpu: str, profile_id: int, placement: Placement) -> Assignment:
    name = f"vm-{gpu.removeprefix('GPU-gpu-node-')}-{placement.start}"
    return Assignment(
        id=name,
        gpu=gpu,
        profile_id=profile_id,
        start=placement.start,
        size=placement.size,
        resource=RESOURCES[profile_id],
        since="2026-01-01T00:00:00.000000Z",
        owner=OwnerRef("VirtualMachineInstance", NAMESPACE, name),
    )


def realized(entries: Iterable[Assignment]) -> tuple[Realized, ...]:
    """Return what an agent reports that has made *entries*."""
    return tuple(Realized(entry.id, f"slot-{entry.id}") for entry in entries)
