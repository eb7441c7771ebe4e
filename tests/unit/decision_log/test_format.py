"""The format stays: a log of its first day is read, and the page tells of all there is in one."""

from __future__ import annotations

import re
from pathlib import Path

from extender.decision_log import reproduced, runs
from extender.decision_log.files import lines
from extender.decision_log.layout import FORMAT, Entry, Header, Restated, Restating, Why
from extender.service.choosing import Chooser
from extender.service.hooks import Hooks
from extender.service.knowledge import PROMISES
from extender.service.seam import RESTORING, TOLD
from extender.service.tenure import Tenure

PAGE = Path(__file__).parents[3] / "manifests" / "DECISIONLOG.md"
FIRST = Path(__file__).parent / "format-1.jsonl.zst"
"""Of a `tangram demo` of two nodes, a burst among its VMs."""
SECOND = Path(__file__).parent / "format-2.jsonl.zst"
"""The second file of an extender's log: it begins with the state."""


def test_a_log_of_the_first_format_stays_readable_and_plays_again() -> None:
    told = reproduced(runs([FIRST]))

    assert told.exact, told.different
    assert (told.calls, told.decisions) == (273, 45)


def test_a_file_that_begins_with_the_state_stays_readable_and_plays_again() -> None:
    told = reproduced(runs([SECOND]))

    assert told.exact, told.different
    assert (told.calls, told.decisions, told.resumed) == (167, 30, 1)


def test_the_page_names_every_call_and_none_that_is_not_told() -> None:
    parts = (Hooks, Chooser, Tenure)  # what is told is known once these are loaded
    named = set(re.findall(r"`([A-Z][a-z]+\.[a-z_]+)`", PAGE.read_text()))

    assert all(parts)
    assert named == {*TOLD, *RESTORING, PROMISES}


def test_the_page_names_every_field_and_reason() -> None:
    text = PAGE.read_text()
    lines = (Header, Entry, Restating, Restated)
    fields = (*(name for each in lines for name in each.__struct_encode_fields__), *Why)

    assert [name for name in fields if f'"{name}"' not in text and f"`{name}`" not in text] == []
    assert f'{{"decisionLog": {FORMAT}' in text


def test_a_log_does_not_cost_much_a_decision() -> None:
    whole = list(lines(FIRST))

    assert FIRST.stat().st_size < 20 * len(whole) + 8_000
