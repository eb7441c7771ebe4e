"""A vGPU's life as it should be, on both of the kernel's interfaces."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.driver import InstanceInUse, NoSuchInstance, RivalCandidate
from tests.unit.vgpu.node import VgpuNode


async def test_a_vgpu_is_made_in_the_gpu_instance_made_for_it(node: VgpuNode) -> None:
    gi_id = await node.create("a1")

    (vgpu,) = node.vgpus()
    assert vgpu.gi_id == gi_id
    found = await node.instance(gi_id)
    assert found.device is not None
    assert found.device.nodes == ("/dev/vfio/vfio", "/dev/vfio/101")
    assert not found.in_use
    if node.mode is Mode.VGPU_MDEV:
        assert found.device.id == vgpu.uuid
    else:
        assert found.device.id == "0000:10:00.4"
