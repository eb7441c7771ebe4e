"""The catalog's tables as C, for the fake library.

The catalog knows no multiprocessors and no NVML enumerators; what is added here is in README.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from nodeagent.api.catalog import MODELS, Model
from nodeagent.api.geometry import Profile

_ENUMERATORS = {
    "": {1: 0x0, 2: 0x1, 3: 0x2, 4: 0x3, 7: 0x4},
    "+me": {1: 0x7, 2: 0x8},
    "larger": {1: 0x9},  # REV2: the 1g with twice the memory
    "+gfx": {1: 0xA, 2: 0xB, 4: 0xC},
    "-me": {1: 0xD, 2: 0xE},
    "+me.all": {1: 0xF, 2: 0x10},
}
"""NVML's enumerator by a profile's suffix and compute slices."""

# Multiprocessors of one compute slice, and of the profiles that have more than their slices' sum.
_MULTIPROCESSORS: dict[str, tuple[int, dict[int, int]]] = {
    "A100": (14, {}),
    "A30": (14, {}),
    "H100": (16, {15: 26, 9: 60, 0: 132}),
    "H200": (16, {15: 26, 9: 60, 0: 132}),
    "B200": (18, {15: 30, 9: 66, 0: 148}),
    "RTX": (46, {5: 94, 35: 94, 64: 94, 66: 94, 0: 188, 32: 188}),
}

_ARCHITECTURES = {"A100": 7, "A30": 7, "H100": 9, "H200": 9, "B200": 10, "RTX": 10}

_PCI_DEVICE_IDS = {
    "A100-40GB": 0x20B010DE,
    "A100-80GB": 0x20B210DE,
    "A30-24GB": 0x20B710DE,
    "H100-80GB": 0x233010DE,
    "H100-94GB": 0x232110DE,
    "H100-96GB": 0x234210DE,
    "H200-141GB": 0x233510DE,
    "B200-180GB": 0x290110DE,
    "RTX-PRO-6000-Blackwell-96GB": 0x2BB510DE,
}

_TYPES_PER_MODEL = 256


def enumerator(model: Model, profile: Profile) -> int:
    """Return NVML's enumerator of a profile: nvmlDeviceGetGpuInstanceProfileInfo's argument."""
    suffix = profile.name.removeprefix(profile.name.split("gb")[0] + "gb")
    plain = [
        other.size
        for other in model.geometry.profiles
        if other.name.endswith("gb") and other.compute_slices == profile.compute_slices
    ]
    if suffix == "" and profile.size > min(plain):
        suffix = "larger"
    return _ENUMERATORS[suffix][profile.compute_slices]


def multiprocessors(model: Model, profile: Profile) -> int:
    """Return the multiprocessors of a profile's whole GPU instance."""
    one, exceptions = _MULTIPROCESSORS[model.name.split("-")[0]]
    return exceptions.get(profile.id, one * profile.compute_slices)


def _memory_mib(model: Model, profile: Profile) -> int:
    """What the catalog says or, where no listing shows it, a share of the gigabytes in names."""
    if profile.memory_mib is not None:
        return profile.memory_mib
    gigabytes = int(model.name.rpartition("-")[2].removesuffix("GB"))
    return gigabytes * 1024 * profile.size // model.memory_slices


def _rows(items: Sequence[str]) -> str:
    return "".join(f"    {{{item}}},\n" for item in items)


def _model(index: int, model: Model) -> Iterator[str]:
    profiles = [
        f"{p.id}, {enumerator(model, p)}, {p.compute_slices}, {p.size}, {p.max_instances}, "
        f"{multiprocessors(model, p)}, {_memory_mib(model, p)}, {json.dumps(p.name)}, "
        f"{len(p.starts)}, {{{', '.join(map(str, p.starts))}}}"
        for p in model.geometry.profiles
    ]
    types = [
        f"{1 + index * _TYPES_PER_MODEL + n}, {t.profile_id}, {t.max_per_instance}, "
        f"{json.dumps(t.name)}"
        for n, t in enumerate(model.vgpu_types)
    ]
    yield f"static const struct profile PROFILES_{index}[] = {{\n{_rows(profiles)}}};\n"
    if types:
        yield f"static const struct vgpu_type TYPES_{index}[] = {{\n{_rows(types)}}};\n"


def source() -> str:
    """Return ``tables.c``: every model of the catalog."""
    parts = ['/* Generated from nodeagent.api.catalog by tables.py. */\n#include "fake.h"\n\n']
    models: list[str] = []
    for index, model in enumerate(MODELS.values()):
        parts.extend(_model(index, model))
        family = model.name.split("-")[0]
        whole = max(_memory_mib(model, profile) for profile in model.geometry.profiles)
        models.append(
            f"{json.dumps(model.name)}, {json.dumps(model.nvml_names[0])}, "
            f"{model.memory_slices}, {model.compute_slices}, {_ARCHITECTURES[family]}, "
            f"{_PCI_DEVICE_IDS[model.name]:#x}, {_MULTIPROCESSORS[family][0]}, {whole}, "
            f"{len(model.geometry.profiles)}, {len(model.vgpu_types)}, PROFILES_{index}, "
            + (f"TYPES_{index}" if model.vgpu_types else "0")
        )
    parts.append(f"const struct model MODELS[] = {{\n{_rows(models)}}};\n")
    parts.append("const uint32_t MODEL_COUNT = sizeof MODELS / sizeof *MODELS;\n")
    return "".join(parts)
