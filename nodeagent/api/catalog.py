"""The GPU models known without asking a driver: for simulation, for tests, for comparison.

Nothing is ever decided about a real GPU from this table: what its driver reports counts. Profile
ids and placements were the same in every listing of a model, while names and memory change with
the driver's version and mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType

import msgspec

from nodeagent.api.catalog_sources import Source, documented, inferred, listed
from nodeagent.api.catalog_vgpu import BOARDS, Board
from nodeagent.api.geometry import Geometry, Profile
from nodeagent.api.gpunode import VgpuType


class Row(msgspec.Struct, frozen=True):
    """A profile, the source of its name, id, count and memory, and that of its placements."""

    profile: Profile
    source: Source
    placement_source: Source


class Model(msgspec.Struct, frozen=True, dict=True):
    """A GPU model: a row for each profile in the driver's order, and the boards it is sold as.

    ``nvml_names`` are what ``nvmlDeviceGetName`` answers, from the source "names". ``boards`` are
    those whose vGPU types are known; a simulated GPU is the first of them.
    """

    name: str
    memory_slices: int
    compute_slices: int
    rows: tuple[Row, ...]
    nvml_names: tuple[str, ...]
    boards: Mapping[str, Board]

    @cached_property
    def geometry(self) -> Geometry:
        """What the driver of such a GPU allows."""
        profiles = tuple(row.profile for row in self.rows)
        return Geometry(self.memory_slices, self.compute_slices, profiles)

    @property
    def vgpu_types(self) -> tuple[VgpuType, ...]:
        """The vGPU types of the first board; none where none are known."""
        return next((board.types for board in self.boards.values()), ())


class _Share(msgspec.Struct, frozen=True):
    """A fraction of a GPU's memory: the gigabytes in its profiles' names, and its real size."""

    gigabytes: int
    mib: int | None
    source: Source


def _eight_slices(
    name: str,
    *nvml_names: str,
    eighth: _Share,
    quarter: _Share,
    half: _Share,
    full: _Share,
    placed: Source,
) -> Model:
    """Return a model with eight memory slices; they all share this one table of placements."""
    table: tuple[tuple[_Share, Profile], ...] = (
        # id, name, compute slices, memory slices, starts, how many at most
        (eighth, Profile(19, "1g.{}gb", 1, 1, (0, 1, 2, 3, 4, 5, 6), 7)),
        (eighth, Profile(20, "1g.{}gb+me", 1, 1, (0, 1, 2, 3, 4, 5, 6), 1)),
        (quarter, Profile(15, "1g.{}gb", 1, 2, (0, 2, 4, 6), 4)),
        (quarter, Profile(14, "2g.{}gb", 2, 2, (0, 2, 4), 3)),
        (half, Profile(9, "3g.{}gb", 3, 4, (0, 4), 2)),
        (half, Profile(5, "4g.{}gb", 4, 4, (0,), 1)),
        (full, Profile(0, "7g.{}gb", 7, 8, (0,), 1)),
    )
    rows = tuple(
        Row(
            msgspec.structs.replace(
                profile, name=profile.name.format(share.gigabytes), memory_mib=share.mib
            ),
            share.source,
            placed,
        )
        for share, profile in table
    )
    return Model(name, 8, 7, rows, nvml_names, BOARDS.get(name, {}))


def _a100_40gb() -> Model:
    source = listed("a100-40", "guide", "mig-parted")
    return _eight_slices(
        "A100-40GB",
        "NVIDIA A100-PCIE-40GB",
        "NVIDIA A100-SXM4-40GB",
        "NVIDIA A800-SXM4-40GB",
        "NVIDIA A800 40GB Active",
        eighth=_Share(5, 4864, source),
        quarter=_Share(10, 9984, source),
        half=_Share(20, 20096, source),
        full=_Share(40, 40448, source),
        placed=documented("guide-lgipp", "gonvml-a100"),
    )


def _a100_80gb() -> Model:
    source = listed("a100-80", "guide", "mig-parted")
    return _eight_slices(
        "A100-80GB",
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA A100 80GB PCIe",
        "NVIDIA A800-SXM4-80GB",
        "NVIDIA A800 80GB PCIe",
        eighth=_Share(10, 9728, source),
        quarter=_Share(20, 19968, source),
        half=_Share(40, 40192, source),
        full=_Share(80, 80896, source),
        placed=inferred("gonvml-a100", "guide-lgipp"),
    )


def _a30_24gb() -> Model:
    source = listed("a30", "guide")
    placed = listed("a30", "gonvml-a30")
    profiles = (
        # id, name, compute slices, memory slices, starts, how many at most, MiB
        Profile(14, "1g.6gb", 1, 1, (0, 1, 2, 3), 4, 5952),
        Profile(21, "1g.6gb+me", 1, 1, (0, 1, 2, 3), 1, 5952),
        Profile(5, "2g.12gb", 2, 2, (0, 2), 2, 11968),
        Profile(6, "2g.12gb+me", 2, 2, (0, 2), 1, 11968),
        Profile(0, "4g.24gb", 4, 4, (0,), 1, 24000),
    )
    rows = tuple(Row(profile, source, placed) for profile in profiles)
    return Model("A30-24GB", 4, 4, rows, ("NVIDIA A30",), BOARDS["A30-24GB"])


def _h100_80gb() -> Model:
    source = listed("h100-80-sxm", "h100-80-pcie", "guide")
    return _eight_slices(
        "H100-80GB",
        "NVIDIA H100 80GB HBM3",
        "NVIDIA H100 PCIe",
        "NVIDIA H800",
        "NVIDIA H800 PCIe",
        eighth=_Share(10, 9984, source),
        quarter=_Share(20, 20096, source),
        half=_Share(40, 40448, source),
        full=_Share(80, 81152, source),
        placed=listed("h100-80-placed"),
    )


def _h100_94gb() -> Model:
    source = listed("h100-94", "h100-94-host", "guide")
    return _eight_slices(
        "H100-94GB",
        "NVIDIA H100 NVL",
        "NVIDIA H800 NVL",
        eighth=_Share(12, 11008, source),
        quarter=_Share(24, 22144, source),
        half=_Share(47, 47488, source),
        full=_Share(94, 95360, source),
        placed=listed("h100-94"),
    )


def _h100_96gb() -> Model:
    # The figures are those of Grace Hopper; the H20 shares the names, its memory was not seen.
    source = listed("gh200-96", "guide", "mig-parted")
    return _eight_slices(
        "H100-96GB",
        "NVIDIA GH200 480GB",
        "NVIDIA GH200 120GB",
        "NVIDIA H20",
        eighth=_Share(12, 11264, source),
        quarter=_Share(24, 23552, source),
        half=_Share(48, 47616, source),
        full=_Share(96, 95232, source),
        placed=inferred("h100-80-placed", "h100-94"),
    )


def _h200_141gb() -> Model:
    source = listed("h200", "guide")
    return _eight_slices(
        "H200-141GB",
        "NVIDIA H200",
        "NVIDIA H200 NVL",
        eighth=_Share(18, 16384, source),
        quarter=_Share(35, 33024, source),
        half=_Share(71, 71168, source),
        full=_Share(141, 143104, source),
        placed=inferred("h100-80-placed", "h100-94"),
    )


def _b200_180gb() -> Model:
    # No listing shows the larger profiles: their ids are by analogy, their memory is unknown.
    small, large = listed("b200", "guide"), documented("guide", "mig-parted")
    return _eight_slices(
        "B200-180GB",
        "NVIDIA B200",
        eighth=_Share(23, 22528, small),
        quarter=_Share(45, 45312, small),
        half=_Share(90, None, large),
        full=_Share(180, None, large),
        placed=inferred("guide"),
    )


def _rtx_pro_6000() -> Model:
    name = "RTX-PRO-6000-Blackwell-96GB"
    source, placed = listed("rtx6000", "guide"), listed("rtx6000")
    profiles = (
        # id, name, compute slices, memory slices, starts, how many at most, MiB
        Profile(14, "1g.24gb", 1, 3, (0, 3, 6, 9), 4, 24192),
        Profile(21, "1g.24gb+me", 1, 3, (0, 3, 6, 9), 1, 24192),
        Profile(47, "1g.24gb+gfx", 1, 3, (0, 3, 6, 9), 4, 24192),
        Profile(65, "1g.24gb+me.all", 1, 3, (0, 3, 6, 9), 1, 24192),
        Profile(67, "1g.24gb-me", 1, 3, (0, 3, 6, 9), 4, 24192),
        Profile(5, "2g.48gb", 2, 6, (0, 6), 2, 48512),
        Profile(35, "2g.48gb+gfx", 2, 6, (0, 6), 2, 48512),
        Profile(64, "2g.48gb+me.all", 2, 6, (0, 6), 1, 48512),
        Profile(66, "2g.48gb-me", 2, 6, (0, 6), 2, 48512),
        Profile(0, "4g.96gb", 4, 12, (0,), 1, 97408),
        Profile(32, "4g.96gb+gfx", 4, 12, (0,), 1, 97408),
    )
    nvml_names = (
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
    )
    rows = tuple(Row(profile, source, placed) for profile in profiles)
    return Model(name, 12, 4, rows, nvml_names, BOARDS[name])


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        model.name: model
        for model in (
            _a100_40gb(),
            _a100_80gb(),
            _a30_24gb(),
            _h100_80gb(),
            _h100_94gb(),
            _h100_96gb(),
            _h200_141gb(),
            _b200_180gb(),
            _rtx_pro_6000(),
        )
    }
)
