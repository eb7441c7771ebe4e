"""The smallest size of the start's benchmark beside a real API server."""

from __future__ import annotations

import json

import pytest

from benchmarks import start
from tests.e2e.controlplane.required import required_binaries


def test_a_start_is_measured_beside_a_real_api_server(capsys: pytest.CaptureFixture[str]) -> None:
    required_binaries()
    size = ["--real", "--nodes", "3", "--per-gpu", "1", "--samples", "3", "--changes", "5"]
    assert start.main([*size, "--settle", "0"]) == 0

    row = json.loads(capsys.readouterr().out)
    assert (row["api_server"], row["nodes"], row["assignments"]) == ("real", 3, 24)
    assert row["pods"] == 25
    assert row["ready_s"] > 0
    assert 10 < row["resident_mb"] <= row["peak_mb"]
    assert 0 < row["change_p50_ms"] <= row["change_p99_ms"]
    assert 0 < row["api_p50_ms"] <= row["api_p99_ms"]
    assert "writes_gpunode" not in row, "nobody counts them there"
