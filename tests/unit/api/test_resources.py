"""Which extended resources are ours, and what each means on each GPU."""

from __future__ import annotations

import pytest

from nodeagent.api import resources
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Mode, VgpuType

# Boards of which no MIG table is known are not in the catalog; their names are ours all the same.
H100_64GB = [
    f"NVIDIA H100XS-{each}"
    for each in ("7-64C", "4-32C", "3-32C", "2-16C", "1-16C", "1-8C", "1-8CME")
]
TYPE_NAMES = [
    vgpu.name
    for model in MODELS.values()
    for board in model.boards.values()
    for vgpu in board.types
] + H100_64GB


def served(model: str, mode: Mode, board: str | None = None) -> dict[str, tuple[str, int]]:
    """Map each resource that a GPU of *model* serves to its profile's name and memory slices."""
    known = MODELS[model]
    types = known.vgpu_types if board is None else known.boards[board].types
    found = resources.served(mode, known.geometry, types)
    profiles = known.geometry.by_id
    return {name: (profiles[id_].name, profiles[id_].size) for name, id_ in found.items()}


def test_a_profile_s_name_is_resolved_per_gpu() -> None:
    mig = "nvidia.com/mig-1g.10gb"
    a100_40, a100_80 = MODELS["A100-40GB"].geometry, MODELS["A100-80GB"].geometry
    small = a100_40.by_id[resources.served(Mode.CONTAINER, a100_40, ())[mig]]
    large = a100_80.by_id[resources.served(Mode.CONTAINER, a100_80, ())[mig]]
    assert (small.id, small.size) == (15, 2)
    assert (large.id, large.size) == (19, 1)


def test_a_vgpu_type_is_served_by_its_board_alone() -> None:
    harvester = "nvidia.com/NVIDIA_H100-1-10C"
    assert harvester not in served("H100-80GB", Mode.HARVESTER, "H100 SXM5 80GB")
    pcie = served("H100-80GB", Mode.HARVESTER, "H100 PCIe 80GB")
    assert pcie[harvester] == ("1g.10gb", 1)
    assert pcie["nvidia.com/NVIDIA_H100-1-10CME"] == ("1g.10gb+me", 1)
    assert pcie["nvidia.com/NVIDIA_H100-1-20C"] == ("1g.20gb", 2)
    assert pcie["nvidia.com/NVIDIA_H100-3-40C"] == ("3g.40gb", 4)


@pytest.mark.parametrize("mode", [Mode.VGPU_MDEV, Mode.VGPU_VFIO, Mode.HARVESTER])
def test_a_vgpu_host_serves_no_containers_and_the_reverse(mode: Mode) -> None:
    assert not {name for name in served("H100-80GB", mode) if "/mig-" in name}
    assert all("/mig-" in name for name in served("H100-80GB", Mode.CONTAINER))
    assert len(served("H100-80GB", mode)) == len(served("H100-80GB", Mode.CONTAINER)) == 7


def test_only_types_that_fill_their_instance_are_served() -> None:
    rtx = served("RTX-PRO-6000-Blackwell-96GB", Mode.VGPU_VFIO)
    prefix = "nvidia.com/NVIDIA_RTX_Pro_6000_Blackwell_DC-"
    assert rtx == {
        f"{prefix}{type_}{series}": (profile, size)
        for type_, profile, size in (
            ("4-96", "4g.96gb+gfx", 12),
            ("2-48", "2g.48gb+gfx", 6),
            ("1-24", "1g.24gb+gfx", 3),
        )
        for series in "QCA"
    }


def test_a_type_whose_profile_the_gpu_lacks_is_not_served() -> None:
    geometry = MODELS["A30-24GB"].geometry
    assert resources.served(Mode.VGPU_MDEV, geometry, (VgpuType("NVIDIA A30-3-18C", 9),)) == {}


def test_harvester_and_kubevirt_spell_a_dotted_name_differently() -> None:
    assert resources.of_vgpu_type("NVIDIA X/1.0-4C") == ("nvidia.com/NVIDIA_X_1_0-4C",)
    assert resources.of_vgpu_type("NVIDIA  X1.0-4C\n") == (
        "nvidia.com/NVIDIA_X1_0-4C",
        "nvidia.com/NVIDIA_X1.0-4C",
    )


def test_a_plus_becomes_a_dot() -> None:
    assert resources.of_profile("1g.24gb+me.all") == "nvidia.com/mig-1g.24gb.me.all"
    assert resources.of_profile("1g.24gb-me") == "nvidia.com/mig-1g.24gb-me"


def test_every_published_type_has_one_name_that_is_ours() -> None:
    assert len(TYPE_NAMES) == 181
    names = [resources.of_vgpu_type(name) for name in TYPE_NAMES]
    assert all(len(each) == 1 for each in names)
    assert all(resources.ours(name) for each in names for name in each)
    assert len(set(names)) == 181


@pytest.mark.parametrize("model", MODELS)
def test_every_profile_is_ours(model: str) -> None:
    assert all(resources.ours(name) for name in served(model, Mode.CONTAINER))


@pytest.mark.parametrize(
    "name",
    [
        "nvidia.com/GRID_A100D-1-10C",  # how older driver branches call it
        "nvidia.com/NVIDIA_H300X-2-60C",  # no such board yet
        "nvidia.com/mig-2g.99gb",
        "nvidia.com/mig-1g.10gb.me",
    ],
)
def test_what_no_gpu_here_can_serve_may_still_be_ours(name: str) -> None:
    assert resources.ours(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "cpu",
        "nvidia.com/",
        "nvidia.com/gpu",
        "nvidia.com/gpu.shared",
        "nvidia.com/mig-1g.10gb.shared",  # a time-sliced seat of somebody else's device plugin
        "nvidia.com/mig-1g.10gb.me.shared",
        "nvidia.com/mig",
        "nvidia.com/mig-1g",
        "nvidia.com/mig-0g.10gb",
        "nvidia.com/mig-1g.10gb\n",
        "nvidia.com/mig-1g.10gb/x",
        "nvidia.com/mig-\N{ARABIC-INDIC DIGIT ONE}g.10gb",
        "nvidia.com/NVIDIA_A2-2Q",  # time-sliced
        "nvidia.com/NVIDIA_L40S-1B",
        "nvidia.com/NVIDIA_RTX_Pro_6000_Blackwell_DC-3Q",
        "nvidia.com/GH100_H100_SXM5_80GB",  # a whole GPU, passed through
        "nvidia.com/NVIDIA_H100-1-10C ",
        "nvidia.com/NVIDIA_H100-1-010C",
        "nvidia.com/NVIDIA_H100-0-10C",
        "NVIDIA.COM/NVIDIA_H100-1-10C",
        "amd.com/NVIDIA_H100-1-10C",
        "requests.nvidia.com/mig-1g.10gb",
        "nvidia.com/" + "A" * 400 + "-1-10C",
        "nvidia.com/" + "A-1-" * 20_000,
    ],
)
def test_anything_else_is_not_ours(name: str) -> None:
    assert not resources.ours(name)
