"""What is said of a real scheduler's rounds: only what they show, and what does not hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.made import Made
from benchmarks.scheduler import report
from benchmarks.scheduler.meter import Row
from benchmarks.scheduler.report import Result

MADE = Made("2026-11-29", "0123456789", "AMD EPYC", 2, 0.5, "3.11.7")


def row(algorithm_ms: float, *, pods_per_s: float = 40.0, **sustained: float) -> Row:
    """Return what one kind of extender came to in a round."""
    part = {"pods_per_s": pods_per_s, "attempts": 10, "algorithm_ms": algorithm_ms}
    part |= {"algorithm_ms_per_pod": algorithm_ms, "cpu_scheduler": 2.0}
    waited = {"bound_p50_ms": 30.0, "bound_p99_ms": 90.0}
    paced = {"created_per_s": 40.0, "backlog_first": 4, "backlog_second": 4, **waited}
    return {"plain": part, "saturated": part, "sustained": part | paced | sustained}


def result(**rounds: list[Row]) -> Result:
    """Return a result of these rounds; the two others take 1 ms where nothing else is said."""
    count = len(rounds["tangram"])
    each = dict.fromkeys(("passthrough", "none"), [row(1.0)] * count) | rounds
    return Result(MADE, 10, 20, 2.0, 40.0, count, 60.0, each)


def held(found: Result) -> list[bool]:
    return [claim.holds for claim in report.claims(found)]


def test_all_holds_where_tangram_costs_what_the_others_do() -> None:
    assert held(result(tangram=[row(1.0)])) == [True, True, True, True]


@pytest.mark.parametrize(
    ("tangram", "missed"),
    [
        (row(1.2), [False, False, True, False]),
        (row(1.0, backlog_second=80), [True, True, False, True]),
        (row(1.0, created_per_s=30.0), [True, True, False, True]),
    ],
)
def test_what_is_missed_is_said(tangram: Row, missed: list[bool]) -> None:
    found = result(tangram=[tangram])

    assert held(found) == missed
    assert report.markdown(found).count("**no**") == missed.count(False)


def test_one_slow_round_of_three_decides_nothing() -> None:
    assert held(result(tangram=[row(1.0), row(9.0), row(1.05)])) == [True, True, True, True]


def test_what_is_kept_is_what_the_report_is_made_of(tmp_path: Path) -> None:
    found = result(tangram=[row(1.0, pods_per_s=30.0), row(1.1, pods_per_s=36.0)])
    report.save(tmp_path, found)

    kept: dict[str, Any] = json.loads((tmp_path / "scheduler.json").read_text())
    text = (tmp_path / "scheduler.md").read_text()
    assert kept["made"]["commit"] == "0123456789"
    assert kept["median"]["tangram"]["saturated"]["pods_per_s"] == 33.0
    assert kept["tangram_to_passthrough"]["saturated"]["pods_per_s"] == 0.82
    assert len(kept["each"]["tangram"]) == 2
    assert "| saturated | tangram | 33 | 10 | 1.05 | 1.05 |" in text
    assert "commit 0123456789" in text
    assert "_" not in "".join(line for line in text.splitlines() if line.startswith("|"))


@pytest.mark.parametrize(
    ("tangram", "passthrough", "holds"),
    [
        ([1.3, 1.0, 1.3], [1.0, 1.0, 1.0], False),
        ([1.3, 1.0, 1.3], [1.0, 1.4, 1.0], True),
        ([1.04, 1.0, 1.3], [1.0, 1.0, 1.0], True),
    ],
)
def test_plain_pods_are_compared_round_by_round_and_with_whom_nobody_asks_either(
    tangram: list[float], passthrough: list[float], holds: bool
) -> None:
    machine = (1.0, 3.0, 2.0)  # how slow it was in each round
    rounds = {
        mode: [row(times * slow) for times, slow in zip(ratios, machine, strict=True)]
        for mode, ratios in (
            ("tangram", tangram),
            ("passthrough", passthrough),
            ("none", [1.0] * 3),
        )
    }

    assert held(result(**rounds))[-1] is holds
