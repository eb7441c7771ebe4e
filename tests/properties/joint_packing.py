"""Small random packing problems, and their best answer by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from hypothesis import strategies as st

from extender.packing.choose import Bin
from extender.packing.problem import Fleet, Problem, Request
from extender.packing.spread import Spread
from extender.packing.tables import tables
from extender.packing.value import unusable_slices
from extender.policy import PolicyName
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Occupancy
from tests.properties.geometries import KNOWN, made_up

NAMES = {
    "A30-24GB": {"small": 14, "media": 21, "middle": 5, "whole": 0},
    "H100-80GB": {"small": 19, "media": 20, "middle": 9, "half": 5, "whole": 0, "pair": 14},
    "RTX-PRO-6000-Blackwell-96GB": {"small": 14, "media": 21, "middle": 5, "whole": 0},
}
"""Resource names that mean different profiles on different models, as vGPU names do not."""


Kind = tuple[Geometry, Mapping[str, int]]
"""A geometry, and the profile ids that resource names mean on it."""


@st.composite
def kinds(draw: st.DrawFn) -> list[Kind]:
    """The catalog's geometries, and one that nobody has made yet."""
    geometry = draw(made_up())
    ids = st.sampled_from([profile.id for profile in geometry.profiles])
    names = draw(st.dictionaries(st.sampled_from(sorted(NAMES["H100-80GB"])), ids, min_size=1))
    return [*((MODELS[name].geometry, NAMES[name]) for name in KNOWN), (geometry, names)]


@st.composite
def gpus(draw: st.DrawFn, kinds: Sequence[Kind], uuid: str, most_held: int) -> Bin:
    geometry, names = draw(st.sampled_from(kinds))
    occupancy, held = geometry.empty, []
    for profile in draw(st.lists(st.sampled_from(geometry.profiles), max_size=most_held)):
        if options := list(geometry.legal(occupancy, profile)):
            held.append((profile.id, draw(st.sampled_from(options))))
            occupancy = geometry.occupied(occupancy, *held[-1])
    of = tables(geometry, PolicyName.DEFAULT)
    return Bin(uuid, of, of.holding(held), names)


@st.composite
def problems(
    draw: st.DrawFn, *, spreads: Sequence[Spread] = tuple(Spread), most: int = 4, gpus_each: int = 2
) -> Problem:
    names = [f"node-{index}" for index in range(draw(st.integers(1, 3)))]
    known = draw(kinds())
    nodes = {
        name: [
            draw(gpus(known, f"{name}-gpu-{index}", 2))
            for index in range(draw(st.integers(1, gpus_each)))
        ]
        for name in names
    }
    some = draw(st.lists(st.frozensets(st.sampled_from([*names, "gone"]), min_size=1), max_size=2))
    requests = []
    for index in range(draw(st.integers(1, most))):
        wanted = draw(st.lists(st.sampled_from(sorted(NAMES["H100-80GB"])), min_size=1, max_size=2))
        requests.append(
            Request(
                id=f"vm-{index}",
                wanted=tuple(wanted),
                priority=draw(st.sampled_from((0, 0, 10))),
                gang=draw(st.sampled_from((None, None, None, "gang"))),
                spread=draw(st.sampled_from(spreads)),
                nodes=draw(st.sampled_from((None, None, *some))),
                tenant=draw(st.sampled_from((None, "team"))),
                required=draw(st.integers(0, 15)) == 15,
            )
        )
    caps = draw(st.sampled_from(({}, {"team": 3}, {"team": 6})))
    return Problem(Fleet.of(nodes), requests, caps)


@st.composite
def vms_over_gpus(draw: st.DrawFn) -> Problem:
    """VMs of two or three vGPUs each, on few small GPUs that they may have to share."""
    geometry = MODELS["A30-24GB"].geometry
    names = NAMES["A30-24GB"]
    nodes: dict[str, list[Bin]] = {}
    for node in range(draw(st.integers(1, 2))):
        gpus = nodes.setdefault(f"node-{node}", [])
        for gpu in range(draw(st.integers(2, 3))):
            occupancy = geometry.empty
            for start in draw(st.sets(st.integers(0, 3), max_size=3)):
                small = geometry.by_id[names["small"]]
                placement = next(p for p in small.placements if p.start == start)
                occupancy = geometry.occupied(occupancy, small.id, placement)
            uuid = f"node-{node}-gpu-{gpu}"
            gpus.append(Bin(uuid, tables(geometry, PolicyName.DEFAULT), occupancy, names))
    requests = []
    for index in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(("small", "small", "middle")))
        requests.append(
            Request(
                f"vm-{index}",
                (name,) * draw(st.integers(2, 2 if name == "middle" else 3)),
                priority=draw(st.sampled_from((0, 0, 10))),
                spread=draw(st.sampled_from((Spread.ANY, Spread.DISTINCT))),
                gang=draw(st.sampled_from((None, None, "gang"))),
            )
        )
    requests.append(Request("alone", (draw(st.sampled_from(("small", "middle"))),)))
    return Problem(Fleet.of(nodes), requests)


