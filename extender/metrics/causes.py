"""Whether a request found no room for want of capacity, or because free slices lie badly.

The measure is the simulation's: a request that would fit if every instance on GPUs of the same kind
might be moved is refused for fragmentation, any other for want of capacity. For a pod with several
instances it is not asked whether they would come to lie on one node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import cast

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


CLOSED_FORM = 100_000
"""What a test affords (``Fits.affordable``) that has a closed form."""


class Cause(StrEnum):
    """Why there was no room. ``UNKNOWN``: it was not worked out, for it would take too long."""

    CAPACITY = "capacity"
    FRAGMENTATION = "fragmentation"
    UNKNOWN = "unknown"


class _Alike(msgspec.Struct, frozen=True):
    """GPUs of a node that serve the same: how many, and the instances on them by profile id.

    ``geometry`` is its content hash, which is quicker to compare.
    """

    model: str
    geometry: str
    serves: Mapping[str, int]
    gpus: int
    instances: Counter[int]


class _Content(msgspec.Struct):
    """All GPUs of a kind that could take each other's instances."""

    model: str
    geometry: Geometry
    wanted: tuple[int, ...]
    gpus: int = 0
    instances: Counter[int] = msgspec.field(default_factory=Counter)


def cause(views: Iterable[NodeView], wanted: Wanted, bounds: Bounds | None = None) -> Cause:
    """Return why there is no room for *wanted* on those nodes that lack nothing else."""
    contents: dict[tuple[str, str, tuple[int | None, ...]], _Content] = {}
    for view in views:
        found = verdict(view, wanted, bounds=bounds)
        if not isinstance(found, Refused) or found.code is not Code.NO_ROOM:
            continue
        for each in _there(view):
            profiles = tuple(map(each.serves.get, wanted))
            served = tuple(profile for profile in profiles if profile is not None)
            if len(served) < len(wanted):
                continue
            kind = (each.model, each.geometry, profiles)
            if kind not in contents:
                geometry = view.node.status.geometries[each.geometry]
                contents[kind] = _Content(each.model, geometry, served)
            contents[kind].gpus += each.gpus
            contents[kind].instances.update(each.instances)
    answers = set(map(_hold, contents.values()))
    if True in answers:
        return Cause.FRAGMENTATION
    return Cause.UNKNOWN if None in answers else Cause.CAPACITY


def _there(view: NodeView) -> Iterable[_Alike]:
    known = view.memo.get("alike")
    if known is None:
        known = view.memo["alike"] = tuple(_alike(view))
    return cast(Iterable[_Alike], known)


def _alike(view: NodeView) -> Iterator[_Alike]:
    taken: dict[str, list[int]] = defaultdict(list)
    for each in view.taken:
        taken[each.gpu].append(each.profile_id)
    kinds: dict[tuple[str, str, int], list[tuple[str, Mapping[str, int]]]] = defaultdict(list)
    for gpu, bin in zip(view.usable, view.bins(), strict=True):
        kinds[gpu.model, gpu.geometry, id(bin.serves)].append((gpu.uuid, bin.serves))
    for (model, geometry, _), gpus in kinds.items():
        instances = Counter(profile for uuid, _ in gpus for profile in taken[uuid])
        yield _Alike(model, geometry, gpus[0][1], len(gpus), instances)


def _hold(content: _Content) -> bool | None:
    """Tell whether GPUs would hold what is wanted besides their instances; None: not known."""
    geometry = content.geometry
    counts = content.instances + Counter(content.wanted)
    known = {id: geometry.by_id.get(id) for id in counts}
    profiles = {id: profile for id, profile in known.items() if profile is not None}
    slices = sum(count * profiles[id].size for id, count in counts.items() if id in profiles)
    if slices > content.gpus * geometry.memory_slices:
        return False
    if len(profiles) < len(counts):
        return None  # something made by another driver, with a profile that is no more
    fleet = Fleet((Group(content.model, geometry, content.gpus),))
    fits = repack_test(fleet, [Kind(each.name, (each,)) for each in profiles.values()])
    if fits.affordable < CLOSED_FORM and content.gpus > MOST_SEARCHED:
        return None
    try:
        return fits([counts[id] for id in profiles])
    except Unsolved:
        return None
