"""What the node agent's tests are made of; each builder shows only what matters."""

from __future__ import annotations

from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Assignment, Mode, PodRef
from nodeagent.api.resources import of_vgpu_type
from nodeagent.driver import LiveDevice
from nodeagent.simulated.hardware import Hardware

H100 = MODELS["H100-80GB"]
BY_PROFILE = {vgpu.profile_id: of_vgpu_type(vgpu.name)[0] for vgpu in H100.vgpu_types}
"""The resource backed by each profile of a simulated H100."""

ONE, TWO, THREE, SEVEN = 19, 14, 9, 0
"""Profile ids of 1g.10gb, 2g.20gb, 3g.40gb and 7g.80gb."""

SMALL, HALF, WHOLE = BY_PROFILE[ONE], BY_PROFILE[THREE], BY_PROFILE[SEVEN]
"""The resources of 1g.10gb, 3g.40gb and 7g.80gb."""


DEVICE = LiveDevice("0000:10:00.4")


def hardware(gpus: int = 1, *, node: str = "n1", mode: Mode = Mode.VGPU_VFIO) -> Hardware:
    return Hardware(node, [H100] * gpus, mode)


def assignment(
    id: str,
    gpu: str = "GPU-0",
    *,
    profile: int = ONE,
    start: int = 0,
    pod: str | None = "",
    since: str = "2026-01-01T00:00:00Z",
    resource: str = "",
    of: PodRef | None = None,
) -> Assignment:
    """Return an assignment of a pod named like it, of *pod*, or (None) of none; or *of* a real one.

    A pod that is only named has another UID than one of that name in an API server.
    """
    name = id if pod == "" else pod
    return Assignment(
        id=id,
        gpu=gpu,
        profile_id=profile,
        start=start,
        size=H100.geometry.by_id[profile].size if profile in H100.geometry.by_id else 1,
        resource=resource or BY_PROFILE.get(profile, BY_PROFILE[ONE]),
        since=since,
        pod=of or (None if name is None else PodRef("default", name, f"uid-{name}")),
    )
