"""What a container is given with its slots, by the way the node hands GPU instances out.

A VM's launcher reads KubeVirt's environment (`docs/devel/host-devices-and-device-plugins.md` of
kubevirt/kubevirt): one variable for each resource, the devices' names joined by commas, and needs
their VFIO device files. A container is given CDI devices (see ``cdi``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from nodeagent.api.gpunode import Mode
from nodeagent.deviceplugin import cdi
from nodeagent.kubelet import Device

PREFIXES: Final = {Mode.VGPU_MDEV: "MDEV_PCI_RESOURCE", Mode.VGPU_VFIO: "PCI_RESOURCE"}
"""Of the variable's name; its value is mediated devices' UUIDs or PCI addresses."""


class Answer(msgspec.Struct, frozen=True):
    """Environment, device files and qualified CDI device names."""

    envs: Mapping[str, str] = {}
    nodes: tuple[str, ...] = ()
    cdi_devices: tuple[str, ...] = ()


def answer(mode: Mode, resource: str, devices: Mapping[str, Device]) -> Answer:
    """Return what goes with *devices*, by slot and in the order a VM shall see them."""
    if mode is Mode.CONTAINER:
        return Answer(cdi_devices=tuple(cdi.qualified(slot) for slot in devices))
    return Answer(
        envs={variable(mode, resource): ",".join(each.id for each in devices.values())},
        nodes=tuple(dict.fromkeys(node for each in devices.values() for node in each.nodes)),
    )


def variable(mode: Mode, resource: str) -> str:
    """Return the environment variable in which a launcher looks for *resource*.

    Hyphens stay, although no shell could name such a variable.

    >>> variable(Mode.VGPU_VFIO, "nvidia.com/NVIDIA_A100-1-5C")
    'PCI_RESOURCE_NVIDIA_COM_NVIDIA_A100-1-5C'
    """
    return f"{PREFIXES[mode]}_{resource.upper().replace('/', '_').replace('.', '_')}"
