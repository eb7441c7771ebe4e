"""The messages we speak with the kubelet are those that we describe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.kubelet import generate


@pytest.mark.parametrize("path", generate.generated(), ids=lambda path: path.name)
def test_the_messages_have_not_drifted_from_their_descriptions(path: Path) -> None:
    assert path.read_text() == generate.generated()[path], "stale: run `make proto`"
