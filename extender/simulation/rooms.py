"""How many more of each profile fit a fleet, and how many GPUs would hold what is wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from extender.simulation.at_best import AtBest, Counts, fewest_gpus, most
from extender.simulation.baseline import Baseline
from extender.simulation.fleet import Kind
from extender.simulation.stand import Stand


class Room(msgspec.Struct, frozen=True):
    """How many more of a profile fit, if nothing else comes: without moving anything, and at best.

    ``before``: without moving anything, and without nodes added or removed.
    """

    now: int
    at_best: int
    before: int


def fitting(there: Stand) -> Counter[str]:
    """Return how many of each profile fit without moving anything, if nothing else comes."""
    found: Counter[str] = Counter()
    for number, gpus in Counter(there.states.tolist()).items():
        group, state = there.board.states[number]
        tables = there.tables[group]
        for kind in there.kinds:
            profile = kind.profiles[group]
            if profile is not None and profile.name == kind.name:
                found[kind.name] += gpus * tables.at_once(state, profile)
    return found


def rooms(
    baseline: Baseline, there: Stand, at_best: AtBest, homeless: Counts, before: Counter[str]
) -> Iterator[tuple[str, Room]]:
    """Yield each profile that is offered, the largest first, with the room for it.

    At best, the homeless come first. What stands on GPUs on which not everything may be moved stays
    there, and what fits beside it fits at best, too.
    """
    offered = {
        kin.geometry.by_id[id].name
        for kin in baseline.kin
        for id in kin.serves
        if id in kin.geometry.by_id
    }
    now = fitting(there)
    taken = [held + more for held, more in zip(there.held, homeless, strict=True)]
    limit = there.board.fleet.memory_slices
    for at, kind in enumerate(there.kinds):
        if kind.name not in offered:
            continue

        def fits(number: int, at: int = at) -> bool:
            return at_best([*taken[:at], taken[at] + number, *taken[at + 1 :]])

        best = max(0, most(fits, limit))
        yield kind.name, Room(now[kind.name], max(best, now[kind.name]), before[kind.name])


def needed(there: Stand, wanted: Counts) -> dict[str, int | None]:
    """Return, by model, how many GPUs of it alone hold what is wanted."""
    found: dict[str, int | None] = {}
    for at, group in enumerate(there.board.fleet.groups):
        kinds = [Kind(kind.name, (kind.profiles[at],)) for kind in there.kinds]
        number = fewest_gpus(group, kinds, wanted)
        known = found.get(group.model)
        found[group.model] = number if known is None else min(known, number or known)
    return found
