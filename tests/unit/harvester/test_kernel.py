"""The kernel's interface is the one it shows, though it showed another one before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.harvester.kernel import Kernel
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.nvml.machine import Machine
from tests.fakes.pcidevices.site import machine
from tests.fakes.sysfs import kernel as fake
from tests.fakes.sysfs.tree import FakeSysfs, function_address, gpu_address

KIND = "NVIDIA A100X-1-5C"
MDEV = "6a4d6b9e-8a3c-4c0e-9c39-0d8d2d8d7a01"


@pytest.fixture
def gpus(tmp_path: Path) -> Iterator[Machine]:
    shared = next(each for each in tmp_path.parents if each.name.startswith("pytest-"))
    gpus = machine(tmp_path, built_for_tests(shared / "fake-nvml"), "A100-40GB", node="node-1")
    yield gpus
    gpus.close()


def test_an_upgrade_from_mediated_devices_to_vendor_vfio_is_seen_without_a_restart(
    tmp_path: Path, gpus: Machine
) -> None:
    theirs = fake.Kernel(gpus)
    sysfs = FakeSysfs(tmp_path, theirs, Mode.VGPU_MDEV)
    kernel = Kernel(sysfs)
    number = theirs.types(0)[KIND]

    def vgpu(uuid: str) -> None:
        theirs.enable_functions(0, 4)
        gpus.create_gpu_instance(0, 19, Placement(3, 1))
        theirs.create(0, 2, number, uuid)

    def seen() -> tuple[int, list[str]]:
        found, _ = kernel.look({"GPU": gpu_address(0)})
        assert found["GPU"].trouble == ""
        return found["GPU"].functions, [each.id for each in found["GPU"].vgpus]

    vgpu(MDEV)
    assert seen() == (4, [MDEV])

    gpus.reboot()
    sysfs.upgrade()
    assert seen() == (0, [])
    vgpu("")
    assert seen() == (4, [function_address(0, 2)])
