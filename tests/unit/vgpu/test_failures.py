"""What the kernel, the driver and the disk refuse, and what is left then."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.driver import (
    SRIOV_DISABLED,
    DriverBusy,
    DriverError,
    GpuLost,
    InstanceInUse,
    MigDisabled,
    NoPermission,
    PlacementUnavailable,
    Purpose,
    RivalCandidate,
    VgpuError,
)
from nodeagent.vgpu.sysfs import MDEV_DEVICES, PCI_DEVICES
from tests.fakes.nvml.machine import IN_USE, UNKNOWN, Kind
from tests.fakes.sysfs.tree import CREATE, REMOVE, function_address
from tests.unit.vgpu.node import VgpuNode
from tests.waiting import until

NVML_CREATE = "nvmlDeviceCreateGpuInstanceWithPlacement"
NVML_DESTROY = "nvmlGpuInstanceDestroy"
ERRNOS = (errno.EIO, errno.EBUSY, errno.EPERM, errno.ENOSPC, errno.EINVAL)


def nothing_is_left(node: VgpuNode) -> bool:
    return not node.vgpus() and not node.machine.gpu_instances(0)


def gpu_instance_id_of(node: VgpuNode) -> PurePosixPath:
    """Return where the files tell the GPU instance of the first vGPU."""
    if node.mode is Mode.VGPU_MDEV:
        return MDEV_DEVICES / node.vgpus()[0].uuid / "nvidia/gpu_instance_id"
    return PCI_DEVICES / function_address(0, 1) / "nvidia/gpu_instance_id"


@pytest.mark.parametrize("code", ERRNOS)
async def test_a_refused_write_is_told_with_its_path_and_undone(node: VgpuNode, code: int) -> None:
    node.machine.fail(CREATE, code)

    with pytest.raises(VgpuError) as caught:
        await node.create()

    file = "create" if node.mode is Mode.VGPU_MDEV else "current_vgpu_type"
    assert caught.value.code == code
    assert f"/{file}: " in str(caught.value)
    assert f"({errno.errorcode[code]})" in str(caught.value)
    assert nothing_is_left(node)
    assert (await node.instance(await node.create())).device is not None


async def test_a_write_that_fails_and_yet_made_the_vgpu_is_undone(node: VgpuNode) -> None:
    node.machine.fail(CREATE, errno.EIO, kind=Kind.DONE_BUT_ERROR)

    with pytest.raises(VgpuError, match="EIO"):
        await node.create()

    assert nothing_is_left(node)


async def test_a_write_that_only_pretends_is_found_out(node: VgpuNode) -> None:
    node.machine.pretend(CREATE)

    with pytest.raises(VgpuError, match="reported done, but the vGPU is not there"):
        await node.create()

    assert nothing_is_left(node)


async def test_a_gpu_instance_that_is_refused_leaves_nothing_to_undo(node: VgpuNode) -> None:
    await node.driver.discover()
    node.machine.fail(NVML_CREATE, UNKNOWN)

    with pytest.raises(DriverError) as caught:
        await node.create()

    assert caught.value.call == NVML_CREATE
    assert node.machine.calls(CREATE) == []
    assert nothing_is_left(node)


async def test_what_cannot_be_undone_is_told_with_the_first_cause(node: VgpuNode) -> None:
    node.machine.fail(CREATE, errno.EIO)
    node.machine.always(NVML_DESTROY, UNKNOWN)

    with pytest.raises(VgpuError, match="its GPU instance stays, of no use") as caught:
        await node.create()

    assert caught.value.code == errno.EIO
    assert NVML_DESTROY in caught.value.detail
    assert isinstance(caught.value.__cause__, VgpuError)
    assert caught.value.__cause__.code == errno.EIO
    node.machine.clear_faults()
    (left,) = (await node.gpu()).instances
    assert (left.device, left.in_use) == (None, False)
    await node.driver.destroy(node.uuid, left.gi_id)
    assert nothing_is_left(node)


async def test_a_vgpu_that_cannot_be_undone_keeps_its_gpu_instance(node: VgpuNode) -> None:
    node.machine.fail(CREATE, errno.EIO, kind=Kind.DONE_BUT_ERROR)
    node.machine.fail(REMOVE, errno.EBUSY)

    with pytest.raises(VgpuError, match="and its GPU instance stay") as caught:
        await node.create()

    assert "EIO" in caught.value.detail
    assert "EBUSY" in caught.value.detail
    assert node.machine.calls(NVML_DESTROY) == []
    # What stays is a vGPU of ours in a GPU instance of ours, and can be taken up.
    (left,) = (await node.gpu()).instances
    assert left.device is not None
    await node.driver.destroy(node.uuid, left.gi_id)
    assert nothing_is_left(node)


@pytest.mark.parametrize("code", ERRNOS)
async def test_a_refused_removal_keeps_the_gpu_instance(node: VgpuNode, code: int) -> None:
    gi_id = await node.create()
    node.machine.fail(REMOVE, code)

    with pytest.raises(VgpuError) as caught:
        await node.driver.destroy(node.uuid, gi_id)

    assert caught.value.code == code
    assert (await node.instance(gi_id)).device is not None
    await node.driver.destroy(node.uuid, gi_id)
    assert nothing_is_left(node)


async def test_a_removal_that_only_pretends_is_found_out(node: VgpuNode) -> None:
    gi_id = await node.create()
    node.machine.pretend(REMOVE)

    with pytest.raises(VgpuError, match="is still there"):
        await node.driver.destroy(node.uuid, gi_id)

    assert len(node.machine.gpu_instances(0)) == 1


async def test_a_gpu_instance_that_stays_after_its_vgpu_is_destroyed_the_next_time(
    node: VgpuNode,
) -> None:
    gi_id = await node.create()
    node.machine.fail(NVML_DESTROY, IN_USE)

    with pytest.raises(InstanceInUse):
        await node.driver.destroy(node.uuid, gi_id)
    assert node.vgpus() == []
    await node.driver.destroy(node.uuid, gi_id)
    assert nothing_is_left(node)


async def test_nothing_is_made_on_a_gpu_without_virtual_functions(
    node_of: Callable[..., VgpuNode],
) -> None:
    node = node_of(functions=0)

    assert (await node.gpu()).unhealthy == SRIOV_DISABLED
    with pytest.raises(VgpuError, match="SR-IOV is not enabled"):
        await node.create()
    assert node.machine.calls(NVML_CREATE) == []


async def test_nothing_is_made_when_all_functions_are_taken(
    node_of: Callable[..., VgpuNode],
) -> None:
    node = node_of(functions=1)
    await node.create("a1", 0)

    with pytest.raises(VgpuError, match="no free virtual function offers the type"):
        await node.create("a2", 1)

    assert len(node.machine.gpu_instances(0)) == 1


async def test_a_taken_placement_is_refused_before_anything_is_touched(node: VgpuNode) -> None:
    gi_id = await node.create("a1")

    with pytest.raises(PlacementUnavailable):
        await node.create("a1")

    assert (await node.instance(gi_id)).device is not None


async def test_without_mig_mode_no_vgpu_is_begun(node: VgpuNode) -> None:
    await node.driver.discover()
    node.nvml.set_mig_mode(0, False)

    with pytest.raises(MigDisabled):
        await node.create()
    assert not node.record.exists()


async def test_a_resource_the_gpu_does_not_serve_is_refused(node: VgpuNode) -> None:
    with pytest.raises(VgpuError, match="no vGPU type of the GPU is asked for as"):
        await node.driver.create(
            node.uuid, node.type.profile_id, node.places()[0], Purpose("a1", "nvidia.com/x")
        )
    assert nothing_is_left(node)


async def test_a_type_that_shares_its_gpu_instance_is_refused_with_the_reason(
    node_of: Callable[..., VgpuNode],
) -> None:
    node = node_of("RTX-PRO-6000-Blackwell-96GB")
    gpu = await node.gpu()
    shared = next(each for each in gpu.vgpu_types if each.max_per_instance > 1)
    resource = "nvidia.com/" + "_".join(shared.name.split())
    place = gpu.geometry.by_id[shared.profile_id].placements[0]

    with pytest.raises(VgpuError, match="several vGPUs share a GPU instance: not supported yet"):
        await node.driver.create(node.uuid, shared.profile_id, place, Purpose("a1", resource))
    assert node.machine.calls(NVML_CREATE) == []


@pytest.mark.parametrize("text", ["garbled", "-1", "0x1", "1 2"])
async def test_a_garbled_gpu_instance_id_is_an_error_of_that_gpu_alone(
    node_of: Callable[..., VgpuNode], text: str
) -> None:
    node = node_of(gpus=2)
    await node.create("a1", gpu=0)
    node.sysfs.texts[gpu_instance_id_of(node)] = text
    await node.create("a2", gpu=1)

    one, two = (await node.driver.discover()).gpus

    assert str(gpu_instance_id_of(node)) in one.unhealthy
    assert "not a number" in one.unhealthy
    assert [(each.device, each.in_use) for each in one.instances] == [(None, True)]
    assert two.unhealthy == ""
    assert two.instances[0].device is not None
    with pytest.raises(InstanceInUse):
        await node.driver.destroy(one.uuid, one.instances[0].gi_id)
    with pytest.raises(VgpuError, match="not a number"):
        await node.create("a3", 1)

    node.sysfs.texts.clear()
    assert (await node.gpu()).instances[0].device is not None


@pytest.mark.parametrize("text", ["N/A", ""])
async def test_a_vgpu_whose_gpu_instance_is_not_told_is_in_none(node: VgpuNode, text: str) -> None:
    gi_id = await node.create()
    node.sysfs.texts[gpu_instance_id_of(node)] = text

    assert (await node.instance(gi_id)).device is None
    with pytest.raises(RivalCandidate):
        await node.create("a2", 1)
    assert len(node.vgpus()) == 1, "it may well be at home, and is no stray"

    await node.driver.destroy(node.uuid, gi_id)
    assert nothing_is_left(node)


async def test_processes_that_cannot_be_looked_into_are_told(node: VgpuNode) -> None:
    node.sysfs.refused[PurePosixPath("proc/1/fd")] = errno.EACCES

    with pytest.raises(NoPermission, match="look into /proc/1/fd"):
        await node.driver.discover()


async def test_a_stuck_write_is_noticed_and_what_it_did_is_found_in_the_end(
    node_of: Callable[..., VgpuNode],
) -> None:
    node = node_of(within=0.3)
    await node.driver.discover()
    node.machine.hang(CREATE, seconds=60)

    async def is_noticed() -> bool:
        try:
            await node.driver.discover()
        except DriverBusy:
            return True
        return False

    creating = asyncio.create_task(node.create())
    await until(is_noticed)
    assert not creating.done()

    node.machine.clear_faults()
    assert (await node.instance(await creating)).device is not None


async def test_a_record_that_cannot_be_written_stops_a_creation_before_it_begins(
    node: VgpuNode,
) -> None:
    node.record.parent.mkdir()
    node.record.with_name("vgpus.json.new").mkdir()

    with pytest.raises(VgpuError, match=r"write /.*/vgpus"):
        await node.create()

    assert node.machine.calls(NVML_CREATE) == []


async def test_a_lost_gpu_is_lost_for_vgpus_too(node: VgpuNode) -> None:
    gi_id = await node.create()
    node.machine.lose(0)

    assert "lost" in (await node.gpu()).unhealthy
    with pytest.raises(VgpuError, match="lost"):
        await node.create("a2", 1)
    with pytest.raises(GpuLost):
        await node.driver.destroy(node.uuid, gi_id)

    node.machine.lose(0, False)
    await node.restart()
    assert (await node.instance(gi_id)).device is not None
