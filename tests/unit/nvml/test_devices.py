from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.driver import DriverError, NotSupported
from nodeagent.nvml.device_files import MIG_MINORS, minors, of_mig_device
from tests.unit.nvml.node import Node

NodeOf = Callable[..., Node]

FIRST = Placement(0, 1)


@pytest.mark.parametrize("model", MODELS)
async def test_each_profiles_gpu_instance_has_a_mig_device(node_of: NodeOf, model: str) -> None:
    node = node_of(model)
    gpu = await node.gpu()
    for profile in gpu.geometry.profiles:
        gi_id = await node.driver.create(gpu.uuid, profile.id, profile.placements[0])

        (found,) = (await node.gpu()).instances

        assert found.device
        assert found.device.id == node.machine.mig_uuid(0, gi_id, 0)
        await node.driver.destroy(gpu.uuid, gi_id)


async def test_a_devices_files_are_those_of_its_gpu_its_gpu_instance_and_its_compute_instance(
    node_of: NodeOf,
) -> None:
    node = node_of(gpus=2)
    _, second = (await node.driver.discover()).gpus
    await node.driver.create(second.uuid, 19, Placement(3, 1))

    (found,) = (await node.gpu(1)).instances

    # Line 3 of the table is gpu0/gi0/access, with nine lines for each GPU instance, fifteen a GPU.
    of_gpu_instance = 3 + 9 * (15 * 1 + found.gi_id)
    assert found.device
    assert found.device.nodes == (
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia1",
        f"/dev/nvidia-caps/nvidia-cap{of_gpu_instance}",
        f"/dev/nvidia-caps/nvidia-cap{of_gpu_instance + 1}",
    )


async def test_without_its_compute_instance_there_is_no_device(node_of: NodeOf) -> None:
    node = node_of()
    node.machine.create_gpu_instance(0, 9, Placement(0, 4))

    (found,) = (await node.gpu()).instances

    assert found.device is None


@pytest.mark.parametrize(
    ("model", "profile_id", "placement", "compute_profile"),
    [
        ("H100-80GB", 9, Placement(0, 4), 0),  # one slice of three
        ("H100-80GB", 15, Placement(0, 2), 0),  # all slices, not all multiprocessors
    ],
)
async def test_a_compute_instance_that_has_not_all_of_its_gpu_instance_is_no_device(
    node_of: NodeOf, model: str, profile_id: int, placement: Placement, compute_profile: int
) -> None:
    node = node_of(model)
    gi_id = node.machine.create_gpu_instance(0, profile_id, placement)
    node.machine.create_compute_instance(0, gi_id, compute_profile)

    (found,) = (await node.gpu()).instances

    assert found.device is None


async def test_a_full_compute_instance_of_somebody_else_is_a_device(node_of: NodeOf) -> None:
    node = node_of()
    gi_id = node.machine.create_gpu_instance(0, 15, Placement(2, 2))
    ci_id = node.machine.create_compute_instance(0, gi_id, 7)

    (found,) = (await node.gpu()).instances

    assert found.device
    assert found.device.id == node.machine.mig_uuid(0, gi_id, ci_id)


@pytest.mark.parametrize("mode", [Mode.VGPU_MDEV, Mode.VGPU_VFIO, Mode.HARVESTER])
async def test_where_vgpus_are_handed_out_mig_devices_are_not_looked_for(
    node_of: NodeOf, mode: Mode
) -> None:
    node = node_of(mode=mode)
    node.machine.create_gpu_instance(0, 19, FIRST)

    (found,) = (await node.gpu()).instances

    assert found.device is None
    assert node.machine.calls("nvmlGpuInstanceGetComputeInstances") == []


async def test_where_the_kernel_does_not_tell_device_files_nothing_is_placed(
    node_of: NodeOf,
) -> None:
    node = node_of()
    (node.root / MIG_MINORS).unlink()
    await node.driver.discover()

    assert (await node.gpu()).unhealthy == (
        f"/{MIG_MINORS}: the device files of GPU instances are not told (NVML error 3): "
        "No such file or directory"
    )


async def test_without_device_files_what_exists_is_not_said_to_be_incomplete(
    node_of: NodeOf,
) -> None:
    node = node_of()
    gpu = await node.gpu()
    await node.driver.create(gpu.uuid, 19, FIRST)
    (node.root / MIG_MINORS).write_text("config 1\nmonitor 2\n")

    gpu = await node.gpu()

    # An incomplete one would be destroyed and made anew.
    assert gpu.instances == ()
    assert gpu.unhealthy.endswith("(NVML error 999): gpu0/gi1/access")


async def test_a_gpu_instance_that_goes_while_it_is_looked_at_is_gone(node_of: NodeOf) -> None:
    node = node_of()
    await node.driver.discover()
    node.machine.create_gpu_instance(0, 19, FIRST)
    node.machine.fail("nvmlGpuInstanceGetInfo", 2)  # as for a stale handle

    gpu = await node.gpu()

    assert (len(gpu.instances), gpu.unhealthy) == (1, "")


def test_the_profilers_file_is_added_where_it_exists(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia-uvm-tools").touch()
    known = {"gi1/access", "gi1/ci0/access"}

    files = of_mig_device(tmp_path, dict.fromkeys(known, 7), gpu=0, gi_id=1, ci_id=0)

    assert files[:3] == ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")


def test_capabilities_are_those_of_the_gpu_alone(tmp_path: Path) -> None:
    path = tmp_path / MIG_MINORS
    path.parent.mkdir(parents=True)
    path.write_text("config 1\nmonitor 2\ngpu1/gi0/access 3\ngpu1/gi0/ci0/access 4\n")
    path.write_text(path.read_text() + "gpu11/gi0/access 5\n")

    assert minors(tmp_path, 1) == {"gi0/access": 3, "gi0/ci0/access": 4}
    assert minors(tmp_path, 0) == {}


def test_a_table_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / MIG_MINORS
    path.parent.mkdir(parents=True)
    path.write_text("gpu0/gi0/access three\n")

    with pytest.raises(DriverError, match="not a table of capabilities"):
        minors(tmp_path, 0)
    path.unlink()
    with pytest.raises(NotSupported):
        minors(tmp_path, 0)
