"""Log events anybody can cause do not become a flood."""

from __future__ import annotations

from structlog.testing import capture_logs

from extender.server.sparse import SparseLog


def test_an_event_is_logged_at_once_and_then_counted() -> None:
    now = 0.0
    sparse = SparseLog(every=10.0, clock=lambda: now)
    with capture_logs() as logs:
        for now in (0.0, 1.0, 9.9, 10.0, 25.0):
            sparse.warning("slow_client_cut", at=now)

    assert [(each["at"], each["left_out"]) for each in logs] == [(0.0, 0), (10.0, 2), (25.0, 0)]


def test_events_do_not_hide_each_other() -> None:
    sparse = SparseLog(clock=lambda: 0.0)
    with capture_logs() as logs:
        for event in ("a", "b", "a"):
            sparse.warning(event)

    assert [each["event"] for each in logs] == ["a", "b"]
