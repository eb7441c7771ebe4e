"""Moments as API objects tell them: RFC 3339, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def seconds(moment: datetime) -> str:
    """Write *moment* as Kubernetes writes a Time.

    >>> seconds(datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC))
    '2026-01-02T03:04:05Z'
    """
    return _utc(moment, "seconds")


def microseconds(moment: datetime) -> str:
    """Write *moment* as Kubernetes writes a MicroTime.

    >>> microseconds(datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC))
    '2026-01-02T03:04:05.000678Z'
    """
    return _utc(moment, "microseconds")


def moment(written: str) -> float:
    """Return the moment that was written, in seconds since 1970; 0.0 for what is none.

    >>> moment("2026-01-02T03:04:05.5Z") - moment("2026-01-02T03:04:05Z")
    0.5
    """
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        return 0.0
    return found.timestamp() if found.tzinfo is not None else 0.0


def _utc(moment: datetime, timespec: str) -> str:
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return f"{moment.replace(tzinfo=None).isoformat(timespec=timespec)}Z"
