"""What pods have asked for lately, by profile: what to train a policy on, and simulate it with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from extender.policy.observed import ObservedMix
from extender.request import Request
from extender.simulation.history import History
from extender.snapshot import NodeView

log = structlog.get_logger()

HALF_LIFE_SECONDS = 7 * 86_400.0  # a request of last week counts half
TELL_SECONDS = 600.0
LOOK_AGAIN_SECONDS = 60.0  # for what no node offered: of thousands, each would be asked every time
MOST_UNOFFERED = 1_000  # names remembered for that; pods may ask for anything


class Demand:
    """Counts each pod once, by the profiles its resources mean on the nodes there are.

    ``history`` is how many instances were wanted, day by day.
    """

    def __init__(self, now: float) -> None:
        self.mix = ObservedMix(HALF_LIFE_SECONDS, now)
        self.history = History()
        self._profiles: dict[str, str] = {}
        self._unoffered: dict[str, float] = {}
        self._told_at = now

    def asked(self, request: Request, views: Iterable[NodeView], *, now: float) -> None:
        """Count a pod's request; a resource that no node offers has no profile, and no share."""
        for resource in request.wanted:
            name = self.profile(resource, views, now=now)
            if name:
                self.mix = self.mix.after(name, now=now)

    def profile(self, resource: str, views: Iterable[NodeView], *, now: float) -> str:
        """Return the profile that a resource means on the nodes there are, "" if none offers it."""
        name = self._profiles.get(resource) or self._looked_for(resource, views, now=now)
        if name:
            self._profiles[resource] = name
        return name

    def _looked_for(self, resource: str, views: Iterable[NodeView], *, now: float) -> str:
        if now < self._unoffered.get(resource, float("-inf")) + LOOK_AGAIN_SECONDS:
            return ""
        name = _profile(resource, views)
        self._unoffered.pop(resource, None)
        if not name:
            if len(self._unoffered) >= MOST_UNOFFERED:
                self._unoffered.clear()
            self._unoffered[resource] = now
        return name

    def tell(self, *, now: float) -> None:
        """Log the mix now and then, in the form ``--mix`` takes."""
        if now - self._told_at < TELL_SECONDS or not self.mix.counts:
            return
        self._told_at = now
        log.info(
            "mix_observed", mix=written(self.mix.counts), weight=round(self.mix.weight(now=now))
        )


def written(counts: Mapping[str, float]) -> str:
    """Return the shares of what was asked for.

    >>> written({"1g.10gb": 3.0, "7g.80gb": 1.0})
    '1g.10gb=0.750,7g.80gb=0.250'
    """
    total = sum(counts.values())
    return ",".join(f"{name}={count / total:.3f}" for name, count in sorted(counts.items()))


def _profile(resource: str, views: Iterable[NodeView]) -> str:
    return next((view.profile_of(resource) for view in views if resource in view.offered), "")
