"""What a demo came to, as it is printed and as JSON."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nodeagent.api.geometry import Placement


class Latency(msgspec.Struct, frozen=True):
    """Of one hook, over HTTP on loopback, in milliseconds."""

    p50: float
    p99: float


class ProfileCount(msgspec.Struct, frozen=True):
    """How many VMs asked for a profile, and how many of them were placed."""

    requested: int
    placed: int


class GpuMap(msgspec.Struct, frozen=True):
    """One GPU's slices at the last arrival: (profile id, placement) of each instance."""

    node: str
    gpu: str
    instances: tuple[tuple[int, Placement], ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What happened. Slices are memory slices at the last arrival; the invariants must be 0.

    ``double_promised`` is the most that any audit found, at the last arrival or on the way there.
    """

    model: str
    nodes: int
    gpus_per_node: int
    policy: str
    mix: str
    load: float
    seed: int
    requested: int
    placed: int
    refused: int
    refusals: Mapping[str, int]
    double_promised: int
    leaked_instances: int
    lost_assignments: int
    slices_used: int
    slices_total: int
    filter_ms: Latency
    bind_ms: Latency
    profiles: Mapping[str, ProfileCount]
    seconds: float
    map: tuple[GpuMap, ...]

    @property
    def sound(self) -> bool:
        """Whether no promise was broken."""
        return not (self.double_promised or self.leaked_instances or self.lost_assignments)
