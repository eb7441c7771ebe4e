"""What rounds come to: the table, and whether they have failed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests import results
from tests.e2e import test_faults
from tests.e2e.chaos import report
from tests.e2e.chaos.campaign import Round
from tests.e2e.chaos.faults import faults

FAULTS = list(faults())


def round_of(fault: str, **figures: object) -> Round:
    usual = {
        "writes_per_second": 40.0,
        "hooks_per_second": 100.0,
        "recovered_seconds": 1.0,
        "settled_seconds": 3.0,
        "bound": 10,
        "held": 4,
        "found_again": 3,
        "released": 9,
        "gangs": 2,
        "violations": (),
    }
    return Round(fault=fault, **{**usual, **figures})  # type: ignore[arg-type]


def test_each_kind_has_one_name() -> None:
    assert len({each.name for each in FAULTS}) == len(FAULTS) == 20


def test_the_short_run_tries_each_kind_of_fault_once() -> None:
    tried = [tuple(name.split("-")) for name in test_faults.CHOSEN]
    processes = {
        (verb, "extender" if which in ("leader", "standby") else which)
        for verb, which in tried
        if verb in ("kill", "stop")
    }

    assert processes == {
        (verb, which)
        for verb in ("kill", "stop")
        for which in ("extender", "agents", "apiserver", "etcd")
    }
    assert {verb for verb, _ in tried} == {"kill", "stop", "delay", "cut", "drop"}
    assert set(test_faults.CHOSEN) <= {each.name for each in FAULTS}
    assert test_faults.CHOSEN[-1] in test_faults.RESTS_AFTER


def test_rounds_are_summed_up_by_kind_of_fault() -> None:
    rounds = [
        round_of("kill-etcd", recovered_seconds=2.0),
        round_of("none"),
        round_of("kill-etcd", recovered_seconds=9.0, settled_seconds=None),
        round_of("kill-etcd", recovered_seconds=4.0, violations=("lost: it",)),
    ]
    none, killed = report.rows(FAULTS, rounds)

    assert (none.fault, none.rounds, none.violations) == ("none", 1, 0)
    assert (killed.fault, killed.rounds, killed.bound, killed.violations) == ("kill-etcd", 3, 30, 1)
    assert killed.recovered_seconds == report.Spread(2.0, 4.0, 9.0)
    assert killed.settled_seconds == report.Spread(3.0, 3.0, 3.0)
    line = next(line for line in report.text([none, killed]).splitlines() if "etcd" in line)
    assert line == (
        "| SIGKILL of etcd (`kill-etcd`) | 2 | 3 | 140.0 / 140.0 / 140.0 | 2.0 / 4.0 / 9.0"
        " | 3.0 / 3.0 / 3.0 | 30 | 12 / 9 | 6 | 1 |"
    )


def test_a_violation_too_little_load_and_no_rounds_at_all_are_failures() -> None:
    assert report.failures([round_of("none")]) == []
    assert report.failures([]) == ["no round was run"]
    rounds = [round_of("none", violations=("lost: it",)), round_of("none", hooks_per_second=50.0)]
    assert report.failures(rounds) == [
        "none: lost: it",
        "none: only 90 operations/s before it, 100 make a round count",
    ]


def test_the_same_is_kept_for_machines_with_what_is_noted_of_its_making(tmp_path: Path) -> None:
    out = tmp_path / "new" / "result.json"
    results.keep(out, **report.results(7, FAULTS, [round_of("none")]))
    told = msgspec.json.decode(out.read_bytes())

    assert told["seed"] == 7
    assert [row["fault"] for row in told["faults"]] == ["none"]
    assert told["rounds"][0]["recovered_seconds"] == 1.0
    assert told["failures"] == []
    assert told["made"]["cores"] >= 1
