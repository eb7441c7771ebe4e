"""Judges the places kept for VMs that restart: nobody else has them before their time is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nodeagent.api.gpunode import Plan
from tests.e2e.chaos.spots import spot

SURE_SHARE = 0.5
"""Of a hold's time: what is taken away before that is taken early, however late it was seen."""


class Holds:
    """The reservations of one history, each of which *lasts* so many seconds of *clock*.

    ``made``: so many there were; ``found_again``: so many places the owner's next pod had again.
    """

    def __init__(self, lasts: float, clock: Callable[[], float]) -> None:
        self.made = 0
        self.found_again = 0
        self._lasts = lasts
        self._clock = clock
        self._since: dict[str, float] = {}

    def plan_written(self, before: Plan, now: Plan) -> Iterator[str]:
        """Judge a node's plan by the one before."""
        had = {entry.id: entry for entry in before.assignments}
        for entry in now.assignments:
            if entry.pod is not None:
                continue
            earlier = had.get(entry.id)
            if earlier is None or spot(earlier) != spot(entry) or earlier.owner != entry.owner:
                yield f"hold: {entry.id} is held, and was no pod's of {entry.owner}"
            elif earlier.pod is not None:
                self.made += 1
                self._since[entry.id] = self._clock()
        new = [entry for entry in now.assignments if entry.id not in had]
        kept = {entry.id for entry in now.assignments}
        for hold in had.values():
            if hold.pod is not None or hold.id in kept:
                continue
            held = self._clock() - self._since.pop(hold.id, float("-inf"))
            heirs = [each for each in new if spot(each).overlaps(spot(hold))]
            own = [each for each in heirs if each.owner == hold.owner]
            if any(spot(each) == spot(hold) for each in own):
                self.found_again += 1
            elif not own and held < SURE_SHARE * self._lasts:
                yield f"hold: {hold.id} was given back after only {held:.1f} s"
