"""Room that is to stay free: how many instances of a profile would still fit, and what costs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from extender.packing.choose import (
    INFEASIBLE,
    Bin,
    Choice,
    Infeasible,
    Placed,
    precedence,
)
from nodeagent.api.geometry import Geometry, Occupancy, Profile

Limits = Sequence[tuple[str, int]]
"""Profiles by name, and how many fewer of each may fit afterwards."""


def room(bins: Iterable[Bin], profile: str) -> int:
    """Return how many GPU instances of a *profile* fit on the *bins* at once."""
    return sum(_on(bin, bin.occupancy, profile) for bin in bins)


def lost(bins: Sequence[Bin], placed: Iterable[Placed], profile: str) -> int:
    """Return how many fewer of a *profile* fit on the *bins* once things are *placed*."""
    states: dict[str, Occupancy] = {}
    by_uuid = {bin.uuid: bin for bin in bins}
    for each in placed:
        bin = by_uuid[each.uuid]
        state = states.get(each.uuid, bin.occupancy)
        states[each.uuid] = _after(bin, state, each)
    return sum(
        _on(by_uuid[uuid], by_uuid[uuid].occupancy, profile) - _on(by_uuid[uuid], then, profile)
        for uuid, then in states.items()
    )


def frugal(
    bins: Sequence[Bin], wanted: str, limits: Limits, certain: Sequence[Bin]
) -> Choice | Infeasible:
    """Return the cheapest place for one of *wanted* among those that cost no more than *limits*.

    As ``choose`` does otherwise: ties go by precedence, then to the first. The limits are on
    what is lost of the *certain* bins, which are at least those in *bins*, and no fuller.
    """
    surely = {bin.uuid: bin for bin in certain}
    best: tuple[tuple[int, int, int], Placed] | None = None
    for index, bin in enumerate(bins):
        profile = bin.profile(wanted)
        for option in () if profile is None else bin.tables.options(bin.occupancy, profile):
            assert profile is not None  # or it would have no options
            place = Placed(wanted, index, bin.uuid, profile.id, option.placement)
            if all(lost((surely[bin.uuid],), (place,), name) <= most for name, most in limits):
                rank = (option.cost, -precedence(bin), index)
                if best is None or rank < best[0]:
                    best = rank, place
                break  # the others of this GPU cost no less
    if best is None:
        return INFEASIBLE
    (cost, tie, _), placed = best
    return Choice(cost, tie, (placed,))


def _on(bin: Bin, state: Occupancy, name: str) -> int:
    profile = _named(bin.tables.geometry, name)
    return 0 if profile is None else bin.tables.at_once(state, profile)


def _named(geometry: Geometry, name: str) -> Profile | None:
    return next((profile for profile in geometry.profiles if profile.name == name), None)


def _after(bin: Bin, state: Occupancy, placed: Placed) -> Occupancy:
    profile = bin.tables.geometry.by_id[placed.profile_id]
    return next(
        option.after
        for option in bin.tables.options(state, profile)
        if option.placement == placed.placement
    )
