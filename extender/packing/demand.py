"""Requests with those that are interchangeable counted together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from extender.packing.bundles import Item
from extender.packing.problem import GpuModel, Problem, Request
from extender.packing.spread import Spread


@dataclass(frozen=True)
class Footprint:
    """What of a request decides where it may go and what it takes there.

    ``wanted`` ascends; ``items`` has the item of each, or the one item that all are together.
    ``nodes`` is the set it may go to, as an index into ``Demand.node_sets``.
    """

    wanted: tuple[str, ...]
    spread: Spread
    nodes: int | None
    items: tuple[int, ...]

    @property
    def on_one_gpu(self) -> bool:
        """Whether its vGPUs certainly share a GPU."""
        return len(self.items) == 1

    @cached_property
    def needs(self) -> Mapping[int, int]:
        """How many of each item one request needs."""
        return Counter(self.items)


@dataclass(frozen=True)
class RequestType:
    """Requests that differ in nothing a plan looks at.

    ``footprint`` is an index into ``Demand.footprints``; ``tenant`` is None where none is capped;
    ``requests`` are indices into the problem's in arrival order, those of gangs gang by gang.
    """

    footprint: int
    priority: int
    tenant: str | None
    required: bool
    slices: int
    requests: tuple[int, ...]


@dataclass(frozen=True)
class GangShape:
    """Gangs with members of the same types: ``members`` has how many of each type are in one."""

    gangs: int
    members: Mapping[int, int]


@dataclass(frozen=True, eq=False)
class Demand:
    """All that is asked for.

    ``items[i][m]`` are the profiles that item ``i`` puts on a GPU of the fleet's model ``m``.
    """

    footprints: Sequence[Footprint]
    types: Sequence[RequestType]
    shapes: Sequence[GangShape]
    items: Sequence[tuple[Item, ...]]
    node_sets: Sequence[frozenset[str]]

    @cached_property
    def types_of(self) -> Sequence[Sequence[int]]:
        """The types with each footprint."""
        found: list[list[int]] = [[] for _ in self.footprints]
        for at, each in enumerate(self.types):
            found[each.footprint].append(at)
        return found

    @cached_property
    def footprint_of(self) -> Mapping[int, int]:
        """The footprint of each request."""
        return {request: each.footprint for each in self.types for request in each.requests}


_Outline = tuple[tuple[str, ...], Spread, int | None]
_Kind = tuple[_Outline, int, str | None, bool]
_Shape = frozenset[tuple[_Kind, int]]


def demand(problem: Problem) -> Demand:
    """Return the types of the problem's requests, and the shapes of its gangs."""
    node_sets: dict[frozenset[str], int] = {}
    alone: dict[_Kind, list[int]] = defaultdict(list)
    gangs: dict[str, dict[_Kind, list[int]]] = {}
    for index, request in enumerate(problem.requests):
        kind = _kind(problem, request, node_sets)
        if request.gang is None:
            alone[kind].append(index)
        else:
            gangs.setdefault(request.gang, defaultdict(list))[kind].append(index)
    alike: dict[_Shape, list[dict[_Kind, list[int]]]] = defaultdict(list)
    for members in gangs.values():
        alike[frozenset((kind, len(each)) for kind, each in members.items())].append(members)

    outlines: dict[_Outline, int] = {}
    types = [_type(problem, kind, requests, outlines) for kind, requests in alone.items()]
    shapes = []
    for same in alike.values():
        of_one: dict[int, int] = {}
        for kind, each in same[0].items():
            of_one[len(types)] = len(each)
            requests = [index for gang in same for index in gang[kind]]
            types.append(_type(problem, kind, requests, outlines))
        shapes.append(GangShape(len(same), of_one))
    items: dict[tuple[Item, ...], int] = {}
    footprints = [_footprint(problem, outline, items) for outline in outlines]
    return Demand(footprints, types, shapes, tuple(items), tuple(node_sets))


def _kind(problem: Problem, request: Request, node_sets: dict[frozenset[str], int]) -> _Kind:
    wanted, nodes = request.wanted, request.nodes
    outline = (
        wanted if len(wanted) == 1 else tuple(sorted(wanted)),
        # One vGPU can neither share a GPU with the others nor avoid it.
        Spread.ANY if len(wanted) == 1 else request.spread,
        None if nodes is None else node_sets.setdefault(nodes, len(node_sets)),
    )
    tenant = request.tenant if request.tenant in problem.caps else None
    return outline, request.priority, tenant, request.required


def _type(
    problem: Problem, kind: _Kind, requests: Sequence[int], outlines: dict[_Outline, int]
) -> RequestType:
    outline, priority, tenant, required = kind
    return RequestType(
        footprint=outlines.setdefault(outline, len(outlines)),
        priority=priority,
        tenant=tenant,
        required=required,
        slices=problem.slices(problem.requests[requests[0]]),
        requests=tuple(requests),
    )


def _footprint(
    problem: Problem, outline: _Outline, items: dict[tuple[Item, ...], int]
) -> Footprint:
    wanted, spread, nodes = outline
    together = [wanted] if spread is Spread.SAME else [(name,) for name in wanted]
    # Names that stand for the same profiles on every model are the same item.
    columns = [tuple(_profiles(model, each) for model in problem.fleet.models) for each in together]
    indices = tuple(items.setdefault(column, len(items)) for column in columns)
    return Footprint(wanted, spread, nodes, indices)


def _profiles(model: GpuModel, names: Sequence[str]) -> Item:
    """Return the profiles that serve all the names on the model, or none."""
    profiles = [model.profile(name) for name in names]
    known = tuple(profile.id for profile in profiles if profile is not None)
    return known if len(known) == len(profiles) else ()
