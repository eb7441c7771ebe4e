"""The experiment in small: what a shadow says of a policy, and what that does once promoted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.shadow.__main__ import main, summary
from benchmarks.shadow.experiment import UNIT_SECONDS, Row, demand, foretold, lived
from extender.policy import InForce, PolicyName
from extender.replay.making import nodes
from extender.replay.play import play
from extender.replay.recorded import Arrival, Recorded
from extender.replay.stays import Stay
from extender.simulation.scenario import Scenario

DRIFTS = Scenario(
    gpus=8, gpus_per_node=4, mix="skew-small", then="skew-big", load=1.0, arrivals=400, warmup=0
)
PATIENCE = 0.25 * UNIT_SECONDS
DEFAULT, WORST = InForce.of(PolicyName.DEFAULT), InForce.of(PolicyName.WORST_FIT)


def test_a_shadow_with_the_live_policy_agrees_about_every_vm() -> None:
    vms = demand(DRIFTS, seed=1)
    found = lived(DRIFTS, vms, DEFAULT, shadow=DEFAULT, patience=PATIENCE)

    assert found.evidence is not None
    assert found.evidence.agreement.decided == len(vms)
    assert found.evidence.agreement.alike == len(vms)
    assert found.refused == found.evidence.refusals.shadow > 0


def test_a_shadow_with_the_live_policy_that_begins_in_a_full_fleet_is_hardly_wrong() -> None:
    row = foretold(DRIFTS, (DEFAULT, DEFAULT), ("a", "a"), 1, begins=100, patience=PATIENCE)

    assert row.actual == 0, "nothing is changed"
    assert row.vms == 300
    assert row.error <= 0.02 * row.vms, "those that waited as it began are where they are live"


def test_what_is_promoted_decides_from_there_on_and_not_before() -> None:
    vms = demand(DRIFTS, seed=1)
    from_the_start = lived(DRIFTS, vms, WORST, patience=PATIENCE)
    at_once = lived(DRIFTS, vms, DEFAULT, promoted=WORST, patience=PATIENCE)
    never = lived(DRIFTS, vms, DEFAULT, begins=len(vms) - 1, promoted=WORST, patience=PATIENCE)

    assert at_once.refused == from_the_start.refused > 0
    assert never.refused <= 1, "one VM is counted"


def row(predicted: float, actual: int, wider: float | None) -> Row:
    interval = None if wider is None else wider / 2
    return Row(1, "a", "b", 100, predicted, interval, wider, actual, 10, 10)


def test_a_shadows_word_is_held_against_that_of_one_who_always_says_zero() -> None:
    rows = [row(10.0, 12, 6.0), row(-10.0, 2, 6.0), row(3.0, 0, None), row(4.0, 8, 6.0)]

    of = summary(rows)

    assert (of["pairs"], of["rows"], of["with_interval"]) == (2, 4, 3)
    assert (of["within_wider"], of["within_narrower"]) == (2, 1)
    assert of["zero_outside_wider"] == 2
    assert (of["sign_right"], of["with_sign"]) == (2, 3)
    assert of["error_mean"] == pytest.approx((2 + 12 + 3 + 4) / 4, abs=0.1)
    assert of["error_mean_of_always_zero"] == 5.5


def test_the_experiment_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kept = tmp_path / "shadow.json"
    size = ["--gpus", "8", "--warmup", "40", "--arrivals", "60", "--seeds", "1", "--load", "1.0"]
    assert main([*size, "--output", "json", "--out", str(kept)]) == 0

    row = json.loads(capsys.readouterr().out)
    assert json.loads(kept.read_text()) == [row]
    assert row["summary"]["rows"] == len(row["rows"]) == 2
    assert [(each["live"], each["shadow"]) for each in row["rows"]] == [
        ("default", "worst-fit"),
        ("worst-fit", "default"),
    ]
    assert row["made"]["processor"]


@pytest.mark.parametrize("by", [DEFAULT, WORST], ids=lambda each: each.policy.name.value)
def test_a_replay_that_is_told_how_long_vms_stay_refuses_whom_live_is_refused(by: InForce) -> None:
    vms = demand(DRIFTS, seed=2)
    of = Recorded(
        1,
        "2026-01-01T00:00:00Z",
        nodes=tuple(nodes(DRIFTS.model, DRIFTS.gpus, DRIFTS.gpus_per_node)),
        arrivals=tuple(Arrival(vm.at, vm.uid, "tenants", vm.uid, vm.wanted) for vm in vms),
    )
    told = [Stay(vm.lasts, waits_until=vm.at + PATIENCE) for vm in vms]

    played = play(of, by, lasting=told)

    live = lived(DRIFTS, vms, by, patience=PATIENCE)
    assert sum(bool(fate.refused) for fate in played.fates) == live.refused > 0
