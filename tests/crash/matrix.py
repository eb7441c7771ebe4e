"""Which cases there are: the points of an undisturbed story, each alone and each with a second."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence

from nodeagent.api.gpunode import Mode
from tests.crash.case import Case
from tests.crash.points import AFTER, ANY, API, BEFORE, NVML, Point

CHANGING = ("InstanceDestroy", "CreateGpuInstance", "CreateComputeInstance", "SetMigMode")
"""What the names of NVML calls that change a GPU have in them; the others only ask."""
READS = 3
"""So many of the calls of each kind that changes nothing are died at."""
LATEST = 40
"""By so many crossings in its process an agent in recovery has died, if it does not live on."""


def cases(mode: Mode, crossed: Iterable[Point], *, seed: int) -> Iterator[Case]:
    """Yield the cases of a *mode*, given what its undisturbed story has *crossed*."""
    chance = random.Random(f"{seed}/{mode}")
    for point in points(crossed, chance):
        yield Case(mode, point)
        yield Case(mode, point, _second(chance))


def sample(every: Sequence[Case], count: int, *, seed: int) -> Sequence[Case]:
    """Return so many of the cases, of each mode and each kind of point about as many."""
    chance = random.Random(seed)
    groups: dict[tuple[Mode, str], list[Case]] = {}
    for case in chance.sample(every, len(every)):
        groups.setdefault((case.mode, case.first.kind if case.first else ""), []).append(case)
    rounds = itertools.zip_longest(*(groups[name] for name in sorted(groups)))
    return [case for each in rounds for case in each if case is not None][:count]


def points(crossed: Iterable[Point], chance: random.Random) -> Sequence[Point]:
    """Return where to die: wherever something is changed, and at some of the other crossings."""
    every = sorted(set(crossed))
    chosen = {each for each in every if _changes(each)}
    asking = {(each.kind, each.name) for each in every if not _changes(each)}
    for kind, name in sorted(asking):
        some = [each for each in every if (each.kind, each.name) == (kind, name)]
        chosen.update(chance.sample(some, min(READS, len(some))))
    return sorted(chosen)


def _changes(point: Point) -> bool:
    if point.kind == NVML:
        return any(word in point.name for word in CHANGING)
    if point.kind == API:
        return point.name.startswith(("create", "patch", "delete"))
    return True


_MENDING = (
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlGpuInstanceCreateComputeInstance",
    "nvmlComputeInstanceDestroy",
    "nvmlGpuInstanceDestroy",
)
"""The calls by which an agent in recovery mends something, where there is something to mend."""


def _second(chance: random.Random) -> Point:
    if chance.random() < 0.25:
        return Point(NVML, chance.choice(_MENDING), 1, chance.choice((BEFORE, AFTER)))
    return Point(ANY, "", chance.randint(1, LATEST), BEFORE)
