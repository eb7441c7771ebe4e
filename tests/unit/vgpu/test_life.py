"""A vGPU's life as it should be, on both of the kernel's interfaces."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.driver import InstanceInUse, NoSuchInstance
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


async def test_each_assignment_has_a_vgpu_in_its_own_gpu_instance(node: VgpuNode) -> None:
    made = [await node.create(f"a{place}", place) for place in range(4)]

    assert [vgpu.gi_id for vgpu in node.vgpus()] == made
    devices = {(await node.instance(gi_id)).device for gi_id in made}
    assert len(devices) == len(made)


async def test_what_was_made_is_destroyed_with_no_look_in_between(node: VgpuNode) -> None:
    gi_id = await node.create()

    await node.driver.destroy(node.uuid, gi_id)

    assert node.vgpus() == []
    assert node.machine.gpu_instances(0) == []


async def test_a_restarted_agent_finds_its_vgpus_and_takes_them_away(node: VgpuNode) -> None:
    gi_id = await node.create()
    before = await node.instance(gi_id)

    await node.restart()

    assert await node.instance(gi_id) == before
    await node.driver.destroy(node.uuid, gi_id)
    assert (node.vgpus(), node.machine.gpu_instances(0)) == ([], [])


@pytest.mark.parametrize("iommufd", [False, True])
async def test_an_open_vgpu_is_in_use_until_it_is_closed(
    node_of: Callable[..., VgpuNode], iommufd: bool
) -> None:
    node = node_of(iommufd=iommufd)
    gi_id = await node.create()
    node.kernel.open(0, 1)

    assert (await node.instance(gi_id)).in_use
    with pytest.raises(InstanceInUse):
        await node.driver.destroy(node.uuid, gi_id)
    assert node.machine.calls("vgpu_remove") == []

    node.kernel.open(0, 1, opened=False)
    assert not (await node.instance(gi_id)).in_use
    await node.driver.destroy(node.uuid, gi_id)


async def test_the_open_vgpu_of_one_vm_is_not_that_of_another(node: VgpuNode) -> None:
    one, two = await node.create("a1", 0), await node.create("a2", 1)
    node.kernel.open(0, 1)

    assert (await node.instance(one)).in_use
    assert not (await node.instance(two)).in_use


async def test_what_is_not_as_it_was_listed_is_not_destroyed(node: VgpuNode) -> None:
    gi_id = await node.create()
    await node.driver.discover()
    node.kernel.remove(0, 1)
    node.machine.destroy_gpu_instance(0, gi_id)
    assert node.foreign_instance(place=1) == gi_id

    with pytest.raises(NoSuchInstance):
        await node.driver.destroy(node.uuid, gi_id)
    assert len(node.machine.gpu_instances(0)) == 1


async def test_a_reboot_ends_vgpus_and_what_is_known_of_them(node: VgpuNode) -> None:
    await node.create("a1")
    node.reboot()

    assert (await node.gpu()).instances == ()
    assert b"a1" not in node.record.read_bytes()
    gi_id = await node.create("a1")
    assert (await node.instance(gi_id)).device is not None


async def test_without_a_purpose_there_is_no_vgpu(node: VgpuNode) -> None:
    await node.driver.discover()
    gi_id = await node.driver.create(node.uuid, node.type.profile_id, node.places()[0])

    assert (await node.instance(gi_id)).device is None
    assert node.vgpus() == []
    await node.driver.destroy(node.uuid, gi_id)
