"""What it costs to move a VM: by how it moves, by its profile, and by how long it has run.

costs: {liveMigration: 1, eviction: 10, restart: 15, profiles: {7g.80gb: 12},
        ages: [{hours: 24, adds: 2}, {hours: 168, adds: 5}]}

Costs choose among plans with as few moves: they are points, and only what they are beside each
other counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

import msgspec

from extender.policy.rules import ProfileName

Points = Annotated[int, msgspec.Meta(ge=0, le=100)]
More = Annotated[int, msgspec.Meta(ge=0, le=1_000)]
Hours = Annotated[int, msgspec.Meta(ge=1, le=87_600)]

MOST_AGES = 8
"""Each tells GPUs apart that are alike otherwise, and so makes plans take longer to find."""


class Age(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What a VM that has been in its place for so many *hours* costs more."""

    hours: Hours
    adds: More


class Costs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Points for each memory slice of a VM that moves in one of three ways, and for its age.

    ``live_migration``: it runs on meanwhile. ``eviction``: it stops and starts, as its disruption
    budget allows. ``restart``: likewise, past its budget, as its pod lets. ``profiles``: what one
    of a profile counts for instead of its memory slices. Of ``ages`` the longest that a VM has
    reached is added, unless it runs on.
    """

    live_migration: Points = 1
    eviction: Points = 10
    restart: Points = 15
    profiles: dict[ProfileName, Points] = {}
    ages: tuple[Age, ...] = (Age(hours=24, adds=2), Age(hours=168, adds=5))

    def weight(self, profile: str, memory_slices: int) -> int:
        """Return what a VM of a profile counts for."""
        return self.profiles.get(profile, memory_slices)

    def reached(self, age: timedelta) -> Age | None:
        """Return the longest of the ages that a VM has reached, None if it has none."""
        past = (each for each in self.ages if timedelta(hours=each.hours) <= age)
        return max(past, key=lambda each: each.hours, default=None)

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Yield what makes no sense in it: where, what, and the remedy."""
        hours = [each.hours for each in self.ages]
        for at, each in enumerate(hours):
            if each in hours[:at]:
                yield f".ages[{at}].hours", f"is {each} a second time", "say once what it adds"
        if len(hours) > MOST_AGES:
            yield ".ages", f"has {len(hours)} entries", f"list at most {MOST_AGES}"
        if self.live_migration > self.eviction:
            text = f"is {self.live_migration}, more than eviction's {self.eviction}"
            yield ".liveMigration", text, "a VM that runs on is disturbed less: write less"
        if self.eviction > self.restart:
            text = f"is {self.restart}, less than eviction's {self.eviction}"
            yield ".restart", text, "past a budget a VM is disturbed no less: write as much or more"
