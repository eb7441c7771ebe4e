"""The number of moves beside an exhaustive search, on two and three GPUs."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from extender import moves
from extender.packing.relocation import Host, Occupant
from extender.packing.room import Room, make_room
from extender.packing.tables import Tables, tables
from extender.policy import PolicyName
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Occupancy, Placement, Profile

MOST_MOVES = 3

Layout = tuple[tuple[int, int], ...]
"""(profile id, start) of everything on a GPU, in order."""


class Exhaustive:
    """Looks at every state that moves lead to; remembers what fits beside which layout."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._fitting: dict[tuple[Layout, int], tuple[int, ...]] = {}

    def fits(self, gpus: Sequence[Layout], wanted: Profile) -> bool:
        """Tell whether *wanted* fits on one of the GPUs as they are."""
        return any(self._starts(gpu, wanted.id) for gpu in gpus)

    def fewest_moves(self, gpus: Sequence[Layout], wanted: Profile) -> int | None:
        """Return the fewest moves after which *wanted* fits, None if three are not enough."""
        start = tuple(sorted(gpus))
        seen, queue = {start}, deque([(start, 0)])
        while queue:
            now, moves = queue.popleft()
            if self.fits(now, wanted):
                return moves
            if moves < MOST_MOVES:
                for then in self._moved(now):
                    if then not in seen:
                        seen.add(then)
                        queue.append((then, moves + 1))
        return None

    def _moved(self, gpus: Sequence[Layout]) -> Iterator[tuple[Layout, ...]]:
        for source, target in itertools.product(range(len(gpus)), repeat=2):
            others = [gpu for at, gpu in enumerate(gpus) if at not in (source, target)]
            for item in gpus[source]:
                left = tuple(each for each in gpus[source] if each != item)
                base = left if source == target else gpus[target]
                for start in self._starts(gpus[target], item[0]):
                    then = tuple(sorted((*base, (item[0], start))))
                    changed = (then,) if source == target else (left, then)
                    yield tuple(sorted((*others, *changed)))

    def _starts(self, layout: Layout, profile_id: int) -> tuple[int, ...]:
        known = self._fitting.get((layout, profile_id))
        if known is None:
            legal = self._geometry.legal(
                _state(self._geometry, layout), self._geometry.by_id[profile_id]
            )
            known = self._fitting[layout, profile_id] = tuple(each.start for each in legal)
        return known


def _state(geometry: Geometry, layout: Layout) -> Occupancy:
    state = geometry.empty
    for profile_id, start in layout:
        size = geometry.by_id[profile_id].size
        state = geometry.occupied(state, profile_id, Placement(start, size))
    return state


def hosts(of: Tables, gpus: Sequence[Layout]) -> tuple[Host, ...]:
    """Return GPUs as the planner sees them; everything on them may be moved."""
    profiles = of.geometry.by_id
    serves = {profile.name: profile.id for profile in of.geometry.profiles}
    return tuple(
        Host(
            f"GPU-{at}",
            of,
            serves,
            tuple(
                Occupant(f"{at}/{n}", profiles[id].name, id, Placement(start, profiles[id].size))
                for n, (id, start) in enumerate(layout)
            ),
        )
        for at, layout in enumerate(gpus)
    )


def admitting(of: Tables, gpus: Sequence[Layout], wanted: str) -> moves.Problem:
    """Return the problem to have one more of a profile, with as few moves as are looked for."""
    found = [
        moves.Host(
            host.uuid,
            host.uuid,
            host.tables,
            host.serves,
            tuple(
                moves.Occupant(
                    each.id,
                    each.resource,
                    each.profile_id,
                    each.placement,
                    moves.Movable(moves.How.RESTART, each.placement.size),
                )
                for each in host.occupants
            ),
        )
        for host in hosts(of, gpus)
    ]
    goal = moves.Admit((moves.Wanted("wanted", wanted),))
    return moves.Problem(found, (goal,), most_moves=MOST_MOVES)


def layouts(geometry: Geometry) -> list[Layout]:
    """Return everything a GPU can hold, counting profiles of one shape once."""
    shapes: dict[tuple[int, tuple[int, ...]], Profile] = {}
    for profile in geometry.profiles:
        if not profile.limited:
            shapes.setdefault((profile.size, profile.starts), profile)
    seen: set[Layout] = {()}
    frontier: list[Layout] = [()]
    while frontier:
        now = frontier.pop()
        for profile in shapes.values():
            for placement in geometry.legal(_state(geometry, now), profile):
                then = tuple(sorted((*now, (profile.id, placement.start))))
                if then not in seen:
                    seen.add(then)
                    frontier.append(then)
    return sorted(seen)


def symmetries(geometry: Geometry) -> list[tuple[int, ...]]:
    """Return the permutations of memory slices under which placements are placements.

    Of every profile that is counted by its slices alone; whatever moves do to a layout they do to
    its image, too.
    """
    masks = [
        frozenset(each.mask for each in profile.placements)
        for profile in geometry.profiles
        if not profile.limited
    ]
    slices = range(geometry.memory_slices)
    return [
        images
        for images in itertools.permutations(slices)
        if all(_image(images, mask) in of for of in masks for mask in of)
    ]


