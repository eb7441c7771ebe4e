"""What a VM's move costs by the policy, and what of it is for what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from extender.moves import How
from extender.policy.costs import Costs


class Price(msgspec.Struct, frozen=True, rename="camel"):
    """``weight`` times ``each``, by how it moves, and what is ``added`` after so many ``hours``.

    ``hours`` is the age by the policy that the VM has reached, 0 for none of them.
    """

    weight: int
    each: int
    added: int = 0
    hours: int = 0

    @property
    def cost(self) -> int:
        """All of it, in points."""
        return self.weight * self.each + self.added


def price(
    costs: Costs, how: How, profile: str, memory_slices: int, *, since: str, now: datetime | None
) -> Price:
    """Return the price of a move; *since* is when the VM came to its place, as its entry has it.

    Where the one or the other is not known it is as if it had just come.
    """
    weight = costs.weight(profile, memory_slices)
    match how:
        case How.LIVE:
            return Price(weight, costs.live_migration)
        case How.EVICTION:
            each = costs.eviction
        case How.RESTART:
            each = costs.restart
    reached = costs.reached(_age(since, now))
    if reached is None:
        return Price(weight, each)
    return Price(weight, each, reached.adds, reached.hours)


def _age(since: str, now: datetime | None) -> timedelta:
    try:
        came = datetime.fromisoformat(since)
    except ValueError:
        return timedelta()
    if now is None:
        return timedelta()
    return now - (came if came.tzinfo is not None else came.replace(tzinfo=UTC))
