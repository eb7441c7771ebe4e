"""What a test does when there is no control plane: skip, or fail where one is required."""

from __future__ import annotations

import os

import pytest

from .binaries import Binaries, Missing, locate

REQUIRED = "TANGRAM_REQUIRE_CONTROLPLANE"


def required_binaries() -> Binaries:
    """Find the programs, or end the calling test with the one line that says how to get them."""
    found = locate()
    if isinstance(found, Missing):
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(found.reason, pytrace=False)
        pytest.skip(found.reason)
    return found
