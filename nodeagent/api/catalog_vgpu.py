"""The MIG-backed vGPU types of known boards, each with the one profile that backs it.

A board's driver names its types ``<board>-<compute slices>-<gigabytes><series>``: C for compute,
Q for workstations, A for applications, B for desktops; a trailing ME asks for the media engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

from nodeagent.api.catalog_sources import DOCUMENTED, REPORTED, Source
from nodeagent.api.gpunode import VgpuType


class Board(msgspec.Struct, frozen=True):
    """The vGPU types of one board, in the order of NVIDIA's tables, and where they come from."""

    types: tuple[VgpuType, ...]
    source: Source


def _eight_slices(
    prefix: str, full: int, half: int, quarter: int, eighth: int, *sources: str
) -> Board:
    """Return the types of a board with eight memory slices, from the gigabytes in their names."""
    types = (
        VgpuType(f"NVIDIA {prefix}-7-{full}C", profile_id=0),
        VgpuType(f"NVIDIA {prefix}-4-{half}C", profile_id=5),
        VgpuType(f"NVIDIA {prefix}-3-{half}C", profile_id=9),
        VgpuType(f"NVIDIA {prefix}-2-{quarter}C", profile_id=14),
        VgpuType(f"NVIDIA {prefix}-1-{quarter}C", profile_id=15),
        VgpuType(f"NVIDIA {prefix}-1-{eighth}C", profile_id=19),
        VgpuType(f"NVIDIA {prefix}-1-{eighth}CME", profile_id=20),
    )
    return Board(types, Source(DOCUMENTED, sources))


def _a30() -> Board:
    types = (
        VgpuType("NVIDIA A30-4-24C", profile_id=0),
        VgpuType("NVIDIA A30-2-12C", profile_id=5),
        VgpuType("NVIDIA A30-2-12CME", profile_id=6),
        VgpuType("NVIDIA A30-1-6C", profile_id=14),
        VgpuType("NVIDIA A30-1-6CME", profile_id=21),
    )
    return Board(types, Source(DOCUMENTED, ("aie-6",)))


def _rtx_pro_6000() -> Board:
    # Only +gfx profiles carry vGPUs. Q types are in both sources, C types in vgpu-dm alone, A and
    # B types in rtx6000-types alone.
    # slices, profile id, gigabytes of a whole GPU instance, then the series of each size
    table: tuple[tuple[int, int, int, dict[int, str]], ...] = (
        (4, 32, 96, {96: "QCA", 48: "QCA", 32: "QCA", 24: "QCA"}),
        (2, 35, 48, {48: "QCA", 24: "QCA", 16: "QCA", 12: "QCA"}),
        (1, 47, 24, {24: "QCA", 12: "QCA", 8: "QCA", 6: "QA", 4: "QA", 3: "QAB", 2: "QAB"}),
    )

    def types() -> Iterator[VgpuType]:
        for slices, profile_id, whole, sizes in table:
            for size, series in sizes.items():
                for letter in series:
                    name = f"NVIDIA RTX Pro 6000 Blackwell DC-{slices}-{size}{letter}"
                    yield VgpuType(name, profile_id, max_per_instance=whole // size)

    return Board(tuple(types()), Source(REPORTED, ("rtx6000-types", "vgpu-dm")))


# For each model its boards, the one that a simulated GPU is first. Of Grace Hopper, B200 and their
# kin no MIG-backed types are published.
BOARDS: Mapping[str, Mapping[str, Board]] = MappingProxyType(
    {
        "A100-40GB": {
            "A100 HGX 40GB": _eight_slices("A100X", 40, 20, 10, 5, "aie-6"),
            "A100 PCIe 40GB": _eight_slices("A100", 40, 20, 10, 5, "aie-6"),
            "A800 PCIe 40GB": _eight_slices("A800", 40, 20, 10, 5, "aie-6"),
        },
        "A100-80GB": {
            "A100 HGX 80GB": _eight_slices("A100DX", 80, 40, 20, 10, "aie-6"),
            "A100 PCIe 80GB / A100X": _eight_slices("A100D", 80, 40, 20, 10, "aie-6"),
            "A800 HGX 80GB": _eight_slices("A800DX", 80, 40, 20, 10, "aie-6"),
            "A800 PCIe 80GB / AX800": _eight_slices("A800D", 80, 40, 20, 10, "aie-6"),
        },
        "A30-24GB": {
            "A30 / A30X": _a30(),
        },
        "H100-80GB": {
            "H100 SXM5 80GB": _eight_slices("H100XM", 80, 40, 20, 10, "aie-6", "aie-7"),
            "H100 PCIe 80GB": _eight_slices("H100", 80, 40, 20, 10, "aie-6", "aie-7"),
            "H800 SXM5 80GB": _eight_slices("H800XM", 80, 40, 20, 10, "aie-6", "aie-7"),
            "H800 PCIe 80GB": _eight_slices("H800", 80, 40, 20, 10, "aie-6", "aie-7"),
        },
        "H100-94GB": {
            "H100 NVL 94GB": _eight_slices("H100L", 94, 47, 24, 12, "aie-6", "aie-7"),
            "H100 SXM5 94GB": _eight_slices("H100XL", 94, 47, 24, 12, "aie-6", "aie-7"),
            "H800 NVL 94GB": _eight_slices("H800L", 94, 47, 24, 12, "aie-6", "aie-7"),
        },
        "H100-96GB": {
            "H20 SXM5 96GB": _eight_slices("H20", 96, 48, 24, 12, "aie-7"),
        },
        "H200-141GB": {
            "H200 SXM5 141GB": _eight_slices("H200X", 141, 71, 35, 18, "aie-6", "aie-7"),
            "H200 NVL 141GB": _eight_slices("H200", 141, 71, 35, 18, "aie-6", "aie-7"),
            "H20 SXM5 141GB": _eight_slices("H20X", 141, 71, 35, 18, "aie-7"),
        },
        "RTX-PRO-6000-Blackwell-96GB": {
            "RTX PRO 6000 Blackwell Server Edition": _rtx_pro_6000(),
        },
    }
)
