"""The names Harvester gives, spelled here a second time so that nothing checks itself."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from nodeagent.apiserver.protocol import Kind

GROUP: Final = "devices.harvesterhci.io"
API_VERSION: Final = f"{GROUP}/v1beta1"

SRIOV_GPUS: Final = Kind(GROUP, "v1beta1", "sriovgpudevices", namespaced=False)
VGPUS: Final = Kind(GROUP, "v1beta1", "vgpudevices", namespaced=False)
MIG_CONFIGURATIONS: Final = Kind(GROUP, "v1beta1", "migconfigurations", namespaced=False)
PCI_DEVICES: Final = Kind(GROUP, "v1beta1", "pcidevices", namespaced=False)
PCI_CLAIMS: Final = Kind(GROUP, "v1beta1", "pcideviceclaims", namespaced=False)
KUBEVIRTS: Final = Kind("kubevirt.io", "v1", "kubevirts", namespaced=True)
VMS: Final = Kind("kubevirt.io", "v1", "virtualmachines", namespaced=True)
VMIS: Final = Kind("kubevirt.io", "v1", "virtualmachineinstances", namespaced=True)
KINDS: Final = (
    SRIOV_GPUS,
    VGPUS,
    MIG_CONFIGURATIONS,
    PCI_DEVICES,
    PCI_CLAIMS,
    KUBEVIRTS,
    VMS,
    VMIS,
)
"""What an API server has to serve for a Harvester cluster, beyond Kubernetes' own."""

NODE_LABEL: Final = "nodename"
PARENT_LABEL: Final = "harvesterhci.io/parentSRIOVGPUDevice"
ALLOCATION: Final = "harvesterhci.io/deviceAllocationDetails"
"""Annotation on a VirtualMachine: which devices its VMI was given when it last ran."""
OVERRIDE: Final = "pcidevice.harvesterhci.io/override-resource-name"
SKIP_BINDING: Final = "pcidevices.harvesterhci.io/skip-vfio-binding"

KUBEVIRT_NAMESPACE: Final = "harvester-system"
KUBEVIRT: Final = "kubevirt"

CONFIGURED: Final = "vGPUConfigured"
SYNCED, OUT_OF_SYNC, DISABLED = "synced", "out-of-sync", "disabled"


class Version(StrEnum):
    """Harvester's, as far as vGPUs differ: 1.7 has mediated devices, 1.8 vendor VFIO."""

    V1_7 = "1.7"
    V1_8 = "1.8"


def device_name(node: str, address: str) -> str:
    """Return the name of the object of a PCI device.

    >>> device_name("harvester-kgd9c", "0000:08:00.0")
    'harvester-kgd9c-000008000'
    """
    return f"{node}-{re.sub('[:.]', '', address)}"


def resource_name(vgpu_type: str) -> str:
    """Return the resource of a vGPU type.

    >>> resource_name("NVIDIA A100-1-5C")
    'nvidia.com/NVIDIA_A100-1-5C'
    """
    return "nvidia.com/" + re.sub(r"\s+", "_", re.sub("[/.]", "_", vgpu_type.strip()))


def variable(version: Version, resource: str) -> str:
    """Return the environment variable in which a launcher finds its devices of *resource*.

    >>> variable(Version.V1_7, "nvidia.com/NVIDIA_A2-4Q")
    'MDEV_PCI_RESOURCE_NVIDIA_COM_NVIDIA_A2-4Q'
    """
    prefix = "MDEV_PCI_RESOURCE" if version is Version.V1_7 else "PCI_RESOURCE"
    return f"{prefix}_{re.sub('[/.]', '_', resource.upper())}"
