"""A few races with every test run; ``make race`` runs many."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.chaos.mutants import MUTANTS
from tests.race.rounds import race

ROUNDS = 2
SIZES = (2, 16, 64)


def test_of_many_pods_for_one_last_slot_exactly_one_wins() -> None:
    # A process of its own: with the same hashes every time, a failing seed fails again.
    told = subprocess.run(
        [
            *(sys.executable, "-m", "tests.race", "-j", "1"),
            *("--rounds", str(ROUNDS), "--pods", ",".join(map(str, SIZES))),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stdout + told.stderr
    assert f"{ROUNDS * len(SIZES) * 2} rounds" in told.stdout


def test_the_same_seed_is_the_same_race() -> None:
    first, again = (race(3, 8, change=True) for _ in range(2))

    assert first == again
    assert first.tally.at_both > 0


@pytest.mark.parametrize(
    ("name", "broken"), [("await-first", "promised twice"), ("lead-for-ever", "not the leader")]
)
def test_a_planted_bug_is_caught(name: str, broken: str) -> None:
    bug = next(each for each in MUTANTS if each.name == name)

    with bug.planted():
        rounds = (race(seed, 16, change=True) for seed in range(20))
        assert any(broken in each for outcome in rounds for each in outcome.broken)
