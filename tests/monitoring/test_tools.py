"""Without Prometheus its tests are skipped with a remedy, and fail where it is required."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.monitoring.tools import REQUIRED, tool


@pytest.fixture(autouse=True)
def nothing_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRED, raising=False)

    with pytest.raises(pytest.skip.Exception, match="make ci-tools"):
        tool("promtool")


def test_it_fails_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRED, "1")

    with pytest.raises(pytest.fail.Exception, match="make ci-tools"):
        tool("promtool")
