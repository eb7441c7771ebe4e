"""The simulated GPUs, and the kinds of instance that are asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from nodeagent.api.catalog import Model
from nodeagent.api.geometry import Geometry, Profile


class Group(msgspec.Struct, frozen=True):
    """So many GPUs of one model."""

    model: str
    geometry: Geometry
    gpus: int


class Kind(msgspec.Struct, frozen=True):
    """What a request asks for: a name, and the profile that serves it in each group, if any does.

    ``size`` is in memory slices of the first group that serves it.
    """

    name: str
    profiles: tuple[Profile | None, ...]

    @property
    def size(self) -> int:
        """The memory slices that a request of the kind counts for."""
        return next(profile.size for profile in self.profiles if profile is not None)


class Fleet(msgspec.Struct, frozen=True):
    """All GPUs, group after group; nodes are runs of ``gpus_per_node`` GPUs of one group."""

    groups: tuple[Group, ...]
    gpus_per_node: int = 8

    @property
    def gpus(self) -> int:
        """How many GPUs there are."""
        return sum(group.gpus for group in self.groups)

    @property
    def memory_slices(self) -> int:
        """How many memory slices they have together."""
        return sum(group.gpus * group.geometry.memory_slices for group in self.groups)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The node of each GPU, numbered from 0."""
        found: list[int] = []
        for group in self.groups:
            first = found[-1] + 1 if found else 0
            found += [first + gpu // self.gpus_per_node for gpu in range(group.gpus)]
        return tuple(found)


def fleet(models: Iterable[tuple[Model, int]], *, gpus_per_node: int = 8) -> Fleet:
    """Return a fleet with so many GPUs of each model."""
    groups = tuple(Group(model.name, model.geometry, gpus) for model, gpus in models)
    return Fleet(groups, gpus_per_node)


def kinds(of: Sequence[Mapping[str, int]], fleet: Fleet) -> tuple[Kind, ...]:
    """Return the kinds, given for each group the profile id by name; the largest kind first."""
    names = dict.fromkeys(name for group in of for name in group)
    found = [
        Kind(
            name,
            tuple(
                group.geometry.by_id[ids[name]] if name in ids else None
                for group, ids in zip(fleet.groups, of, strict=True)
            ),
        )
        for name in names
    ]
    return tuple(sorted(found, key=largest_first))


def largest_first(kind: Kind) -> tuple[int, int]:
    """Return what sorts kinds by memory slices, then by compute slices, the largest first."""
    first = next(profile for profile in kind.profiles if profile is not None)
    return (-first.size, -first.compute_slices)
