"""Harvester's objects about GPUs, as far as the agent needs them: values. ``wire`` reads them.

``devices.harvesterhci.io/v1beta1``, all cluster-scoped, as pcidevices v1.7.1 and v1.8.1 define
them; nothing in them is required, and every string may be null. The same fields mean the same in
1.7 (mdev) and 1.8 (vendor VFIO) but for one: a vGPU's ``uuid`` is its mdev's UUID in 1.7, and the
number of its type in 1.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from nodeagent.api.gpunode import OwnerRef
from nodeagent.api.resources import of_vgpu_type
from nodeagent.apiserver.protocol import Kind

GROUP, VERSION = "devices.harvesterhci.io", "v1beta1"

# The plurals are inferred: those that Kubernetes' conventions give these kinds.
SRIOV_GPU_DEVICES = Kind(GROUP, VERSION, "sriovgpudevices", namespaced=False)
VGPU_DEVICES = Kind(GROUP, VERSION, "vgpudevices", namespaced=False)
MIG_CONFIGURATIONS = Kind(GROUP, VERSION, "migconfigurations", namespaced=False)

NODE_LABEL = "nodename"
"""On SRIOVGPUDevices and VGPUDevices: the node they are on. MigConfigurations tell it in the spec
alone, as far as is known."""


class Head(msgspec.Struct, frozen=True):
    """Which state of which object this is."""

    name: str
    uid: str
    version: str


class SriovGpuDevice(msgspec.Struct, frozen=True):
    """A GPU that Harvester knows; ``enabled`` is whether it has virtual functions.

    ``as_made`` is whether its spec is as it was when the object was made. Harvester's controller
    never changes it again (read in its source), so whatever has changed, an administrator has
    changed, or an agent, which only ever enables it.
    """

    head: Head
    address: str
    enabled: bool
    as_made: bool = True

    @property
    def turned_off(self) -> bool:
        """Whether somebody has disabled it, as opposed to one that nobody has enabled yet."""
        return not self.enabled and not self.as_made


class VgpuDevice(msgspec.Struct, frozen=True):
    """A virtual function, at ``address``, of the GPU at ``parent``, and the vGPU on it.

    ``enabled`` and ``type_name`` are what is wanted; ``configured``, ``uuid`` and
    ``configured_type`` what Harvester says there is. ``available`` are the names of the types it
    may be enabled with, as they were up to 30 seconds ago. ``assignment`` is for what we enabled
    it, "" if we did not.
    """

    head: Head
    address: str
    parent: str
    enabled: bool = False
    type_name: str = ""
    configured: bool = False
    uuid: str = ""
    configured_type: str = ""
    available: frozenset[str] = frozenset()
    assignment: str = ""

    @property
    def kind(self) -> str:
        """Its type; of a vGPU that was there before its object, only Harvester's status tells."""
        return self.type_name or self.configured_type


class Requested(msgspec.Struct, frozen=True):
    """How many GPU instances of a profile Harvester is to make, wherever the driver likes."""

    name: str
    id: int
    requested: int


class MigConfiguration(msgspec.Struct, frozen=True):
    """What Harvester is to do about the GPU instances of the GPU at ``address``.

    ``status`` is what it says of that: synced, out-of-sync or disabled. ``ours`` is whether we made
    it neutral, ``leaving`` whether we have since had Harvester look again, to hand it back.
    """

    head: Head
    address: str
    enabled: bool
    requested: tuple[Requested, ...] = ()
    status: str = ""
    ours: bool = False
    leaving: bool = False

    @property
    def asks(self) -> bool:
        """Whether it asks for any GPU instance."""
        return any(each.requested > 0 for each in self.requested)

    @property
    def frozen(self) -> bool:
        """Whether Harvester's webhook refuses other counts, disabled or not.

        It does from when Harvester has compared them with what the GPU has, until it has deleted
        that from a disabled one, or has looked at an enabled one whose GPU is empty.
        """
        return self.status in ("synced", "out-of-sync")

    @property
    def cut_by_hand(self) -> bool:
        """Whether somebody has had Harvester cut the GPU, and wants it so."""
        return self.enabled and self.asks

    @property
    def neutral(self) -> bool:
        """Whether Harvester neither creates nor deletes GPU instances: it only compares.

        Read in the source, and not tried on a live cluster.
        """
        return self.enabled and not self.asks


class Keeper(msgspec.Struct, frozen=True):
    """What a VM's annotation says it has: ``kept`` are resources and VGPUDevices' names.

    These are no more than it asks for; ``named`` are all the devices it names.
    """

    owner: OwnerRef
    kept: frozenset[tuple[str, str]]
    named: frozenset[str]


class Objects(msgspec.Struct, frozen=True):
    """All of a node's, and who keeps a VGPUDevice, by its name: VMs that ask for what it is.

    Harvester refuses to disable what any VM's annotation names, be the VM running or not, and be
    that true or not: ``named`` are those.
    """

    gpus: tuple[SriovGpuDevice, ...] = ()
    vgpus: tuple[VgpuDevice, ...] = ()
    migs: tuple[MigConfiguration, ...] = ()
    keepers: Mapping[str, tuple[OwnerRef, ...]] = {}
    named: frozenset[str] = frozenset()

    def gpu(self, address: str) -> SriovGpuDevice | None:
        """Return the object of the GPU at that PCI address."""
        return next((each for each in self.gpus if each.address == address), None)

    def mig(self, address: str) -> MigConfiguration | None:
        """Return the layout's object of the GPU at that PCI address."""
        return next((each for each in self.migs if each.address == address), None)

    def vgpus_of(self, address: str) -> tuple[VgpuDevice, ...]:
        """Return the virtual functions of the GPU at that PCI address, in a stable order."""
        mine = (each for each in self.vgpus if each.parent == address)
        return tuple(sorted(mine, key=lambda each: each.address))


def kept_by(
    keepers: Iterable[Keeper], vgpus: Iterable[VgpuDevice]
) -> dict[str, tuple[OwnerRef, ...]]:
    """Return whose each device is, by its name, of those that serve what they are kept for."""
    serves = {each.head.name: of_vgpu_type(each.kind) for each in vgpus if each.kind}
    found: dict[str, list[OwnerRef]] = {}
    for keeper in keepers:
        for resource, device in keeper.kept:
            if resource in serves.get(device, ()):
                found.setdefault(device, []).append(keeper.owner)
    return {
        device: tuple(sorted(owners, key=lambda each: (each.namespace, each.name)))
        for device, owners in found.items()
    }
