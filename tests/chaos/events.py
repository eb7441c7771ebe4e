"""What happens, drawn from a seed."""

from __future__ import annotations

import random
from itertools import accumulate

import msgspec

EVENTS = 200
MEAN_PAUSE_SECONDS = 0.4
UNHURRIED_PAUSE_SECONDS = 0.9
"""Where VMs are moved: that takes a while, in which not everything should go wrong."""

LIKELIHOOD = {
    "arrive": 38,
    "burst": 5,
    "gather": 10,
    "scatter": 2,
    "depart": 34,
    "force away": 6,
    "replace": 12,
    "finish": 4,
    "restart": 24,
    "retire": 2,
    "kill extender": 6,
    "dismiss extender": 3,
    "freeze extender": 6,
    "cut extender off": 5,
    "kill agent": 8,
    "freeze agent": 3,
    "cut agent off": 4,
    "reboot": 2,
    "lose GPU": 1,
    "reset GPU": 1,
    "create by hand": 5,
    "destroy by hand": 6,
    "delete GpuNode": 2,
    "replace GpuNode": 2,
    "rough network": 22,
    "doubt": 4,
    "stall": 4,
    "rough GPUs": 6,
    "rough disk": 2,
    "break GPUs": 4,
    "stick watches": 6,
    "drop watches": 5,
    "compact": 3,
    "cordon": 3,
    "remove Node": 2,
    "step clock": 3,
}

MOVES = {
    "order": 18,
    "stop": 8,
    "restrain": 4,
    "tighten": 4,
    "depart": 18,
    "replace": 4,
    "restart": 10,
    "gather": 5,
    "burst": 2,
}
"""What happens besides, or as often as that, where VMs are moved: they stay for a while."""

WITH_MOVES = 0.04
"""In how many histories they are: to plan moves takes time."""

RANKED = 0.1
"""In how many of the others pods are evicted for those above them."""


class Event(msgspec.Struct, frozen=True):
    """Something that happens *after* so many seconds; *who* chooses, *much* is in [0, 1)."""

    after: float
    what: str
    who: int
    much: float

    @property
    def seconds(self) -> float:
        """For how long it lasts, if it ends by itself."""
        return 0.5 + 12.0 * self.much

    def __str__(self) -> str:
        return f"+{self.after:6.3f} s  {self.what:18} who={self.who} much={self.much:.3f}"


def moves(seed: int) -> bool:
    """Tell whether VMs are moved in the history of a seed."""
    return random.Random(f"moves {seed}").random() < WITH_MOVES


def ranks(seed: int) -> bool:
    """Tell whether pods are evicted for others in the history of a seed: not where VMs move."""
    return not moves(seed) and random.Random(f"ranks {seed}").random() < RANKED


class Course(msgspec.Struct, frozen=True):
    """What a history is about besides: pods are *ranked*, and evicted for others; VMs *moving*."""

    ranked: bool = False
    moving: bool = False

    @classmethod
    def of(cls, seed: int, *, ranked: bool = False, moving: bool = False) -> Course:
        """Return the course of a seed's history; what is asked for it has whatever its seed."""
        moving = moving or moves(seed)
        return cls(ranked or (ranks(seed) and not moving), moving)

    @property
    def options(self) -> str:
        """What asks for it on the command line, whatever the seed."""
        return f"{' --ranked' if self.ranked else ''}{' --moving' if self.moving else ''}"


def drawn(seed: int, events: int = EVENTS, *, moving: bool = False) -> tuple[Event, ...]:
    """Return what happens under a seed, where VMs are moved or, by that seed, are not."""
    chance = random.Random(f"story {seed}")
    mean = UNHURRIED_PAUSE_SECONDS if moving else MEAN_PAUSE_SECONDS
    likelihood = {**LIKELIHOOD, **MOVES} if moving else LIKELIHOOD
    kinds, up_to = tuple(likelihood), tuple(accumulate(likelihood.values()))
    return tuple(
        Event(
            round(chance.expovariate(1 / mean), 3),
            chance.choices(kinds, cum_weights=up_to)[0],
            chance.randrange(1000),
            chance.randrange(1000) / 1000,
        )
        for _ in range(events)
    )
