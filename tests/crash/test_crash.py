"""Some of what ``make crash`` does, in processes of their own: pytest's have threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fakes.nvml.library import built_for_tests

REPOSITORY = Path(__file__).parents[2]
CASES, SEED = 21, 7


def test_an_agent_killed_anywhere_is_made_good_by_the_next(tmp_path: Path) -> None:
    shared = (
        next(each for each in tmp_path.parents if each.name.startswith("pytest-")) / "fake-nvml"
    )
    built_for_tests(shared)
    arguments = ["--sample", str(CASES), "--seed", str(SEED), "-j", "2", "--build", str(shared)]

    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    killed = int(done.stdout.rpartition("in ")[2].split(" of ", 1)[0])
    assert killed >= CASES - 2, done.stdout  # the others died of nothing, for nothing came
