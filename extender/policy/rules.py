"""Who may have what, and where: the rules of a policy, beside how placements are ranked.

pools:      [{name: big, nodes: {matchLabels: {pool: big}}, profiles: [3g.40gb, 7g.80gb]}]
tenants:    [{name: red, namespaces: {matchLabels: {team: red}}, caps: {memorySlices: 40}}]
headroom:   [{pool: big, profile: 7g.80gb, keep: 2, releasedTo: {priority: 1000}}]
avoid:      [{nodes: {matchLabels: {old: "true"}}}]

Of pools, and of tenants, the first that matches counts. What belongs to none is not restricted.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property
from typing import Annotated, Literal

import msgspec

from extender.policy.selectors import Labels, Selector

Name = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="at most 63 lower-case letters, digits and -, and no - at an end",
    ),
]
"""A pool's or a tenant's name: it becomes part of reasons and of metrics' labels."""

NameOrNone = Annotated[
    str,
    msgspec.Meta(
        max_length=63,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        description="at most 63 lower-case letters, digits and -, and no - at an end",
    ),
]
"""A name, or "" for none, which is how it is written out."""

ProfileName = Annotated[
    str,
    msgspec.Meta(
        max_length=63,
        pattern=r"^[1-9][0-9]*g\.[1-9][0-9]*gb([-+][a-z.]+)*$",
        description="a MIG profile as `nvidia-smi mig -lgip` names it, such as 1g.10gb",
    ),
]
"""A MIG profile as the driver names it, such as ``1g.10gb`` or ``1g.10gb+me``."""

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Priority = Annotated[int, msgspec.Meta(ge=-1_000_000_000, le=1_000_000_000)]


class _Written(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """A part of the policy file, taken literally: what it does not know is an error."""


class Pool(_Written, frozen=True):
    """Nodes that serve some *profiles* only; all of them where none is named."""

    name: Name
    nodes: Selector
    profiles: tuple[ProfileName, ...] = ()


class Apart(IntEnum):
    """What two pods may not share; the higher, the less."""

    NOTHING = 0
    GPU = 1
    NODE = 2


_APART = {None: Apart.NOTHING, "gpu": Apart.GPU, "node": Apart.NODE}


class Caps(_Written, frozen=True):
    """The most a tenant may have at once, in memory slices and in GPU instances of a profile.

    Slices are counted by the profile that is placed, whatever the GPU. What is held for a VM that
    restarts counts, so that it comes back.
    """

    memory_slices: Count | None = None
    profiles: dict[ProfileName, Count] = {}


class Tenant(_Written, frozen=True):
    """The pods of some *namespaces*.

    ``profiles`` and ``pools`` are those it may use; all where none is named. ``dedicated``: no
    other tenant's pods are on a GPU (a node) together with its own, nor those of no tenant.
    ``priority`` is added to that of its pods wherever Tangram compares pods. ``movable``: its VMs
    may be moved to make room, but for those whose pods say otherwise.
    """

    name: Name
    namespaces: Selector
    profiles: tuple[ProfileName, ...] = ()
    pools: tuple[Name, ...] = ()
    caps: Caps = Caps()
    dedicated: Literal["gpu", "node"] | None = None
    priority: Priority = 0
    movable: bool = True

    @property
    def apart(self) -> Apart:
        """What it shares with no other."""
        return _APART[self.dedicated]


class Release(_Written, frozen=True):
    """Whom headroom is for: pods of a *priority* or above, and pods of these *tenants*."""

    priority: Priority | None = None
    tenants: tuple[Name, ...] = ()


class Headroom(_Written, frozen=True):
    """Keep room for *keep* GPU instances of a *profile* free in a *pool*, "" for all nodes.

    Nothing is placed that leaves less, unless it is released to the pod; what costs no such room
    is placed in any case.
    """

    profile: ProfileName
    keep: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    pool: NameOrNone = ""
    released_to: Release = Release()

    def released(self, tenant: str, priority: int) -> bool:
        """Tell whether a pod may have it."""
        to = self.released_to
        return tenant in to.tenants or (to.priority is not None and priority >= to.priority)


class Avoid(_Written, frozen=True):
    """Nodes that pods go to only where no other node will do.

    Pods of these *tenants* that ask for one of these *profiles*; of all where none is named.
    """

    nodes: Selector
    tenants: tuple[Name, ...] = ()
    profiles: tuple[ProfileName, ...] = ()


class Rules(_Written, frozen=True, dict=True):
    """All rules of a policy; without any, everything is allowed."""

    pools: tuple[Pool, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    headroom: tuple[Headroom, ...] = ()
    avoid: tuple[Avoid, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pools or self.tenants or self.headroom or self.avoid)

    @cached_property
    def node_keys(self) -> frozenset[str]:
        """The labels of Nodes that the rules look at."""
        selectors = [pool.nodes for pool in self.pools] + [each.nodes for each in self.avoid]
        return frozenset(key for selector in selectors for key in selector.keys)

    def pool_of(self, labels: Labels) -> Pool | None:
        """Return the pool of a node with these labels."""
        return next((each for each in self.pools if each.nodes.matches(labels)), None)

    def concerns(self, kept: Headroom, labels: Labels) -> bool:
        """Tell whether headroom is kept on a node with these labels."""
        pool = self.pool_of(labels) if kept.pool else None
        return not kept.pool or (pool is not None and pool.name == kept.pool)

    def tenant_of(self, labels: Labels) -> Tenant | None:
        """Return the tenant whose namespace has these labels."""
        return next((each for each in self.tenants if each.namespaces.matches(labels)), None)


NO_RULES = Rules()
