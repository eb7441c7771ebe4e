"""What extenders decide in a history, whatever goes wrong, is decided again from their logs."""

from __future__ import annotations

import pytest

from extender.service.seam import Witness
from extender.settings import Settings
from tests.chaos.events import drawn
from tests.chaos.story import tell
from tests.decisions import Notebook

SEEDS = 4
EVENTS = 60


@pytest.mark.parametrize("ranked", [False, True], ids=["plain", "ranked"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_extenders_decisions_come_out_the_same(seed: int, ranked: bool) -> None:
    notebooks: list[Notebook] = []

    def witness(settings: Settings) -> Witness:
        notebooks.append(Notebook(settings, leads=False))
        return notebooks[-1]

    told = tell(seed, drawn(seed, EVENTS), ranked=ranked, witness=witness)

    assert told.broken == ()
    assert len(notebooks) >= 2
    played = [each.replayed() for each in notebooks]
    assert all(each.exact for each in played), [each.different for each in played]
    assert sum(each.decisions for each in played) > 0


def test_a_history_is_the_same_whether_or_not_it_is_recorded() -> None:
    events = drawn(3, EVENTS)

    recorded = tell(3, events, witness=lambda settings: Notebook(settings, leads=False))

    assert recorded == tell(3, events)
