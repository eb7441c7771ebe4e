"""Changes of the ledger that follow from nothing else: what a joint plan gives, what is avoided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from extender.ledger import Ledger, Planned, Presumption, Promise

_T = TypeVar("_T")


class Change(msgspec.Struct, Generic[_T], frozen=True, omit_defaults=True):
    """What became of one kind of promises; ``whole``: of those before none is left."""

    set: dict[str, _T] = {}
    gone: tuple[str, ...] = ()
    whole: bool = False

    @classmethod
    def between(cls, before: Mapping[str, _T], after: Mapping[str, _T]) -> Change[_T]:
        """Return the change that makes *after* of *before*, in the same order."""
        if before is after:
            return cls()
        change = cls(
            {key: each for key, each in after.items() if before.get(key) != each},
            tuple(key for key in before if key not in after),
        )
        if list(change.applied(before)) == list(after):
            return change
        return cls(dict(after), whole=True)

    def applied(self, before: Mapping[str, _T]) -> dict[str, _T]:
        """Return what it makes of *before*."""
        if self.whole:
            return dict(self.set)
        kept = {key: each for key, each in before.items() if key not in self.gone}
        return {**kept, **self.set}


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of the promises of each kind; what is lost follows from what is told."""

    assumed: Change[Promise] = Change()
    presumed: Change[Presumption] = Change()
    planned: Change[Planned] = Change()
    avoided: Change[Presumption] = Change()

    @classmethod
    def between(cls, before: Ledger, after: Ledger) -> Changes:
        """Return what makes one ledger of another."""
        return cls(
            Change[Promise].between(before.assumed, after.assumed),
            Change[Presumption].between(before.presumed, after.presumed),
            Change[Planned].between(before.planned, after.planned),
            Change[Presumption].between(before.avoided, after.avoided),
        )

    def applied(self, before: Ledger) -> Ledger:
        """Return what they make of a ledger."""
        return Ledger(
            self.assumed.applied(before.assumed),
            self.presumed.applied(before.presumed),
            self.planned.applied(before.planned),
            self.avoided.applied(before.avoided),
            before.lost,
        )
