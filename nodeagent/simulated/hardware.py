"""The GPUs of a simulated node, with the rules of real ones. They outlive every agent."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from itertools import count

from nodeagent.api.catalog import Model
from nodeagent.api.geometry import Geometry, Placement
from nodeagent.api.gpunode import Mode
from nodeagent.driver import (
    CREATE,
    DESTROY,
    DISCOVER,
    GpuLost,
    Host,
    InstanceInUse,
    InvalidPlacement,
    LiveDevice,
    LiveGpu,
    LiveInstance,
    MigDisabled,
    NoSuchInstance,
    PlacementUnavailable,
)

DRIVER_VERSION = "simulated"

OPEN = "open"
"""How errors name what a client does with a device; NVML has no part in it."""

_UUIDS = uuid.UUID("5a0f1d6e-7b5c-4c43-9d0e-7a9ce0a4b5c1")


class SimulatedGpu:
    """One GPU: what it is, what is on it, and who uses that."""

    def __init__(self, node: str, index: int, model: Model) -> None:
        self.uuid = f"GPU-{uuid.uuid5(_UUIDS, f'{node}/{index}')}"
        self.pci_address = f"0000:{0x10 + index:02x}:00.0"
        self.numa_node = index // 4
        self.model = model
        self.mig_enabled = True
        self.unhealthy = ""
        self.lost = False
        self.instances: dict[int, LiveInstance] = {}
        self.clients: dict[int, set[str]] = {}
        self.bare: set[int] = set()
        """The ids of GPU instances without a device."""

    @property
    def geometry(self) -> Geometry:
        """What may be created on it."""
        return self.model.geometry

    def create(self, profile_id: int, placement: Placement, *, bare: bool = False) -> int:
        """Create a GPU instance, with its device unless *bare*.

        Its id is the lowest free one, so ids come again.
        """
        self._answer(CREATE)
        profile = self.geometry.by_id.get(profile_id)
        if profile is None or placement not in profile.placements:
            raise InvalidPlacement(CREATE)
        existing = self.instances.values()
        alike = sum(each.profile_id == profile_id for each in existing)
        if alike >= profile.max_instances or any(
            each.placement.mask & placement.mask for each in existing
        ):
            raise PlacementUnavailable(CREATE)
        gi_id = next(n for n in count(1) if n not in self.instances)
        self.instances[gi_id] = LiveInstance(gi_id, profile_id, placement)
        if bare:
            self.bare.add(gi_id)
        return gi_id

    def destroy_listed(self, gi_id: int, listed: LiveInstance | None) -> None:
        """Destroy a GPU instance that nobody uses, if it still is what was *listed* by that id."""
        if not self.lost and self.instances.get(gi_id, listed) != listed:
            raise NoSuchInstance(DESTROY, detail="another one has its id now")
        self.destroy(gi_id)

    def destroy(self, gi_id: int) -> None:
        """Destroy a GPU instance that nobody uses."""
        self._answer(DESTROY)
        if gi_id not in self.instances:
            raise NoSuchInstance(DESTROY)
        if self.clients.get(gi_id):
            raise InstanceInUse(DESTROY)
        del self.instances[gi_id]
        self.bare.discard(gi_id)

    def reset(self) -> None:
        """Reset the GPU: GPU instances and clients are gone, MIG mode stays."""
        self.instances.clear()
        self.clients.clear()
        self.bare.clear()

    def device(self, gi_id: int) -> LiveDevice:
        """Return what whoever uses the GPU instance is handed of it."""
        return LiveDevice(f"{self.pci_address}/{gi_id}")

    def seen(self, mode: Mode) -> LiveGpu:
        """Return the GPU as its driver lists it; of a lost one only what does not change."""
        return LiveGpu(
            uuid=self.uuid,
            pci_address=self.pci_address,
            model=self.model.nvml_names[0],
            geometry=self.geometry,
            vgpu_types=() if mode is Mode.CONTAINER else self.model.vgpu_types,
            numa_node=self.numa_node,
            mig_enabled=self.mig_enabled,
            unhealthy=str(GpuLost(DISCOVER)) if self.lost else self.unhealthy,
            listed=not self.lost,
            instances=() if self.lost else tuple(self._listed()),
        )

    def _listed(self) -> list[LiveInstance]:
        return [
            LiveInstance(
                gi_id,
                each.profile_id,
                each.placement,
                bool(self.clients.get(gi_id)),
                None if gi_id in self.bare else self.device(gi_id),
            )
            for gi_id, each in sorted(self.instances.items())
        ]

    def _answer(self, call: str) -> None:
        if self.lost:
            raise GpuLost(call)
        if not self.mig_enabled:
            raise MigDisabled(call)


class Hardware:
    """The GPUs of *node*, one for each of *models*, used as *mode* says.

    UUIDs depend on the node's name and the GPU's index alone; *power_on* names the first boot, for
    a process that comes anew to a node it does not remember.
    """

    def __init__(
        self, node: str, models: Sequence[Model], mode: Mode, *, power_on: str = ""
    ) -> None:
        self.node = node
        self._power_on = power_on
        self.mode = mode
        self.gpus = tuple(SimulatedGpu(node, i, model) for i, model in enumerate(models))
        self._boots = 0
        self.boot_id = self._boot()
        """The node's boot, another after each :meth:`reboot`."""

    def gpu(self, gpu: str, call: str = DISCOVER) -> SimulatedGpu:
        """Return the GPU with that UUID, which *call* asks for."""
        found = next((each for each in self.gpus if each.uuid == gpu), None)
        if found is None:
            raise GpuLost(call)
        return found

    def existing(self) -> dict[tuple[str, int], LiveInstance]:
        """Return every GPU instance there is, by its GPU's UUID and its id there."""
        return {(gpu.uuid, gi_id): it for gpu in self.gpus for gi_id, it in gpu.instances.items()}

    def host(self) -> Host:
        """Return everything as it is now."""
        gpus = tuple(gpu.seen(self.mode) for gpu in self.gpus)
        return Host(self.boot_id, DRIVER_VERSION, self.mode, gpus, simulated=True)

    def open(self, gpu: str, gi_id: int, client: str) -> None:
        """Let *client* use a GPU instance."""
        found = self.gpu(gpu, OPEN)
        if found.lost:
            raise GpuLost(OPEN)
        if gi_id not in found.instances:
            raise NoSuchInstance(OPEN)
        found.clients.setdefault(gi_id, set()).add(client)

    def close(self, client: str) -> None:
        """End whatever *client* uses."""
        for gpu in self.gpus:
            for clients in gpu.clients.values():
                clients.discard(client)

    def reboot(self) -> None:
        """Reboot the node: GPU instances and clients are gone, MIG mode stays."""
        self._boots += 1
        self.boot_id = self._boot()
        for gpu in self.gpus:
            gpu.reset()

    def _boot(self) -> str:
        return str(uuid.uuid5(_UUIDS, f"{self.node}/boot/{self._power_on}/{self._boots}"))
