"""What tests of the manifests are given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.manifests.generate import MANIFESTS


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of all manifests, to put things beside them."""
    return Path(shutil.copytree(MANIFESTS, tmp_path / "manifests"))
