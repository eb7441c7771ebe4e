"""How often threads change places while the hooks are served."""

from __future__ import annotations

import sys

import pytest

from extender.cli.switching import SWITCH_SECONDS, threads_take_short_turns


def test_threads_take_short_turns_and_afterwards_those_of_before() -> None:
    before = sys.getswitchinterval()

    with threads_take_short_turns():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
        assert sys.getswitchinterval() < before

    assert sys.getswitchinterval() == before


def test_they_do_so_after_a_failure_too() -> None:
    before = sys.getswitchinterval()

    with pytest.raises(OSError, match="in use"), threads_take_short_turns():
        raise OSError("in use")

    assert sys.getswitchinterval() == before