def best(problem: Problem) -> tuple[int, ...] | None:
    """Return the levels of the best solution, or None if what is required cannot be placed.

    All partial plans are carried along, as (occupancies, admitted or not); of those that differ
    only by which of a node's GPUs that began alike has what, one.
    """
    fleet = problem.fleet
    start = tuple(fleet.states[state].occupancy for state in fleet.state)
    alike = _alike(fleet)
    plans: set[tuple[tuple[Occupancy, ...], tuple[bool, ...]]] = {(start, ())}
    for request in problem.requests:
        plans = {
            (_in_order(after, alike), (*admitted, placed))
            for occupancies, admitted in plans
            for placed, after in [
                *([] if request.required else [(False, occupancies)]),
                *((True, after) for after in arrangements(problem, occupancies, request)),
            ]
            if _gang_holds(problem, (*admitted, placed))
        }
    values = [_levels(problem, start, *plan) for plan in plans if _caps_hold(problem, plan[1])]
    return max(values, default=None)


def _alike(fleet: Fleet) -> tuple[tuple[int, ...], ...]:
    """Return the GPUs of each node that are in the same state, by number."""
    groups: dict[tuple[int, int], list[int]] = {}
    for node in range(len(fleet.nodes)):
        for gpu in range(int(fleet.first[node]), int(fleet.first[node + 1])):
            groups.setdefault((node, int(fleet.state[gpu])), []).append(gpu)
    return tuple(tuple(each) for each in groups.values() if len(each) > 1)


def _in_order(
    occupancies: tuple[Occupancy, ...], alike: Sequence[Sequence[int]]
) -> tuple[Occupancy, ...]:
    """Have equal GPUs in one order; of two whose hashes are equal, both orders are tried."""
    found = list(occupancies)
    for group in alike:
        in_order = sorted((found[gpu] for gpu in group), key=hash)
        for gpu, occupancy in zip(group, in_order, strict=True):
            found[gpu] = occupancy
    return tuple(found)


def arrangements(
    problem: Problem, occupancies: tuple[Occupancy, ...], request: Request
) -> Iterator[tuple[Occupancy, ...]]:
    """Yield what all ways to place a request lead to."""
    fleet = problem.fleet
    for node, name in enumerate(fleet.nodes):
        if request.nodes is not None and name not in request.nodes:
            continue
        here = range(int(fleet.first[node]), int(fleet.first[node + 1]))
        for chosen in itertools.product(here, repeat=len(request.wanted)):
            if request.spread is Spread.SAME and len(set(chosen)) > 1:
                continue
            if request.spread is Spread.DISTINCT and len(set(chosen)) < len(chosen):
                continue
            states = {occupancies}
            for gpu, wanted in zip(chosen, request.wanted, strict=True):
                model = fleet.states[fleet.state[gpu]].model
                geometry = model.tables.geometry
                profile = geometry.by_id.get(model.serves.get(wanted, -1))
                states = {
                    (*s[:gpu], geometry.occupied(s[gpu], profile.id, placement), *s[gpu + 1 :])
                    for s in states
                    if profile is not None
                    for placement in geometry.legal(s[gpu], profile)
                }
            yield from states


def _gang_holds(problem: Problem, admitted: Sequence[bool]) -> bool:
    fates: dict[str, bool] = {}
    for request, placed in zip(problem.requests, admitted, strict=False):
        if request.gang is not None and fates.setdefault(request.gang, placed) != placed:
            return False
    return True


def _caps_hold(problem: Problem, admitted: Sequence[bool]) -> bool:
    return all(
        sum(
            problem.slices(request)
            for request, placed in zip(problem.requests, admitted, strict=True)
            if placed and request.tenant == tenant
        )
        <= cap
        for tenant, cap in problem.caps.items()
    )


def _levels(
    problem: Problem,
    before: Sequence[Occupancy],
    after: Sequence[Occupancy],
    admitted: Sequence[bool],
) -> tuple[int, ...]:
    slices = [
        sum(
            problem.slices(request)
            for request, placed in zip(problem.requests, admitted, strict=True)
            if placed and request.priority == priority
        )
        for priority in problem.priorities
    ]
    states = [problem.fleet.states[state] for state in problem.fleet.state]
    value = sum(
        unusable_slices(state.model.tables.geometry, now)
        - unusable_slices(state.model.tables.geometry, then)
        for state, then, now in zip(states, before, after, strict=True)
    )
    used = sum(then != now and then.mask == 0 for then, now in zip(before, after, strict=True))
    return (*slices, value, -used)
