"""What a node has, for people: a line for each GPU, its GPU instances, what fits beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nodeagent.api.geometry import Geometry, Profile
from nodeagent.api.occupancy import occupied_by
from nodeagent.driver import Host, LiveGpu


def table(host: Host) -> str:
    """Return *host* as text."""
    return "\n".join(_lines(host))


def _lines(host: Host) -> Iterator[str]:
    yield f"driver {host.driver}, boot {host.boot_id}, {_counted(len(host.gpus), 'GPU')}"
    for gpu in host.gpus:
        yield ""
        yield f"{gpu.pci_address}  {gpu.model}  {gpu.uuid}"
        yield f"  NUMA node {gpu.numa_node if gpu.numa_node >= 0 else '-'}, {_condition(gpu)}"
        yield from _instances(gpu)
    for geometry in {gpu.geometry.hash: gpu.geometry for gpu in host.gpus}.values():
        models = sorted({gpu.model for gpu in host.gpus if gpu.geometry == geometry})
        if geometry.profiles:
            yield ""
            yield f"profiles of {', '.join(models)}"
            yield from _aligned(_profiles(geometry))
    for types in dict.fromkeys(gpu.vgpu_types for gpu in host.gpus if gpu.vgpu_types):
        models = sorted({gpu.model for gpu in host.gpus if gpu.vgpu_types == types})
        yield ""
        yield f"MIG-backed vGPU types of {', '.join(models)}"
        yield from _aligned(
            [("type", "profile id", "per GPU instance")]
            + [(each.name, str(each.profile_id), str(each.max_per_instance)) for each in types]
        )


def _condition(gpu: LiveGpu) -> str:
    if not gpu.geometry.profiles:
        return gpu.unhealthy
    taken = occupied_by(gpu.geometry, ((each.profile_id, each.placement) for each in gpu.instances))
    free = (gpu.geometry.full_mask & ~taken.mask).bit_count()
    told = [f"MIG mode {'on' if gpu.mig_enabled else 'off'}"]
    if gpu.unhealthy:
        told.append(f"UNHEALTHY: {gpu.unhealthy}")
    elif gpu.mig_enabled:
        told.append(f"{free} of {gpu.geometry.memory_slices} memory slices free")
    return ", ".join(told)


def _instances(gpu: LiveGpu) -> Iterator[str]:
    for each in gpu.instances:
        profile = gpu.geometry.by_id.get(each.profile_id)
        name = profile.name if profile else f"profile {each.profile_id}"
        place = f"{{{each.placement.start}}}:{each.placement.size}"
        used = "in use" if each.in_use else "not seen in use"
        device = f"  {each.device.id}" if each.device else ""
        yield f"  GPU instance {each.gi_id}  {name}  {place}  {used}{device}"


def _profiles(geometry: Geometry) -> list[tuple[str, ...]]:
    head = ("profile", "id", "compute slices", "at most", "MiB", "placements")
    return [head, *(_profile(each) for each in geometry.profiles)]


def _profile(profile: Profile) -> tuple[str, ...]:
    starts = ",".join(map(str, profile.starts))
    return (
        profile.name,
        str(profile.id),
        str(profile.compute_slices),
        str(profile.max_instances),
        str(profile.memory_mib or "-"),
        f"{{{starts}}}:{profile.size}",
    )


def _aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
