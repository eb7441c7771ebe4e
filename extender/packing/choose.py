"""The argmin: where the GPU instances of one request go among the GPUs of one node.

The one function behind bind, prioritize and simulation. A single instance takes the cheapest legal
placement; ties go to the fuller GPU, then to the lowest index. Several are placed largest first and
found whenever any arrangement exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from extender.packing.tables import Option, Tables
from nodeagent.api.geometry import Occupancy, Placement, Profile


class Bin(msgspec.Struct, frozen=True):
    """A GPU that may receive instances; ``serves`` maps what is asked for to profile ids."""

    uuid: str
    tables: Tables
    occupancy: Occupancy
    serves: Mapping[str, int]

    def profile(self, wanted: str) -> Profile | None:
        """Return the profile that serves *wanted* here, if any does."""
        profile_id = self.serves.get(wanted)
        return None if profile_id is None else self.tables.geometry.by_id.get(profile_id)


class Placed(msgspec.Struct, frozen=True):
    """One instance's place; ``bin`` is the index of its GPU among those given."""

    wanted: str
    bin: int
    uuid: str
    profile_id: int
    placement: Placement


class Choice(msgspec.Struct, frozen=True):
    """A whole request placed: compare by ``cost``, then by ``tie`` (lower is better in both)."""

    cost: int
    tie: int
    placed: tuple[Placed, ...]


class _Move(msgspec.Struct, frozen=True):
    bin: int
    profile: Profile
    option: Option


def choose(bins: Sequence[Bin], wanted: Sequence[str]) -> Choice | None:
    """Place every one of *wanted* on the *bins*, or return None where no arrangement exists."""
    items: Sequence[str] = wanted
    if len(wanted) > 1:
        items = sorted(wanted, key=lambda each: -_largest(bins, each))
        if sum(_smallest(bins, each) for each in items) > _free_slices(bins):
            return None
    moves = _arrange(bins, tuple(bin.occupancy for bin in bins), items, 0, set())
    if moves is None:
        return None
    return Choice(
        cost=sum(move.option.cost for move in moves),
        tie=-sum(_fullness(bins[move.bin], bins[move.bin].occupancy) for move in moves),
        placed=tuple(
            Placed(item, move.bin, bins[move.bin].uuid, move.profile.id, move.option.placement)
            for item, move in zip(items, moves, strict=True)
        ),
    )


def _arrange(
    bins: Sequence[Bin],
    occupancies: tuple[Occupancy, ...],
    items: Sequence[str],
    at: int,
    hopeless: set[tuple[int, tuple[tuple[int, Occupancy], ...]]],
) -> tuple[_Move, ...] | None:
    """Place items[at:], cheapest move first; *hopeless* remembers the dead ends seen so far."""
    if at == len(items):
        return ()
    # GPUs of equal tables and occupancy are interchangeable, so a dead end is a multiset of them.
    key = (
        at,
        tuple(sorted((id(b.tables), o) for b, o in zip(bins, occupancies, strict=True))),
    )
    if key in hopeless:
        return None
    for move in _moves(bins, occupancies, items[at]):
        after = (*occupancies[: move.bin], move.option.after, *occupancies[move.bin + 1 :])
        rest = _arrange(bins, after, items, at + 1, hopeless)
        if rest is not None:
            return (move, *rest)
    hopeless.add(key)
    return None


def _moves(bins: Sequence[Bin], occupancies: Sequence[Occupancy], wanted: str) -> Iterator[_Move]:
    """Yield the ways to place *wanted*, best first, one GPU standing for all that are the same."""
    seen: set[tuple[int, Occupancy, int]] = set()
    found: list[tuple[int, int, int, int, _Move]] = []
    for index, (bin, occupancy) in enumerate(zip(bins, occupancies, strict=True)):
        profile = bin.profile(wanted)
        if profile is None or (same := (id(bin.tables), occupancy, profile.id)) in seen:
            continue
        seen.add(same)
        fullness = _fullness(bin, occupancy)
        for order, option in enumerate(bin.tables.options(occupancy, profile)):
            move = _Move(index, profile, option)
            found.append((option.cost, -fullness, index, order, move))
    found.sort(key=lambda each: each[:4])
    return (each[4] for each in found)


def _fullness(bin: Bin, occupancy: Occupancy) -> int:
    return occupancy.mask.bit_count() if bin.tables.prefers_fuller else 0


def _free_slices(bins: Sequence[Bin]) -> int:
    return sum((bin.tables.geometry.full_mask & ~bin.occupancy.mask).bit_count() for bin in bins)


def _sizes(bins: Sequence[Bin], wanted: str) -> Iterator[int]:
    return (profile.size for bin in bins if (profile := bin.profile(wanted)) is not None)


def _largest(bins: Sequence[Bin], wanted: str) -> int:
    return max(_sizes(bins, wanted), default=0)


def _smallest(bins: Sequence[Bin], wanted: str) -> int:
    return min(_sizes(bins, wanted), default=0)
