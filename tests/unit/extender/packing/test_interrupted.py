"""Solvers leave to a program what it does when somebody presses Ctrl-C."""

from __future__ import annotations

import subprocess
import sys

import pytest

PLANNED = """
from extender.packing.program import Level, Program
from extender.packing.search import search
import numpy as np
program = Program()
level = Level(program.columns([1, 1]), [5, 1])
assert search(program, level, None, np.ones(2, bool), seconds=10.0, seed=1).values == [1, 1]
"""

COVERED = """
from extender.simulation.solver import covers
assert covers([2], [1], [[(2,)]])
"""

INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, lambda *_: print("ends well"))
{solve}
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.parametrize("solve", [PLANNED, COVERED], ids=["a plan", "what can be held"])
def test_who_has_solved_still_hears_of_ctrl_c(solve: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED.format(solve=solve)]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stdout) == (0, "ends well\n"), ended.stderr
