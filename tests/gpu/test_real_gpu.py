"""The read-only part of the drivers' exam, on the GPUs of the machine that runs the tests.

It changes nothing, and is skipped unless ``TANGRAM_GPU=1`` asks for it. Where the driver is in a
container, ``TANGRAM_GPU_ROOT`` is its root::

    TANGRAM_GPU=1 pytest tests/gpu -rs -s
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.driver import DriverError, Host, LibraryNotFound, LiveGpu
from nodeagent.nvml import Location
from tests.gpu import read_only

LOCATION = Location(root=Path(root) if (root := os.environ.get("TANGRAM_GPU_ROOT")) else None)


@pytest.fixture(scope="module")
def host() -> Host:
    if os.environ.get("TANGRAM_GPU") != "1":
        pytest.skip("the GPUs of this machine are only looked at if TANGRAM_GPU=1")
    try:
        return asyncio.run(read_only.look(LOCATION, Mode.VGPU_VFIO))
    except LibraryNotFound as error:
        pytest.skip(f"this machine has no NVIDIA driver: {error}")


def test_every_gpu_is_told_of(host: Host) -> None:
    read_only.check_host(host)


def test_known_models_are_as_the_catalog_has_them(host: Host) -> None:
    if not read_only.check_against_catalog(host):
        names = ", ".join(sorted({gpu.model for gpu in host.gpus}))
        pytest.skip(f"no GPU here is a model of the catalog with MIG: {names}")


def test_the_inventory_command_tells_the_same(host: Host) -> None:
    print(read_only.table(LOCATION))
    read_only.check_inventory(read_only.inventory(LOCATION), host)


def test_mig_devices_are_told_with_their_files(host: Host) -> None:
    try:
        found = asyncio.run(read_only.look(LOCATION, Mode.CONTAINER))
    except DriverError as error:
        pytest.fail(f"in container mode the driver cannot be asked: {error}")
    devices = [each.device for gpu in found.gpus for each in gpu.instances if each.device]
    if not devices:
        pytest.skip("no GPU here has a GPU instance with a compute instance of its size")
    for device in devices:
        assert device.id.startswith("MIG-")
        missing = [file for file in device.nodes if not Path(file).exists()]
        assert missing == []


def test_nothing_was_changed(host: Host) -> None:
    after = asyncio.run(read_only.look(LOCATION, Mode.VGPU_VFIO))

    assert [unused(gpu) for gpu in after.gpus] == [unused(gpu) for gpu in host.gpus]


def unused(gpu: LiveGpu) -> LiveGpu:
    """Return the GPU as if nobody used it: that may change meanwhile."""
    idle = tuple(msgspec.structs.replace(each, in_use=False) for each in gpu.instances)
    return msgspec.structs.replace(gpu, instances=idle)
