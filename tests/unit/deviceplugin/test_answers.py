from __future__ import annotations

import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.deviceplugin.answers import answer, variable
from tests.unit.deviceplugin.node import MIG, SMALL, device, slot

GROUP_7, GROUP_8 = ("/dev/vfio/vfio", "/dev/vfio/7"), ("/dev/vfio/vfio", "/dev/vfio/8")


@pytest.mark.parametrize(
    ("mode", "resource", "name"),
    [
        (Mode.VGPU_VFIO, SMALL, "PCI_RESOURCE_NVIDIA_COM_NVIDIA_H100XM-1-10C"),
        (Mode.VGPU_MDEV, SMALL, "MDEV_PCI_RESOURCE_NVIDIA_COM_NVIDIA_H100XM-1-10C"),
        (Mode.VGPU_MDEV, "a.b/c.d/e", "MDEV_PCI_RESOURCE_A_B_C_D_E"),
    ],
)
def test_a_launcher_finds_its_devices_in_kubevirts_variable(
    mode: Mode, resource: str, name: str
) -> None:
    assert variable(mode, resource) == name


@pytest.mark.parametrize("mode", [Mode.VGPU_VFIO, Mode.VGPU_MDEV])
def test_a_vm_is_given_its_devices_in_order_and_each_device_file_once(mode: Mode) -> None:
    given = answer(mode, SMALL, {slot(3): device(3, *GROUP_7), slot(1): device(1, *GROUP_8)})

    assert list(given.envs.values()) == ["0000:41:00.3,0000:41:00.1"]
    assert given.nodes == ("/dev/vfio/vfio", "/dev/vfio/7", "/dev/vfio/8")
    assert given.cdi_devices == ()


def test_a_container_is_given_cdi_devices_by_the_names_of_its_slots() -> None:
    given = answer(Mode.CONTAINER, MIG, {"mig-1g.10gb-3": device(3, "/dev/nvidia0")})

    assert given.cdi_devices == ("tangram.dev/gpu-instance=mig-1g.10gb-3",)
    assert not given.envs
    assert not given.nodes
