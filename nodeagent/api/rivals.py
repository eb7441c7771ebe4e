"""Who else makes and destroys GPU instances on a node, as the node's labels tell.

The GPU Operator runs its managers on nodes where ``nvidia.com/gpu.deploy.NAME`` is ``true``, and
sets that on every node with such GPUs, be the manager enabled or not. One that is at work shows by
the label that names the configuration it keeps a node in: it brings that about whenever the label
changes or the manager starts, over whatever is there. (GPU Operator, ``controllers/state_manager``;
k8s-mig-manager and vgpu-device-manager run by themselves go by the same labels.)
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Rival(msgspec.Struct, frozen=True):
    """One who configures GPUs by itself: shown by any of these labels, unless ``off`` is false."""

    name: str
    shown_by: tuple[str, ...]
    off: str

    @property
    def remedy(self) -> str:
        """Return what keeps it from a node."""
        return f"label the node {self.off}=false"


RIVALS = (
    Rival(
        "the GPU Operator's MIG manager",
        ("nvidia.com/mig.config",),
        "nvidia.com/gpu.deploy.mig-manager",
    ),
    Rival(
        "the GPU Operator's vGPU device manager",
        # It has a default for nodes without the first, and tells by the second how it went.
        ("nvidia.com/vgpu.config", "nvidia.com/vgpu.config.state"),
        "nvidia.com/gpu.deploy.vgpu-device-manager",
    ),
)

ALL_OFF = "nvidia.com/gpu.deploy.operands"
"""Where this is ``false``, the GPU Operator runs nothing."""


def rival_of(labels: Mapping[str, str]) -> Rival | None:
    """Return who else owns the GPUs of a node with these labels, None if nobody does."""
    if labels.get(ALL_OFF) == "false":
        return None
    return next(
        (
            rival
            for rival in RIVALS
            if labels.get(rival.off) != "false" and not labels.keys().isdisjoint(rival.shown_by)
        ),
        None,
    )
