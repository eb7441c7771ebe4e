"""The shapes of what is told, as JSON: camel case, and fields left out where they are empty.

Slices are memory slices, counted from 0; GPUs are listed in the agent's order.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class _Told(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """How every document looks."""


class Occupied(StrEnum):
    """What is the matter with slices that are taken."""

    RUNNING = "running"
    """A GPU instance stands there, for the pod it was planned for."""
    STARTING = "starting"
    """Promised to a pod; the agent has yet to make the instance."""
    FAILED = "failed"
    """Promised to a pod; the agent could not make the instance."""
    RESERVED = "reserved"
    """Kept for the owner of a pod that has ended, for a moment."""
    RELEASING = "releasing"
    """Promised to nobody any more; the agent has yet to clear it away."""
    STANDING = "standing"
    """A device that stays, and that nobody has."""
    FOREIGN = "foreign"
    """A GPU instance that Tangram did not make, and does not touch."""
    HIDDEN = "in-use"
    """In use by somebody of whom the reader may not know."""


class GpuState(StrEnum):
    """The first thing that keeps instances from being placed on a GPU."""

    USABLE = "usable"
    UNMANAGED = "unmanaged"
    UNHEALTHY = "unhealthy"
    MIG_DISABLED = "mig-disabled"
    STATIC = "static"
    UNREADABLE = "unreadable"


class Instance(_Told, frozen=True):
    """A GPU instance that exists or is promised, and whose it is.

    ``vm`` is the pod's owner, such as a VirtualMachineInstance, or else the pod; ``tenant`` is the
    policy's name for whose the namespace is, "" where it has none.
    """

    profile: str
    start: int
    size: int
    state: Occupied
    namespace: str = ""
    vm: str = ""
    pod: str = ""
    tenant: str = ""


class Gpu(_Told, frozen=True):
    """One GPU. ``geometry`` is a key of the fleet's ``geometries``.

    ``free`` are the free slices that some legal placement covers, ``unusable`` those that none
    does. ``why`` says what is wrong with a GPU that is not usable.
    """

    uuid: str
    model: str
    geometry: str
    slices: int
    state: GpuState = GpuState.USABLE
    why: str = ""
    pci: str = ""
    numa: int = -1
    instances: tuple[Instance, ...] = ()
    free: tuple[int, ...] = ()
    unusable: tuple[int, ...] = ()


class Fit(_Told, frozen=True):
    """How many more of a profile would fit on a node's GPUs of a model, and nothing else."""

    model: str
    profile: str
    count: int


class Node(_Told, frozen=True):
    """One node. ``state`` is "ready" or the code of why it takes nothing new; ``why`` says so.

    Of a stale node the rest is what was last known.
    """

    name: str
    state: str = "ready"
    why: str = ""
    mode: str = ""
    simulated: bool = False
    gpus: tuple[Gpu, ...] = ()
    fits: tuple[Fit, ...] = ()


class Profile(_Told, frozen=True):
    """A profile of a geometry: its size in slices, and where it may start."""

    name: str
    size: int
    compute_slices: int
    starts: tuple[int, ...]


class Geometry(_Told, frozen=True):
    """What GPUs of a kind can be divided into."""

    memory_slices: int
    compute_slices: int
    profiles: tuple[Profile, ...]


class Pending(_Told, frozen=True):
    """A pod without a place. ``codes`` are why it was refused; none: its bind is under way.

    ``reasons`` say the same for people. ``since`` is RFC 3339 UTC. ``profiles`` are those that
    serve what is ``wanted`` on some node.
    """

    namespace: str
    pod: str
    uid: str
    wanted: tuple[str, ...]
    vm: str = ""
    tenant: str = ""
    since: str = ""
    codes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()


class Queue(msgspec.Struct, frozen=True, gc=False):
    """The pods that wait, of those a reader may know of: the first of them, and how many in all."""

    pods: tuple[Pending, ...]
    total: int


class About(_Told, frozen=True, omit_defaults=False):
    """Who tells this; ``whyNot`` is why no decision is made here, "" where it is.

    ``namespaces`` are the only ones whose VMs are told by name; null: all.
    """

    version: str
    policy: str
    why_not: str
    namespaces: tuple[str, ...] | None
