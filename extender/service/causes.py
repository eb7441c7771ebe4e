"""Why there was no room for the pods refused, worked out a little later and beside the hooks.

A pod's filter cannot wait for it. The fleet is looked at as it stands seconds after the refusals,
once for each thing that was asked for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Set

import structlog

from extender.metrics import Cause, Work, cause
from extender.policy.bounds import Bounds
from extender.request import Wanted
from extender.snapshot import NodeView
from extender.verbs.reasons import Code

log = structlog.get_logger()

LOOK_SECONDS = 10.0

MOST_SHAPES = 8
"""Looked at in one go, those most often refused.

One takes 0.03 s in a thread for 5,000 nodes with 40,000 GPUs (measured), the first after all of
them have changed 0.6 s."""

MOST_REMEMBERED = 1_000
"""Shapes until then; tenants choose what they ask for, but not how much is remembered of it."""

Shape = tuple[Wanted, Bounds | None]
"""What was asked for, and within which bounds."""


class Causes:
    """Counts refusals for want of room until they are looked at, and tells *work* of them."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._refused: Counter[Shape] = Counter()

    def refused(self, shape: Shape, codes: Set[Code]) -> None:
        """Note that a pod was refused everywhere, for these reasons."""
        if Code.NO_ROOM not in codes:
            return
        if shape in self._refused or len(self._refused) < MOST_REMEMBERED:
            self._refused[shape] += 1
        else:
            self._work.no_room(Cause.UNKNOWN)

    async def look(self, views: Mapping[str, NodeView]) -> None:
        """Work out the causes of the refusals since the last look, on nodes as they were now."""
        refused, self._refused = self._refused, Counter()
        for at, ((wanted, bounds), times) in enumerate(refused.most_common()):
            found = Cause.UNKNOWN
            if at < MOST_SHAPES:
                try:
                    found = await asyncio.to_thread(cause, views.values(), wanted, bounds)
                except Exception:  # only a number: the hooks must outlive a fault in it
                    log.exception("cause_not_found", wanted=wanted)
            self._work.no_room(found, times)
