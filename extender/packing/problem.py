"""What is to be packed, and what an answer looks like: requests, GPUs, assignments.

Values only. The GPUs come as arrays, because a fleet has many and few of them differ; the requests
come in arrival order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.packing.choose import Bin
from extender.packing.spread import Spread
from extender.packing.tables import Option, Tables
from nodeagent.api.geometry import Occupancy, Placement, Profile


class Request(msgspec.Struct, frozen=True):
    """A VM that waits for its vGPUs.

    ``wanted`` names a resource for each vGPU; all of them go to one node, one of ``nodes`` where
    that is given. Equal sets of nodes are best passed as one object: they are compared by hash.
    The members of a ``gang`` are placed all or none. A ``required`` request must be placed, or the
    problem is infeasible.
    """

    id: str
    wanted: tuple[str, ...]
    priority: int = 0
    gang: str | None = None
    spread: Spread = Spread.ANY
    nodes: frozenset[str] | None = None
    tenant: str | None = None
    required: bool = False

    @property
    def on_one_gpu(self) -> bool:
        """Whether its vGPUs certainly share a GPU, so that its node needs no thought."""
        return len(self.wanted) == 1 or self.spread is Spread.SAME


@dataclass(frozen=True, eq=False)
class GpuModel:
    """GPUs of one geometry that serve the same resources (resource name to profile id)."""

    tables: Tables
    serves: Mapping[str, int]

    def profile(self, wanted: str) -> Profile | None:
        """Return the profile that serves *wanted* here, if any does."""
        profile_id = self.serves.get(wanted)
        return None if profile_id is None else self.tables.geometry.by_id.get(profile_id)


@dataclass(frozen=True)
class GpuState:
    """All that a plan has to know of a GPU: those that share it are interchangeable on a node."""

    model: GpuModel
    occupancy: Occupancy

    @property
    def taken_slices(self) -> int:
        """How many memory slices are taken."""
        return self.occupancy.mask.bit_count()

    def option(self, profile_id: int, placement: Placement) -> Option:
        """Return the legal placement of a profile: what it costs, and what it leads to."""
        profile = self.model.tables.geometry.by_id[profile_id]
        options = self.model.tables.options(self.occupancy, profile)
        return next(option for option in options if option.placement == placement)

    def after(self, profile_id: int, placement: Placement) -> GpuState:
        """Return the state with one more instance, legally placed."""
        return GpuState(self.model, self.option(profile_id, placement).after)


_Alike = tuple[GpuModel, dict[Occupancy, int]]
"""A model, and the numbers of its states."""


@dataclass(frozen=True, eq=False)
class Fleet:
    """Every GPU, node by node.

    ``nodes`` ascend; the GPUs of node ``n`` are ``first[n] .. first[n + 1] - 1``. ``uuids`` and
    ``state`` have one entry for each GPU; ``state`` is an index into ``states``.
    """

    nodes: Sequence[str]
    first: NDArray[np.int64]
    uuids: Sequence[str]
    states: Sequence[GpuState]
    state: NDArray[np.int32]

    @classmethod
    def of(cls, nodes: Mapping[str, Sequence[Bin]]) -> Fleet:
        """Return the fleet that consists of these GPUs."""
        names = tuple(sorted(nodes))
        alike: dict[tuple[int, frozenset[tuple[str, int]]], _Alike] = {}
        same: dict[tuple[int, int], _Alike] = {}  # by identity: of 40,000 GPUs few are looked into
        states: list[GpuState] = []
        state: list[int] = []
        for name in names:
            for bin in nodes[name]:
                kind = same.get((id(bin.tables), id(bin.serves)))
                if kind is None:
                    key = (id(bin.tables), frozenset(bin.serves.items()))
                    kind = alike.setdefault(key, (GpuModel(bin.tables, bin.serves), {}))
                    same[id(bin.tables), id(bin.serves)] = kind
                model, known = kind
                at = known.get(bin.occupancy)
                if at is None:
                    at = known[bin.occupancy] = len(states)
                    states.append(GpuState(model, bin.occupancy))
                state.append(at)
        return cls(
            nodes=names,
            first=np.cumsum([0, *(len(nodes[name]) for name in names)], dtype=np.int64),
            uuids=tuple([bin.uuid for name in names for bin in nodes[name]]),
            states=tuple(states),
            state=np.array(state, dtype=np.int32),
        )

    @cached_property
    def node_of(self) -> NDArray[np.int64]:
        """For each GPU the index of its node."""
        return np.repeat(np.arange(len(self.nodes)), np.diff(self.first))

    @cached_property
    def index(self) -> dict[str, int]:
        """The index of each node by name."""
        return {name: index for index, name in enumerate(self.nodes)}

    @cached_property
    def models(self) -> tuple[GpuModel, ...]:
        """The models in use, in order of appearance."""
        return tuple(dict.fromkeys(state.model for state in self.states))

    @cached_property
    def taken_slices(self) -> NDArray[np.int64]:
        """For each node how many memory slices are taken on it."""
        each = np.array([state.taken_slices for state in self.states], dtype=np.int64)
        sums = np.concatenate(([0], np.cumsum(each[self.state])))
        return np.asarray(sums[self.first[1:]] - sums[self.first[:-1]])


@dataclass(frozen=True, eq=False)
class Problem:
    """Requests in arrival order, the GPUs for them, and memory slices each tenant may still take.

    A tenant that ``caps`` does not name may take any number.
    """

    fleet: Fleet
    requests: Sequence[Request]
    caps: Mapping[str, int] = field(default_factory=dict)

    def slices(self, request: Request) -> int:
        """Return the memory slices a request asks for: what it takes where it takes the least.

        The same wherever it ends up, so that a tenant is charged for what was asked, and so that a
        GPU with coarser slices does not count as more demand served. 0 if nothing serves it.
        """
        return sum(self.smallest(wanted) for wanted in request.wanted)

    @cached_property
    def priorities(self) -> tuple[int, ...]:
        """The priorities that occur, highest first."""
        return tuple(sorted({request.priority for request in self.requests}, reverse=True))

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {}

    def smallest(self, wanted: str) -> int:
        """Return the memory slices of the smallest profile that serves a resource, or 0."""
        size = self._sizes.get(wanted)
        if size is None:
            profiles = (model.profile(wanted) for model in self.fleet.models)
            size = min((profile.size for profile in profiles if profile is not None), default=0)
            self._sizes[wanted] = size
        return size


class Assignment(msgspec.Struct, frozen=True):
    """The decision for one vGPU of a request."""

    request: str
    wanted: str
    node: str
    gpu: str
    profile_id: int
    placement: Placement


class Solution(msgspec.Struct, frozen=True):
    """Who goes where; a request without assignments is not admitted."""

    assignments: tuple[Assignment, ...] = ()
