"""Whether a request found no room for want of capacity, or because free slices lie badly.

The measure is the simulation's: a request that would fit if every instance on GPUs of the same kind
might be moved is refused for fragmentation, any other for want of capacity. For a pod with several
instances it is not asked whether they would come to lie on one node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from extender.policy.bounds import Bounds
from extender.request import Wanted
from extender.simulation.fleet import Fleet, Group, Kind
from extender.simulation.repack import repack_test
from extender.simulation.solver import Unsolved
from extender.snapshot import NodeView
from extender.verbs.verdicts import Code, Refused, verdict
from nodeagent.api.geometry import Geometry

MOST_SEARCHED = 200
"""GPUs of a kind without a closed form, above which no search is begun: it takes seconds."""


class Cause(StrEnum):
    """Why there was no room. ``UNKNOWN``: it was not worked out, for it would take too long."""

    CAPACITY = "capacity"
    FRAGMENTATION = "fragmentation"
    UNKNOWN = "unknown"


class _Kind(msgspec.Struct, frozen=True):
    """What GPUs have in common that could take each other's instances: ``wanted`` are profiles."""

    model: str
    geometry: Geometry
    wanted: tuple[int, ...]


class _Content(msgspec.Struct):
    """So many GPUs of a kind, and the instances on them by profile id."""

    gpus: int = 0
    instances: Counter[int] = msgspec.field(default_factory=Counter)


def cause(views: Iterable[NodeView], wanted: Wanted, bounds: Bounds | None = None) -> Cause:
    """Return why there is no room for *wanted* on those nodes that lack nothing else."""
    contents: dict[_Kind, _Content] = defaultdict(_Content)
    for view in views:
        found = verdict(view, wanted, bounds=bounds)
        if isinstance(found, Refused) and found.code is Code.NO_ROOM:
            for kind, taken in _gpus(view, wanted):
                content = contents[kind]
                content.gpus += 1
                content.instances.update(taken)
    answers = {_hold(kind, content) for kind, content in contents.items()}
    if True in answers:
        return Cause.FRAGMENTATION
    return Cause.UNKNOWN if None in answers else Cause.CAPACITY


def _gpus(view: NodeView, wanted: Wanted) -> Iterator[tuple[_Kind, Iterable[int]]]:
    """Yield each GPU of a node that could serve all that is wanted, with the profiles on it."""
    taken: dict[str, list[int]] = defaultdict(list)
    for each in view.taken:
        taken[each.gpu].append(each.profile_id)
    for gpu, bin in zip(view.usable, view.bins(), strict=True):
        profiles = [bin.serves.get(resource) for resource in wanted]
        if None not in profiles:
            ids = tuple(profile for profile in profiles if profile is not None)
            kind = _Kind(gpu.model, view.node.status.geometries[gpu.geometry], ids)
            yield kind, taken[gpu.uuid]


def _hold(kind: _Kind, content: _Content) -> bool | None:
    """Tell whether GPUs would hold what is wanted besides their instances; None: not known."""
    counts = content.instances + Counter(kind.wanted)
    known = {id: kind.geometry.by_id.get(id) for id in counts}
    profiles = {id: profile for id, profile in known.items() if profile is not None}
    slices = sum(count * profiles[id].size for id, count in counts.items() if id in profiles)
    if slices > content.gpus * kind.geometry.memory_slices:
        return False
    if len(profiles) < len(counts):
        return None  # something made by another driver, with a profile that is no more
    fleet = Fleet((Group(kind.model, kind.geometry, content.gpus),))
    fits = repack_test(fleet, [Kind(each.name, (each,)) for each in profiles.values()])
    if fits.affordable < CLOSED_FORM and content.gpus > MOST_SEARCHED:
        return None
    try:
        return fits([counts[id] for id in profiles])
    except Unsolved:
        return None


CLOSED_FORM = 100_000
"""What a test affords (``Fits.affordable``) that has a closed form."""
