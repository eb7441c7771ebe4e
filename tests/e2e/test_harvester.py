"""Tangram on Harvester 1.7 and 1.8: real control plane, real extender and agents.

Harvester's scan comes every 2 s here, every 30 s there; all other time is the clock's.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e.harvester.cluster import cluster
from tests.e2e.harvester.judge import violations
from tests.e2e.stack import artifacts
from tests.fakes.pcidevices.names import Version

SCAN_SECONDS = 2.0
MIX = (19, 19, 19, 14, 14, 9, 5)
"""Profiles that VMs ask for: small ones more often."""

each_version = pytest.mark.parametrize("version", list(Version), ids=str)


@each_version
async def test_sixty_vms_come_and_go_over_six_nodes(tmp_path: Path, version: Version) -> None:
    """Each has the GPU instance that was planned for it, or, of a kept device, that is recorded."""
    chance = random.Random(6)
    directory = artifacts(tmp_path)
    async with cluster(directory, version, nodes=6, scan_seconds=SCAN_SECONDS) as running:
        names = [f"vm-{n:02}" for n in range(60)]
        wanted = {name: chance.choice(MIX) for name in names}
        alive: list[str] = []
        for wave in range(0, 60, 15):
            fresh = names[wave : wave + 15]
            for name in fresh:
                await running.create(name, wanted[name])
            alive += fresh
            await running.settled(*alive)
            assert await violations(running) == []
            gone = chance.sample(alive, 6)
            for name in gone:
                await running.delete(name)
            stopped = chance.sample([name for name in alive if name not in gone], 2)
            for name in stopped:
                await running.run(name, "Halted")
            alive = [name for name in alive if name not in gone]
            await running.gone(*gone, *stopped)
            await running.quiet()
            assert await violations(running) == []
            for name in stopped:
                await running.run(name, "Always")
            await running.settled(*alive)
        assert await violations(running) == []

        for name in alive:
            await running.delete(name)
        await running.gone(*alive)
        await running.empty()
        assert await violations(running) == []
