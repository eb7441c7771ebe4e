"""Where the catalog's figures come from, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec


class Certainty(StrEnum):
    """How a figure became known."""

    LISTED = "hardware listing"  # printed by nvidia-smi or NVML on such a GPU
    DOCUMENTED = "vendor document"  # NVIDIA says so; not seen on hardware
    REPORTED = "reported"  # a third party's transcription, or an example configuration
    INFERRED = "inferred"  # by analogy with another model; to be checked on hardware


LISTED, DOCUMENTED, REPORTED, INFERRED = Certainty


class Source(msgspec.Struct, frozen=True):
    """The certainty of a figure, and the keys of :data:`SOURCES` under which it was found."""

    certainty: Certainty
    keys: tuple[str, ...]


def listed(*keys: str) -> Source:
    """Return the source of a figure printed by such a GPU."""
    return Source(LISTED, keys)


def documented(*keys: str) -> Source:
    """Return the source of a figure NVIDIA gives."""
    return Source(DOCUMENTED, keys)


def inferred(*keys: str) -> Source:
    """Return the source of a figure deduced from another model's."""
    return Source(INFERRED, keys)


SOURCES: Mapping[str, str] = MappingProxyType(
    {
        # NVIDIA's documents and projects
        "guide": "NVIDIA MIG User Guide, tables of supported profiles",
        "guide-lgipp": "NVIDIA MIG User Guide, sample output of nvidia-smi mig -lgipp on an A100",
        "names": "NVIDIA/open-gpu-kernel-modules README.md, table of compatible GPUs",
        "mig-parted": "NVIDIA/mig-parted@bd7160f deployments/systemd/config-default.yaml",
        "gonvml-a100": "NVIDIA/go-nvml@2f9e261 pkg/nvml/mock/gpus/a100.go",
        "gonvml-a30": "NVIDIA/go-nvml@2f9e261 pkg/nvml/mock/gpus/a30.go",
        "aie-6": "NVIDIA AI Enterprise 6 documentation, appendix on vGPU types",
        "aie-7": "NVIDIA AI Enterprise 7 documentation, vGPU types of Hopper",
        "vgpu-dm": "NVIDIA/vgpu-device-manager@acb7270 examples/config-example.yaml",
        # Output of nvidia-smi, as published by those who own such a GPU
        "a100-40": "harvester/pcidevices@v1.7.1 pkg/util/gpuhelper/mig_test.go, an A100 PCIe 40GB",
        "a100-80": "profile listing of an A100 80GB in public notes",
        "a30": "profile and placement listing of an A30, driver 535.183; two more profile listings",
        "h100-80-sxm": "full profile listing of an H100 SXM 80GB, jbarrow.ai field notes, 2026-06",
        "h100-80-pcie": "full profile listing of an H100 PCIe, driver 570.169, tutorial of 2025-08",
        "h100-80-placed": "placement listing of an H100 in GoogleCloudDataproc's"
        " initialization-actions, 2024-12",
        "h100-94": "profile and placement listing of an H100 NVL, driver 560.35.03, Azure"
        " walkthrough; also NVIDIA/gpu-operator#900 and #903",
        "h100-94-host": "harvester/pcidevices@v1.7.1 pkg/util/gpuhelper/mig_test.go, an H100 94GB",
        "gh200-96": "profile listing of a GH200 96GB in public notes on Slurm and MIG",
        "h200": "NVIDIA/mig-parted#120, profile listing of an H200",
        "b200": "NVIDIA/mig-parted#166 and #187, NVIDIA/gpu-operator#1242 and #1351: listings of"
        " a B200 without its 3g, 4g and 7g rows",
        "rtx6000": "full profile and placement listing of an RTX PRO 6000 Blackwell Server"
        " Edition, driver 610.43.02, article of 2026-07",
        "rtx6000-types": "transcription of NVIDIA's vGPU types of the RTX PRO 6000 Blackwell"
        " Server Edition; counts agree with bigstack-oss/cubecos",
    }
)
