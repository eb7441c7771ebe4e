"""The number of moves beside an exhaustive search, on two and three GPUs."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
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


def compared(
    *, pairs: int | None, triples: int, progress: Callable[[str], None], seed: int = 1
) -> dict[str, Any]:
    """Compare with the exhaustive search: all pairs of layouts or some, and random triples.

    Both who explains what would help one pod, and the planner whose plans are carried out.
    """
    geometry = MODELS["H100-80GB"].geometry
    of, chance, search = (
        tables(geometry, PolicyName.DEFAULT),
        random.Random(seed),
        Exhaustive(geometry),
    )
    known = layouts(geometry)
    wanted = [profile for profile in geometry.profiles if not profile.limited]
    cases = list(_pairs(search, known, wanted, pairs, chance))
    crowded = [each for each in known if len(each) >= 2]
    cases += [(tuple(chance.choices(crowded, k=3)), chance.choice(wanted)) for _ in range(triples)]
    counts: Counter[str] = Counter()
    took: dict[str, list[float]] = {"explained": [], "planned": []}
    differing: list[str] = []
    for number, (gpus, profile) in enumerate(cases):
        if number % 10_000 == 0:
            progress(f"{number} of {len(cases)}")
        least = search.fewest_moves(gpus, profile)
        counts["none" if least is None else str(least)] += 1
        for whose, moved in (("explained", _explained), ("planned", _planned)):
            started = time.perf_counter()
            ours = moved(of, gpus, profile.name)
            took[whose].append(time.perf_counter() - started)
            if ours != least:
                differing.append(f"{whose} {gpus} {profile.name}: {ours} instead of {least}")
    return {
        "cases": len(cases),
        "differing": len(differing),
        "first_differing": differing[:5],
        "by_moves": dict(sorted(counts.items())),
        "ms_mean": {whose: round(1000 * statistics.fmean(each), 3) for whose, each in took.items()},
        "ms_most": {whose: round(1000 * max(each), 3) for whose, each in took.items()},
    }


def _explained(of: Tables, gpus: Sequence[Layout], wanted: str) -> int | None:
    found = make_room(hosts(of, gpus), wanted, most_moves=MOST_MOVES)
    return len(found.moves) if isinstance(found, Room) else None


def _planned(of: Tables, gpus: Sequence[Layout], wanted: str) -> int | None:
    found = moves.plan(admitting(of, gpus, wanted), seconds=60, clock=time.monotonic)
    return len(found.moves) if isinstance(found, moves.Plan) else None


def _pairs(
    search: Exhaustive,
    known: Sequence[Layout],
    wanted: Sequence[Profile],
    many: int | None,
    chance: random.Random,
) -> Iterator[tuple[tuple[Layout, ...], Profile]]:
    """Yield all pairs of layouts on which a profile does not fit, or so many drawn at random."""
    if many is None:
        pairs = itertools.combinations_with_replacement(known, 2)
        every = itertools.product(pairs, wanted)
        yield from (each for each in every if not search.fits(*each))
        return
    while many:
        drawn = (tuple(chance.choices(known, k=2)), chance.choice(wanted))
        if not search.fits(*drawn):
            many -= 1
            yield drawn
