"""Small fleets as they might stand, for what-ifs: every GPU holds what could have come to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from hypothesis import strategies as st

from extender.policy import Policy, PolicyName
from extender.simulation.baseline import Baseline, Gpu, Held, Kin, Node, Requests
from extender.simulation.contenders import Contender, of_policy
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry
from nodeagent.api.gpunode import Mode

H100, A30 = MODELS["H100-80GB"], MODELS["A30-24GB"]
NAMES = {p.name: p for p in H100.geometry.profiles}


def kin(model: str = "H100-80GB", serves: Sequence[str] = ()) -> Kin:
    """GPUs that offer all profiles, or those *serves* names."""
    geometry = MODELS[model].geometry
    ids = (p.id for p in geometry.profiles if not serves or p.name in serves)
    return Kin(model, geometry, tuple(ids), Mode.CONTAINER)


def gpu(*held: tuple[str, int], fixed: bool = False) -> Gpu:
    """An H100 with these profiles, each at a start."""
    return Gpu(0, tuple(Held(NAMES[name].id, start, fixed) for name, start in held))


def baseline(
    *nodes: Sequence[Gpu] | Node, kins: Sequence[Kin] = (), requests: Requests | None = None
) -> Baseline:
    """A fleet of nodes called a, b, …, whose GPUs are H100 unless *kins* say otherwise."""
    named = (
        each if isinstance(each, Node) else Node(chr(ord("a") + at), gpus=tuple(each))
        for at, each in enumerate(nodes)
    )
    return Baseline(
        "2026-01-05T00:00:00Z",
        "default",
        tuple(kins) or (kin(),),
        tuple(named),
        requests or Requests(),
    )


def default(_: Baseline) -> Contender:
    """The default policy, whatever the fleet."""
    return of_policy(Policy(PolicyName.DEFAULT))


@st.composite
def held(draw: st.DrawFn, geometry: Geometry) -> tuple[Held, ...]:
    """What may have come to a GPU."""
    state, found = geometry.empty, []
    for profile in draw(st.lists(st.sampled_from(geometry.profiles), max_size=5)):
        legal = list(geometry.legal(state, profile))
        if legal:
            placement = draw(st.sampled_from(legal))
            state = geometry.occupied(state, profile.id, placement)
            found.append(Held(profile.id, placement.start, draw(st.integers(0, 9)) == 0))
    return tuple(found)


@st.composite
def fleets(draw: st.DrawFn, *, most_nodes: int = 3, most_gpus: int = 2) -> Baseline:
    """A few nodes of two models, some of which take nothing new."""
    kins = (kin(), kin("A30-24GB"))
    nodes = []
    for at in range(draw(st.integers(1, most_nodes))):
        number = draw(st.integers(0, 1))
        count = draw(st.integers(1, most_gpus))
        gpus = tuple(Gpu(number, draw(held(kins[number].geometry))) for _ in range(count))
        why = "the node is cordoned" if draw(st.integers(0, 7)) == 0 else ""
        nodes.append(Node(chr(ord("a") + at), why, gpus))
    return baseline(*nodes, kins=kins)


@cache
def contents(geometry: Geometry, names: tuple[str, ...]) -> frozenset[tuple[int, ...]]:
    """Everything that an empty GPU can hold of these profiles, by trying each at each place."""
    known = {p.name: p for p in geometry.profiles}
    profiles = [known.get(name) for name in names]
    start = (geometry.empty, (0,) * len(names))
    seen, ahead = {start}, [start]
    while ahead:
        state, held = ahead.pop()
        for at, profile in enumerate(profiles):
            if profile is None:
                continue
            for placement in geometry.legal(state, profile):
                then = geometry.occupied(state, profile.id, placement)
                more = (then, (*held[:at], held[at] + 1, *held[at + 1 :]))
                if more not in seen:
                    seen.add(more)
                    ahead.append(more)
    return frozenset(held for _, held in seen)


def can_hold(geometries: Sequence[Geometry], wanted: Mapping[str, int]) -> bool:
    """Whether these GPUs, empty, can hold all that is wanted: by trying every way to share it."""
    names = tuple(sorted(name for name, count in wanted.items() if count))
    there = {(0,) * len(names)}
    limit = tuple(wanted[name] for name in names)
    for geometry in geometries:
        there = {
            tuple(min(a + b, most) for a, b, most in zip(one, other, limit, strict=True))
            for one in there
            for other in contents(geometry, names)
        }
    return limit in there
