"""What every test of a shadow's process has."""

from __future__ import annotations

import pytest

from extender.shadow import confined


@pytest.fixture(autouse=True)
def no_nicer_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process have its share: beside other tests it would wait for minutes."""
    monkeypatch.setattr(confined, "NICE", 0)
