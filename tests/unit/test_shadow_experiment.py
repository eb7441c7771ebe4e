"""The paired experiment in small: what a shadow says of a policy is what that does once live."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.shadow.__main__ import main
from benchmarks.shadow.experiment import UNIT_SECONDS, demand, lived, swapped
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
    found = lived(DRIFTS, vms, DEFAULT, DEFAULT, patience=PATIENCE)

    assert found.evidence.agreement.decided == len(vms)
    assert found.evidence.agreement.alike == len(vms)
    assert found.refused == found.evidence.refusals.shadow > 0


def test_what_was_predicted_happens_within_its_interval() -> None:
    pairs = swapped(DRIFTS, (DEFAULT, WORST), ("default", "worst-fit"), 1, patience=PATIENCE)

    for pair in pairs:
        assert pair.refused > 0
        assert abs(pair.said - pair.refused) <= 0.1 * pair.vms
        assert pair.within is not False
    assert pairs[0].actual == -pairs[1].actual


def test_the_experiment_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kept = tmp_path / "shadow.json"
    size = ["--gpus", "8", "--arrivals", "60", "--seeds", "1", "--output", "json"]
    assert main([*size, "--out", str(kept)]) == 0

    row = json.loads(capsys.readouterr().out)
    assert json.loads(kept.read_text()) == [row]
    assert row["summary"]["pairs"] == len(row["rows"]) == 2
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

    live = lived(DRIFTS, vms, by, by, patience=PATIENCE)
    assert sum(bool(fate.refused) for fate in played.fates) == live.refused > 0
