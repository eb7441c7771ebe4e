"""What can be wrong with a solution, each kind a type of its own."""

from __future__ import annotations

import msgspec

from nodeagent.api.geometry import Placement


class UnknownRequest(msgspec.Struct, frozen=True):
    """Something is assigned to a request that was never made."""

    request: str


class UnknownGpu(msgspec.Struct, frozen=True):
    """The node has no such GPU."""

    request: str
    node: str
    gpu: str


class NotServed(msgspec.Struct, frozen=True):
    """The profile is not the one that serves the resource on that GPU."""

    request: str
    wanted: str
    gpu: str
    profile_id: int


class IllegalPlacement(msgspec.Struct, frozen=True):
    """The driver of the GPU lists no such placement of the profile."""

    request: str
    gpu: str
    profile_id: int
    placement: Placement


class Overlap(msgspec.Struct, frozen=True):
    """A memory slice of the placement is taken already."""

    request: str
    gpu: str
    placement: Placement


class TooManyInstances(msgspec.Struct, frozen=True):
    """The GPU would hold more instances of the profile than its driver allows."""

    request: str
    gpu: str
    profile_id: int


class WrongCount(msgspec.Struct, frozen=True):
    """A request is given something else than what it wanted, or only some of it."""

    request: str


class NodeNotAllowed(msgspec.Struct, frozen=True):
    """The request may not go to that node."""

    request: str
    node: str


class SplitOverNodes(msgspec.Struct, frozen=True):
    """The vGPUs of one VM are on several nodes."""

    request: str


class WrongSpread(msgspec.Struct, frozen=True):
    """The vGPUs of one VM share GPUs they must not share, or do not share the one they must."""

    request: str


class BrokenGang(msgspec.Struct, frozen=True):
    """Some members of a gang are placed and some are not."""

    gang: str


class OverCap(msgspec.Struct, frozen=True):
    """A tenant is given more memory slices than it may still take."""

    tenant: str
    slices: int
    cap: int


class NotPlaced(msgspec.Struct, frozen=True):
    """A request that must be placed is not."""

    request: str


Violation = (
    UnknownRequest
    | UnknownGpu
    | NotServed
    | IllegalPlacement
    | Overlap
    | TooManyInstances
    | WrongCount
    | NodeNotAllowed
    | SplitOverNodes
    | WrongSpread
    | BrokenGang
    | OverCap
    | NotPlaced
)
