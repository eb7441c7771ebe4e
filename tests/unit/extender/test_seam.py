"""The seam: answers do not depend on who witnesses."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from extender.service.seam import Call, Seam


class Faulty:
    """A witness that fails at once."""

    def __init__(self) -> None:
        self.asked = 0

    def heard(self, call: Call) -> None:
        self.asked += 1
        raise RuntimeError("a fault of the witness")


def answers(about: object, what: str) -> str:
    return f"{what} of {about}"


def fails(about: object) -> None:
    raise KeyError("a fault of the call")


def test_a_witness_that_fails_changes_no_answer_and_is_asked_once() -> None:
    witness = Faulty()
    seam = Seam(lambda: 1.0, witness)

    with capture_logs() as told:
        assert seam.tell("Its.answer", answers, "it", ("all",), {}) == "all of it"
        seam.note("Its.change", 1)
        assert seam.tell("Its.answer", answers, "it", ("all",), {}) == "all of it"

    assert witness.asked == 1
    assert seam.quiet
    assert [(line["event"], line["call"]) for line in told] == [("witness_dropped", "Its.answer")]


def test_a_call_that_fails_fails_with_its_own_fault() -> None:
    seam = Seam(lambda: 1.0, Faulty())

    with capture_logs(), pytest.raises(KeyError, match="a fault of the call"):
        seam.tell("Its.failure", fails, "it", (), {})


def test_a_note_that_fails_changes_nothing() -> None:
    seam = Seam(lambda: 1.0, Faulty())

    with capture_logs() as told:
        seam.note("Its.change", 1)

    assert seam.quiet
    assert len(told) == 1
