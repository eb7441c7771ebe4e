"""Tangram on Harvester 1.7 and 1.8: real control plane, real extender and agents."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.harvester.cluster import cluster
from tests.e2e.harvester.judge import violations
from tests.fakes.pcidevices.names import Version

each_version = pytest.mark.parametrize("version", list(Version), ids=str)


@each_version
async def test_a_vm_gets_its_vgpu(tmp_path: Path, version: Version) -> None:
    async with cluster(tmp_path / "c", version, nodes=1, gpus=1, scan_seconds=2.0) as running:
        await running.create("vm-1", 19)
        await running.all_run("vm-1")
        await running.quiet(for_seconds=1.0)

        assert await violations(running) == []
