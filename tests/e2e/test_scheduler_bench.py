"""The smallest size of the benchmark that needs a real kube-scheduler."""

from __future__ import annotations

import json

import pytest

from benchmarks.scheduler import __main__ as scheduler
from tests.e2e.controlplane.required import required_binaries


def test_tangram_is_measured_beside_an_extender_that_decides_nothing_and_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    required_binaries()
    size = ["--nodes", "3", "--pods", "6", "--rounds", "1"]
    assert scheduler.main([*size, "--seconds", "1", "--per-second", "5"]) == 0

    row = json.loads(capsys.readouterr().out)
    assert row["median"].keys() == {"tangram", "passthrough", "none"}
    for mode, found in row["median"].items():
        for scenario in ("plain", "saturated", "sustained"):
            assert found[scenario]["attempts"] >= 5, "each pod is scheduled once at least"
            assert found[scenario]["algorithm_ms"] > 0
            assert found[scenario]["cpu_scheduler"] >= 0
        assert found["saturated"]["pods_per_s"] > 0
        assert ("cpu_extender" in found["saturated"]) == (mode != "none")
    assert row["tangram_to_passthrough"]["saturated"]["pods_per_s"] > 0
    assert row["tangram_to_none"]["plain"]["algorithm_ms"] > 0