def _image(images: Sequence[int], mask: int) -> int:
    return sum(1 << images[at] for at in range(len(images)) if mask >> at & 1)


def layout_classes(geometry: Geometry) -> list[list[Layout]]:
    """Return all layouts, those together that are alike but for the order of slices."""
    images = symmetries(geometry)
    classes: dict[Layout, list[Layout]] = {}
    for layout in layouts(geometry):
        masks = [(id, Placement(at, geometry.by_id[id].size).mask) for id, at in layout]
        alike = min(
            tuple(sorted((id, _first(_image(each, mask))) for id, mask in masks)) for each in images
        )
        classes.setdefault(alike, []).append(layout)
    return list(classes.values())


def _first(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


Case = tuple[tuple[Layout, ...], str]
"""What is on each GPU, and the profile for which there is no room."""

GEOMETRY = MODELS["H100-80GB"].geometry

CASES_IN_A_PART = 2_000


def cases(*, pairs: int | None, triples: int, seed: int = 1) -> tuple[list[Case], list[Case]]:
    """Return random triples of layouts, and all pairs of classes of them or so many pairs.

    The pairs each with a profile that does not fit as they are; a class is there by any layout of
    it, for what moves lead to is the same for all. All of them are shuffled, so that some are a
    sample.
    """
    chance, search = random.Random(seed), Exhaustive(GEOMETRY)
    known = layouts(GEOMETRY)
    wanted = [profile for profile in GEOMETRY.profiles if not profile.limited]
    crowded = [each for each in known if len(each) >= 2]
    three: list[Case] = [
        (tuple(chance.choices(crowded, k=3)), chance.choice(wanted).name) for _ in range(triples)
    ]
    two: list[Case] = []
    if pairs is None:
        for both in itertools.combinations_with_replacement(layout_classes(GEOMETRY), 2):
            gpus = tuple(chance.choice(each) for each in both)
            two += [(gpus, each.name) for each in wanted if not search.fits(gpus, each)]
        chance.shuffle(two)
    while pairs is not None and len(two) < pairs:
        gpus, profile = tuple(chance.choices(known, k=2)), chance.choice(wanted)
        if not search.fits(gpus, profile):
            two.append((gpus, profile.name))
    return three, two


def parts(of: Iterable[Sequence[Case]]) -> list[Sequence[Case]]:
    """Return cases in parts that take a minute or two each."""
    return [
        each[at : at + CASES_IN_A_PART]
        for each in of
        for at in range(0, len(each), CASES_IN_A_PART)
    ]


def compared(of: Sequence[Case]) -> dict[str, Any]:
    """Compare with the exhaustive search.

    Both who explains what would help one pod, and the planner whose plans are carried out.
    """
    by, search = tables(GEOMETRY, PolicyName.DEFAULT), Exhaustive(GEOMETRY)
    by_name = {profile.name: profile for profile in GEOMETRY.profiles}
    counts: Counter[str] = Counter()
    took: dict[str, list[float]] = {"explained": [], "planned": []}
    differing: list[str] = []
    for gpus, name in of:
        least = search.fewest_moves(gpus, by_name[name])
        counts["none" if least is None else str(least)] += 1
        for whose, moved in (("explained", _explained), ("planned", _planned)):
            started = time.perf_counter()
            ours = moved(by, gpus, name)
            took[whose].append(time.perf_counter() - started)
            if ours != least:
                differing.append(f"{whose} {gpus} {name}: {ours} instead of {least}")
    return {
        "cases": len(of),
        "gpus": dict(sorted(Counter(str(len(gpus)) for gpus, _ in of).items())),
        "differing": len(differing),
        "first_differing": differing[:5],
        "by_moves": dict(sorted(counts.items())),
        "ms_mean": {whose: round(1000 * statistics.fmean(each), 3) for whose, each in took.items()},
        "ms_most": {whose: round(1000 * max(each), 3) for whose, each in took.items()},
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return what parts come to together, as a Markdown table."""
    kinds = ("0", "1", "2", "3", "none")
    counts = [sum(row["by_moves"].get(kind, 0) for row in rows) for kind in kinds]
    gpus = {many: sum(row["gpus"].get(many, 0) for row in rows) for many in ("2", "3")}
    slowest = max(row["ms_most"]["planned"] for row in rows)
    cells = (*gpus.values(), *counts, sum(row["differing"] for row in rows), f"{slowest:.0f}")
    heads = ("cases of 2 GPUs", "of 3", "0 moves", "1", "2", "3", "more, or none", "differing")
    return "\n".join(
        [
            "| " + " | ".join((*heads, "slowest plan, ms")) + " |",
            "|" + "---|" * (len(heads) + 1),
            "| " + " | ".join(f"{each}" for each in cells) + " |",
        ]
    )


def _explained(of: Tables, gpus: Sequence[Layout], wanted: str) -> int | None:
    found = make_room(hosts(of, gpus), wanted, most_moves=MOST_MOVES)
    return len(found.moves) if isinstance(found, Room) else None


def _planned(of: Tables, gpus: Sequence[Layout], wanted: str) -> int | None:
    found = moves.plan(admitting(of, gpus, wanted), seconds=60, clock=time.monotonic)
    return len(found.moves) if isinstance(found, moves.Plan) else None
