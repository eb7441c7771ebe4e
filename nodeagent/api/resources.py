"""Extended resource names: which a GPU can serve, and which are ours at all.

The name a pod asks for is resolved per GPU, against the profiles and vGPU types that GPU's driver
reports: ``nvidia.com/mig-1g.10gb`` is two memory slices of an A100-40GB and one of an 80GB.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from nodeagent.api.geometry import Geometry
from nodeagent.api.gpunode import Mode, VgpuType
from nodeagent.api.keys import RESOURCE_DOMAIN

# NVIDIA's device plugin calls the time-sliced seats of its own MIG devices ".shared": not ours.
_MIG = re.compile(r"nvidia\.com/mig-[1-9][0-9]*g\.[0-9]+gb(\.[a-z.]+|-[a-z]+)?(?<!\.shared)")
# NVIDIA's grammar of MIG-backed type names, GPU-slices-gigabytes-series-attribute, after the board.
_VGPU = re.compile(
    r"nvidia\.com/[A-Za-z0-9_.-]*[A-Z0-9]+-[1-9]-(0|[1-9][0-9]*)[ABCQ](ME|NOME|MEALL|GFX)?"
)
# A qualified Kubernetes name: an optional prefix and at most 63 characters.
_LONGEST = 253 + 1 + 63


def ours(resource: str) -> bool:
    """Tell whether a resource name asks for a GPU instance, be it known on this cluster or not."""
    return len(resource) <= _LONGEST and _named_like_ours(resource)


@functools.lru_cache(maxsize=4096)  # a cluster's pods ask for few different resources
def _named_like_ours(resource: str) -> bool:
    return bool(_MIG.fullmatch(resource) or _VGPU.fullmatch(resource))


def of_profile(name: str) -> str:
    """Return the resource of a profile for containers, as NVIDIA's device plugin spells it.

    >>> of_profile("1g.10gb+me")
    'nvidia.com/mig-1g.10gb.me'
    """
    return f"{RESOURCE_DOMAIN}mig-{name.replace('+', '.')}"


def of_vgpu_type(name: str) -> tuple[str, ...]:
    """Return the resources a vGPU type is known by: Harvester's spelling, then KubeVirt's.

    Harvester replaces slashes, dots and runs of blanks by underscores; NVIDIA's KubeVirt device
    plugin only the blanks. They are the same for every type known today.

    >>> of_vgpu_type("NVIDIA A100-1-5C")
    ('nvidia.com/NVIDIA_A100-1-5C',)
    """
    blanks = "_".join(name.split())
    harvester = blanks.replace("/", "_").replace(".", "_")
    names = [harvester] if "/" in blanks else [harvester, blanks]
    return tuple(dict.fromkeys(RESOURCE_DOMAIN + each for each in names))


@functools.lru_cache(maxsize=1024)
def served(mode: Mode, geometry: Geometry, vgpu_types: tuple[VgpuType, ...]) -> Mapping[str, int]:
    """Map each resource this GPU can serve to the driver id of the profile that backs it.

    A vGPU host serves vGPU types only, and of these only such as fill their GPU instance: handing
    out several seats of one GPU instance is not supported. The thousands of GPUs that report the
    same share one answer.
    """
    if mode is Mode.CONTAINER:
        return {of_profile(profile.name): profile.id for profile in geometry.profiles}
    return {
        resource: vgpu.profile_id
        for vgpu in vgpu_types
        if vgpu.max_per_instance == 1 and vgpu.profile_id in geometry.by_id
        for resource in of_vgpu_type(vgpu.name)
    }
