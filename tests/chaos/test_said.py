"""Which versions of a GpuNode whoever has sent something may have gone by."""

from __future__ import annotations

import msgspec
import pytest

from nodeagent.api import keys
from nodeagent.api.gpunode import Condition, Inventory, Realized
from tests.chaos.said import Said

NEVER = float("-inf")
TOLD, GONE = Inventory(realized=(Realized("a"),)), Inventory()


@pytest.fixture
def said() -> Said:
    """Version 5 says that it is realized, 7 that it is not; they are of 50 s and 70 s."""
    made = Said()
    made.wrote("node-1", 5, TOLD, now=50.0)
    made.wrote("node-1", 7, GONE, now=70.0)
    return made


@pytest.mark.parametrize(
    ("read", "sent", "may_be"),
    [
        ((5, NEVER), 80.0, True),
        ((6, NEVER), 80.0, True),
        ((7, NEVER), 80.0, False),
        ((0, 60.0), 80.0, True),
        ((0, 71.0), 80.0, False),
        ((5, 71.0), 80.0, False),
        ((0, NEVER), 40.0, False),
    ],
    ids=str,
)
def test_what_somebody_goes_by_is_what_it_has_read_or_something_newer(
    said: Said, read: tuple[int, float], sent: float, may_be: bool
) -> None:
    assert said.may_be_realized("a", "node-1", read=read, sent=sent) is may_be
    assert not said.may_be_realized("b", "node-1", read=read, sent=sent)


def test_an_agent_whose_driver_does_not_answer_says_nothing_is_realized(said: Said) -> None:
    unanswered = Condition(keys.READY, "False", keys.DRIVER_UNAVAILABLE)
    said.wrote("node-1", 9, msgspec.structs.replace(TOLD, conditions=(unanswered,)), now=90.0)

    assert not said.may_be_realized("a", "node-1", read=(9, NEVER), sent=99.0)
