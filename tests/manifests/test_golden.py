"""What is applied to a cluster changes only where somebody has seen the change as text."""

from __future__ import annotations

import pytest

from tests.manifests.golden import golden, stale, text
from tests.manifests.kustomize import OVERLAYS


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_what_was_reviewed(name: str) -> None:
    built = text(name)

    assert golden(name).is_file(), "new: run `make golden`, and read what it wrote"
    assert golden(name).read_text() == built, "changed: run `make golden`, and review the diff"


def test_no_overlay_is_reviewed_that_is_no_more() -> None:
    assert not list(stale())
