"""What the driver has taken away, and what it lets be, on a GPU that is as it is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.driver import Host, InstanceInUse, LiveInstance, StillLeaving
from nodeagent.harvester.door import HarvesterObjects
from nodeagent.harvester.driver import HarvesterDriver
from nodeagent.harvester.giving_way import ShutDriver
from nodeagent.harvester.join import Joined, join
from nodeagent.harvester.objects import Objects, VgpuDevice
from nodeagent.vgpu.interface import Vgpu
from nodeagent.vgpu.join import Seen
from nodeagent.vgpu.sysfs import Sysfs
from nodeagent.vgpu.worker import Worker
from tests.unit.harvester.test_decide import KIND, device, gpu, made, mig, small, sriov, vgpu

THEIRS = "00000000-0000-4000-8000-000000000002"


class Told:
    """Objects that are told, and remember which of them were to be disabled."""

    def __init__(self, *devices: VgpuDevice) -> None:
        self.disabled: list[str] = []
        self._devices = devices

    def now(self) -> Objects:
        return Objects((sriov(),), self._devices, (mig(),))

    async def disable(self, device: VgpuDevice) -> None:
        self.disabled.append(device.head.name)


class Driver(HarvesterDriver):
    """A driver that finds small GPU instances, and in them what the kernel is said to have."""

    def __init__(
        self, objects: Told, seen: Seen, opened: frozenset[str], instances: Sequence[LiveInstance]
    ) -> None:
        super().__init__(
            cast(ShutDriver, None),
            cast(HarvesterObjects, objects),
            Sysfs(Path("/nowhere")),
            cast(Worker, None),
        )
        self._found = join(gpu(*instances), seen, objects.now(), opened)

    async def _look(self) -> tuple[Host, dict[str, Joined]]:
        host = Host("boot", "570", Mode.HARVESTER, (self._found.gpu,))
        return host, {self._found.gpu.uuid: self._found}


async def destroyed(
    objects: Told,
    *vgpus: Vgpu,
    trouble: str = "",
    opened: frozenset[str] = frozenset(),
    others: Sequence[LiveInstance] = (),
) -> None:
    """Have the first GPU instance destroyed that was found just before."""
    driver = Driver(objects, Seen(8, vgpus, trouble=trouble), opened, [small(), *others])
    await driver.discover()
    await driver.destroy("GPU-0", 1)


async def test_the_vgpu_of_what_is_to_go_is_taken_away_first() -> None:
    objects = Told(made())
    with pytest.raises(StillLeaving, match="is told to take its vGPU away"):
        await destroyed(objects, vgpu())
    assert objects.disabled == ["n1-1"]


async def test_none_is_taken_away_while_harvester_has_another_to_make_beside_it() -> None:
    """The driver, which chooses, might put that into this GPU instance."""
    objects = Told(made(1), device(2, enabled=True, type_name=KIND))
    with pytest.raises(StillLeaving, match="yet to make another vGPU beside it"):
        await destroyed(objects, vgpu(), others=[small(2, 3)])
    assert objects.disabled == []
    with pytest.raises(StillLeaving, match="is told to take its vGPU away"):
        await destroyed(objects, vgpu())  # nothing else could take it
    assert objects.disabled == ["n1-1"]


async def test_none_is_taken_away_that_somebody_has_open() -> None:
    objects = Told(made())
    with pytest.raises(InstanceInUse):
        await destroyed(objects, vgpu(), opened=frozenset({"/dev/vfio/7"}))
    assert objects.disabled == []


async def test_none_is_taken_away_beside_another_one_in_the_same_gpu_instance() -> None:
    """Either may be a VM's: which of them it has open is not told."""
    objects = Told(made(1), made(2, uuid=THEIRS))
    with pytest.raises(InstanceInUse):
        await destroyed(objects, vgpu(1), vgpu(2, id=THEIRS))
    assert objects.disabled == []


async def test_none_is_taken_away_while_the_kernels_files_cannot_be_read() -> None:
    objects = Told(made())
    with pytest.raises(InstanceInUse):
        await destroyed(objects, vgpu(), trouble="/sys/… cannot be read")
    assert objects.disabled == []


async def test_one_that_is_leaving_is_waited_for_whatever_else_is_in_the_gpu_instance() -> None:
    objects = Told(made(1, enabled=False), made(2, uuid=THEIRS))
    with pytest.raises(StillLeaving):
        await destroyed(objects, vgpu(1), vgpu(2, id=THEIRS))
    assert objects.disabled == []
