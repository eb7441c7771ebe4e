"""What becomes of these tests where there is no browser."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.page.chromium import REQUIRE_VARIABLE, NoBrowser, chromium, chromium_for_tests


def test_without_a_browser_they_are_skipped_with_a_reason_or_fail_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nothing(name: str, *_: Any) -> None:
        return None

    monkeypatch.setattr(shutil, "which", nothing)
    monkeypatch.delenv(REQUIRE_VARIABLE, raising=False)

    with pytest.raises(NoBrowser, match="not looked at"), chromium(tmp_path):
        pass
    with pytest.raises(pytest.skip.Exception, match="not looked at"), chromium_for_tests(tmp_path):
        pass
    monkeypatch.setenv(REQUIRE_VARIABLE, "1")
    with pytest.raises(pytest.fail.Exception, match="not looked at"), chromium_for_tests(tmp_path):
        pass
