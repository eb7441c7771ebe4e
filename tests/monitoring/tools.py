"""Debian's ``prometheus`` package: the server and promtool, or what a test does without them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

REQUIRED = "TANGRAM_REQUIRE_PROMETHEUS"
MISSING = "no {} on PATH (Debian: prometheus): `make ci-tools` installs it"


def tool(name: str) -> Path:
    """Return a program of Prometheus', or end the calling test as it should end without."""
    found = shutil.which(name)
    if found is None:
        reason = MISSING.format(name)
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return Path(found)
