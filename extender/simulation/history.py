"""How many GPU instances were wanted, period by period: held, and waited for besides.

From this it is told how fast a demand grows. Small and bounded, so that it can be kept anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

DAY = 86_400  # seconds

MOST_PERIODS = 28
"""Four weeks, by the day: as far back as is worth looking for how a demand grows now."""

MOST_PROFILES = 32
"""Names, the most wanted ones: of all models together hardly more are ever offered."""

Wanted = Mapping[str, int]
"""Instances by profile name."""


class History(msgspec.Struct, frozen=True):
    """Instances wanted at the end of each period, by profile name.

    ``periods`` count, in ascending order, from 1970-01-01 UTC in units of ``seconds``; there may be
    gaps. Each row of ``wanted`` is as long; the last number is as of the last look.
    """

    periods: tuple[int, ...] = ()
    wanted: Mapping[str, tuple[int, ...]] = {}
    seconds: int = DAY

    @property
    def latest(self) -> Wanted:
        """What was wanted when it was looked last."""
        return {name: row[-1] for name, row in self.wanted.items()} if self.periods else {}

    def noted(self, period: int, wanted: Wanted) -> History:
        """Return the history with what is *wanted* in a period; what is too long ago is left out.

        So are profiles wanted least. A period before the last changes nothing: a clock was turned
        back.
        """
        if self.periods and period < self.periods[-1]:
            return self
        kept = self.periods[:-1] if self.periods[-1:] == (period,) else self.periods
        first = max(0, len(kept) + 1 - MOST_PERIODS)
        nothing = (0,) * len(kept)
        rows = {
            name: (*self.wanted.get(name, nothing)[first : len(kept)], wanted.get(name, 0))
            for name in self.wanted.keys() | wanted.keys()
        }
        most = sorted((name for name in rows if any(rows[name])), key=lambda n: (-max(rows[n]), n))
        return History(
            (*kept[first:], period),
            {name: rows[name] for name in sorted(most[:MOST_PROFILES])},
            self.seconds,
        )
