"""Who leads: what one candidate knows of the Lease, and what it may do with it, as values.

::

    look ──▶ the Lease is
               released     ──▶ claim it
               ours         ──▶ claim it again, which renews it
               another's    ──▶ claim it, once it has not changed for its duration
               not there    ──▶ claim it, but lead only after that duration: it may have been
                                deleted under a leader that does not know yet

    claim ──▶ written               ──▶ lead until a deadline, counted from before the claim
          └─▶ refused, or unknown   ──▶ look again

A claim is a compare-and-swap, so of two only one is written. No two lead at once, for the one
counts *renew_deadline* from before its claim was sent, the other the longer *lease_duration* from
after it saw the claim; each by its own clock, whatever time the record bears.
"""

from __future__ import annotations

import math

import msgspec

from extender.settings import LeaseTiming


class Record(msgspec.Struct, frozen=True):
    """The Lease as the API server holds it; ``version`` changes with each write.

    ``holder`` is "" once it was released; ``duration`` is in seconds, as its holder promised.
    ``note`` is what a leader has left there for the next one, "" if nothing.
    """

    version: str
    holder: str
    duration: float
    transitions: int = 0
    note: str = ""


class Claim(msgspec.Struct, frozen=True):
    """A write of the Lease, if it still has that version; "" if it still does not exist.

    A ``note`` is left there for the next leader; None leaves what is there.
    """

    version: str
    holder: str
    duration: int
    transitions: int
    renews: bool
    note: str | None = None


class Candidacy(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate; ``now`` and ``sent`` are on its own monotonic clock, in seconds.

    ``identity`` is this process's alone, not even its predecessor's in the same pod: what that has
    sent may still arrive. ``seen_at`` tells since when the record is what it is, None: never seen.
    """

    identity: str
    timing: LeaseTiming
    record: Record | None = None
    seen_at: float | None = None
    leads_from: float = -math.inf
    leads_until: float = -math.inf

    def leads(self, *, now: float) -> bool:
        """Tell whether this candidate leads."""
        return self.leads_from <= now < self.leads_until

    def observe(self, record: Record | None, *, now: float) -> Candidacy:
        """Take in what the Lease was found to be; *now* is when that was known, not asked."""
        if self.seen_at is not None and record == self.record:
            return self
        if record is None:
            return msgspec.structs.replace(self, record=None, seen_at=now)
        if record.holder == self.identity:
            return self._with_ours(record, now)
        return msgspec.structs.replace(
            self, record=record, seen_at=now, leads_from=-math.inf, leads_until=-math.inf
        )

    def claim(self, *, now: float) -> Claim | None:
        """Return what to write to lead from here on, None while there is nothing to do but wait."""
        if self.seen_at is None:
            return None
        before, duration = self.record, self.timing.lease_duration_seconds
        if before is None:
            return Claim("", self.identity, duration, transitions=0, renews=False)
        renews = before.holder == self.identity
        patience = max(before.duration, duration)
        if not renews and before.holder and now - self.seen_at < patience:
            return None
        transitions = before.transitions + (not renews)
        return Claim(before.version, self.identity, duration, transitions, renews)

    def elected(self, record: Record, *, sent: float, now: float) -> Candidacy:
        """Take in the written claim; *sent* is from before it was sent.

        A write that changed nothing has renewed nothing: the others go on counting.
        """
        if self.record is not None and record.version == self.record.version:
            return self
        until = sent + self.timing.renew_deadline_seconds
        return msgspec.structs.replace(self._with_ours(record, now), leads_until=until)

    def _with_ours(self, record: Record, now: float) -> Candidacy:
        """Take in a Lease that is ours, and where there was none before, wait."""
        wait = self.record is None and not self.leads(now=now)
        leads_from = now + self.timing.lease_duration_seconds if wait else self.leads_from
        return msgspec.structs.replace(self, record=record, seen_at=now, leads_from=leads_from)

    def release(self, *, now: float) -> Claim | None:
        """Return what to write so that another may lead at once.

        None if the Lease is not ours to give: another's, or one that we wait for ourselves.
        """
        record = self.record
        if record is None or record.holder != self.identity or now < self.leads_from:
            return None
        duration = self.timing.lease_duration_seconds
        return Claim(record.version, "", duration, record.transitions, renews=False)
