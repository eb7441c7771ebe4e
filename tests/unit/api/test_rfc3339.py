from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from nodeagent.api import rfc3339

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def test_a_moment_is_told_in_utc_and_as_exactly_as_asked() -> None:
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert rfc3339.seconds(elsewhere) == "2026-01-02T03:04:05Z"
    assert rfc3339.microseconds(elsewhere) == "2026-01-02T03:04:05.000678Z"
