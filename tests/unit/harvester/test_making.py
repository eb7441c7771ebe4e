"""Writes one after the other, each by what is known when its turn comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Mode
from nodeagent.driver import Host, LiveGpu
from nodeagent.harvester.door import HarvesterObjects
from nodeagent.harvester.join import Joined
from nodeagent.harvester.making import Further, Making
from nodeagent.harvester.objects import Head, Objects, SriovGpuDevice, VgpuDevice

MODEL = MODELS["H100-80GB"]
ADDRESS = "0000:10:00.0"
GPU = LiveGpu("GPU-0", ADDRESS, "H100", MODEL.geometry, MODEL.vgpu_types)


def left_over(number: int) -> VgpuDevice:
    """Return a device that was once enabled for an assignment and whose vGPU a reboot has ended."""
    head = Head(f"n1-{number}", f"uid-{number}", "1")
    kind = MODEL.vgpu_types[0].name
    return VgpuDevice(
        head, f"0000:10:00.{number}", ADDRESS, True, kind, uuid="an id", assignment="old"
    )


class Looking:
    def __init__(self, joined: Joined) -> None:
        self._joined = joined

    async def joined(self) -> Mapping[str, Joined]:
        return {GPU.uuid: self._joined}

    async def leave_alone(self, gpu: SriovGpuDevice) -> None:
        raise AssertionError(gpu)


class TakenMeanwhile:
    """Objects of which a VM comes to name the *others* while the first is disabled."""

    def __init__(self, others: frozenset[str]) -> None:
        self._others = others
        self.disabled: list[str] = []

    def now(self) -> Objects:
        return Objects(named=self._others if self.disabled else frozenset())

    async def disable(self, device: VgpuDevice) -> None:
        self.disabled.append(device.head.name)


async def gone_through(objects: TakenMeanwhile) -> Further:
    making = Making(
        Looking(Joined(GPU, (left_over(1), left_over(2)), {})), cast(HarvesterObjects, objects)
    )
    host = Host("boot-1", "570", Mode.HARVESTER, (GPU,))
    return await making.further([], planned=(), ours=(), host=host, held=())


async def test_what_a_vm_comes_to_name_while_another_write_is_waited_for_is_not_disabled() -> None:
    objects = TakenMeanwhile(frozenset({"n1-2"}))

    assert (await gone_through(objects)).refused  # so that it is looked at again soon
    assert objects.disabled == ["n1-1"]


async def test_what_none_has_come_to_name_is_disabled_all_the_same() -> None:
    objects = TakenMeanwhile(frozenset())

    assert not (await gone_through(objects)).refused
    assert objects.disabled == ["n1-1", "n1-2"]
