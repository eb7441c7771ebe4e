"""The argmin: where the GPU instances of one request go among the GPUs of one node.

The one function behind filter, prioritize, bind and preempt. A single instance takes the cheapest
legal placement; ties go to the GPU of the highest precedence (the fuller one, with more instances),
then to the lowest index. Several are arranged at the least cost in all, exactly, on one GPU or on
distinct ones where that is asked; ties go likewise, and among GPUs that are the same to the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from extender.packing.arrange import Kind, arrangement
from extender.packing.spread import Spread
from extender.packing.tables import Cheapest, Option, Tables
from nodeagent.api.geometry import Occupancy, Placement, Profile


class Bin(msgspec.Struct, frozen=True, gc=False):
    """A GPU that may receive instances; ``serves`` maps what is asked for to profile ids."""

    uuid: str
    tables: Tables
    occupancy: Occupancy
    serves: Mapping[str, int]

    def profile(self, wanted: str) -> Profile | None:
        """Return the profile that serves *wanted* here, if any does."""
        profile_id = self.serves.get(wanted)
        return None if profile_id is None else self.tables.geometry.by_id.get(profile_id)


class Placed(msgspec.Struct, frozen=True, gc=False):
    """One instance's place; ``bin`` is the index of its GPU among those given."""

    wanted: str
    bin: int
    uuid: str
    profile_id: int
    placement: Placement


class Choice(msgspec.Struct, frozen=True, gc=False):
    """A whole request placed: compare by ``cost``, then by ``tie`` (lower is better in both)."""

    cost: int
    tie: int
    placed: tuple[Placed, ...]


class Infeasible(msgspec.Struct, frozen=True):
    """No arrangement places the whole request."""


INFEASIBLE = Infeasible()


def choose(
    bins: Sequence[Bin], wanted: Sequence[str], spread: Spread = Spread.ANY
) -> Choice | Infeasible:
    """Place every one of *wanted* on the *bins*, if any arrangement does, at the least cost."""
    if len(wanted) == 1:
        return _one(bins, wanted[0])
    return _several(bins, wanted, spread) if enough(bins, wanted) else INFEASIBLE


def enough(bins: Sequence[Bin], wanted: Sequence[str]) -> bool:
    """Tell, by counting alone, whether the *bins* may hold all of *wanted*; if not, they do not."""
    counts = Counter(wanted)
    smallest = sum(count * _smallest(bins, each) for each, count in counts.items())
    if smallest > _free_slices(bins):
        return False
    return all(count <= sum(_most(bin, each) for bin in bins) for each, count in counts.items())


def _one(bins: Sequence[Bin], wanted: str) -> Choice | Infeasible:
    """Return the cheapest placement; ties go by precedence, then to the first."""
    best: Option | None = None
    at = 0
    tables: Tables | None = None
    serves: Mapping[str, int] | None = None
    known: Cheapest | None = None
    for index, bin in enumerate(bins):  # of every node that changes, so nothing is made in vain
        if bin.serves is not serves or bin.tables is not tables:  # else one like the one before
            tables, serves = bin.tables, bin.serves
            profile_id = serves.get(wanted)
            known = None if profile_id is None else tables.cheapest(profile_id)
        option = None if known is None else known[bin.occupancy]
        if option is None or (
            best is not None
            and (option.cost > best.cost or (option.cost == best.cost and option.tie >= best.tie))
        ):
            continue
        best, at = option, index
    if best is None:
        return INFEASIBLE
    bin = bins[at]
    placed = Placed(wanted, at, bin.uuid, bin.serves[wanted], best.placement)
    return Choice(best.cost, best.tie, (placed,))


def _several(bins: Sequence[Bin], wanted: Sequence[str], spread: Spread) -> Choice | Infeasible:
    """Return the cheapest arrangement, worked out once for all nodes with the same GPUs."""
    # Names that stand for the same profiles here are one: the fewer, the less there is to count.
    columns = {name: tuple(_profile_id(bin, name) for bin in bins) for name in set(wanted)}
    names: dict[tuple[int | None, ...], list[str]] = {}
    for name in sorted(wanted):
        names.setdefault(columns[name], []).append(name)
    # The scarcest first, for policies whose costs depend on the order.
    order = sorted(names, key=lambda column: (len(names[column]), names[column][0]))
    kinds = [
        Kind(bin.tables, bin.occupancy, tuple(column[at] for column in order))
        for at, bin in enumerate(bins)
    ]
    by_kind = sorted(range(len(bins)), key=lambda at: (*_sorting(kinds[at]), at))
    found = arrangement(
        tuple(kinds[at] for at in by_kind), tuple(len(names[column]) for column in order), spread
    )
    if found is None:
        return INFEASIBLE
    left = [list(reversed(names[column])) for column in order]
    placed = []
    for at, load in zip(by_kind, found.loads, strict=True):
        for index, placement in load:
            profile_id = kinds[at].profiles[index]
            assert profile_id is not None  # or nothing would be placed there
            name = left[index].pop()
            placed.append(Placed(name, at, bins[at].uuid, profile_id, placement))
    return Choice(found.cost, found.tie, tuple(placed))


def _profile_id(bin: Bin, wanted: str) -> int | None:
    profile = bin.profile(wanted)
    return None if profile is None else profile.id


def _sorting(kind: Kind) -> tuple[str, Occupancy, tuple[int, ...]]:
    """Order kinds by what they are, so that the same GPUs in another order are the same."""
    profiles = tuple(-1 if each is None else each for each in kind.profiles)
    return kind.tables.geometry.hash, kind.occupancy, profiles


def precedence(bin: Bin) -> int:
    """Return how early a GPU is taken among equal costs: the highest first."""
    return bin.tables.precedence(bin.occupancy)


def _free_slices(bins: Sequence[Bin]) -> int:
    return sum((bin.tables.geometry.full_mask & ~bin.occupancy.mask).bit_count() for bin in bins)


def _most(bin: Bin, wanted: str) -> int:
    """Return how many of *wanted* alone the GPU could still take."""
    profile = bin.profile(wanted)
    return 0 if profile is None else bin.tables.at_once(bin.occupancy, profile)


def _smallest(bins: Sequence[Bin], wanted: str) -> int:
    profiles = (bin.profile(wanted) for bin in bins)
    return min((profile.size for profile in profiles if profile is not None), default=0)
