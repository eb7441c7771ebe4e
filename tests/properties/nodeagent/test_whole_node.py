"""Random lives of a whole node: each pod gets exactly what was planned for it.

``TANGRAM_WHOLE_NODE=1000`` has so many operations happen in each mode, other ones each time
(``--hypothesis-seed`` repeats them); without it there are a few, always the same.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nodeagent.api.gpunode import Mode
from tests.fakes.nvml.library import built_for_tests
from tests.properties.nodeagent.whole.perform import NOTHING, perform
from tests.properties.nodeagent.whole.population import Population
from tests.properties.nodeagent.whole.rest import settle
from tests.properties.nodeagent.whole.script import Step, scripts
from tests.properties.nodeagent.whole.site import Site

ASKED = os.environ.get("TANGRAM_WHOLE_NODE", "")
OPERATIONS = int(ASKED or 100)
LENGTH = 30
_SHARED = Path("/dev/shm")
"""In memory, where there is such: syncing files takes no time there."""


async def live(site: Site, script: Sequence[Step]) -> Counter[str]:
    """Let a node live through *script*, and come to rest; return what there was of what."""
    population = Population(site)
    await site.start()
    try:
        for step in script:
            print(f"# {step}")
            await perform(population, step)
        print("# at last")
        await settle(population)
    finally:
        await site.stop()
    return population.counts


@pytest.mark.parametrize("mode", [Mode.CONTAINER, Mode.VGPU_MDEV, Mode.VGPU_VFIO])
def test_each_pod_gets_exactly_what_was_planned_for_it(mode: Mode, tmp_path: Path) -> None:
    shared = next(each for each in tmp_path.parents if each.name.startswith("pytest-"))
    library = built_for_tests(shared / "fake-nvml")
    counts = Counter[str]()

    # What a node does takes time, and not always the same: so nothing is shrunk.
    @settings(
        max_examples=2 * OPERATIONS // LENGTH,
        derandomize=not ASKED,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(scripts(LENGTH), st.integers(0, 2**32))
    def lives(script: list[Step], seed: int) -> None:
        if _happened(counts) >= OPERATIONS:
            return
        root = Path(tempfile.mkdtemp(prefix="node-", dir=_SHARED if _SHARED.is_dir() else None))
        try:
            counts.update(asyncio.run(live(Site(root, library, mode, seed=seed), script)))
        finally:
            shutil.rmtree(root)

    lives()

    print(f"# {mode}: {_happened(counts)} operations: {dict(counts)}")
    assert _happened(counts) >= OPERATIONS
    assert counts["served"] >= OPERATIONS // 20


def _happened(counts: Counter[str]) -> int:
    return counts.total() - counts[NOTHING]
