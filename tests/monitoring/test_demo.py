"""Real Prometheus scrapes ``tangram demo --serve`` as people start it: what moves there."""

from __future__ import annotations

import time
from pathlib import Path

from tests.monitoring.component import rule_file
from tests.monitoring.movement import EVERYTHING, moved
from tests.monitoring.server import prometheus
from tests.page.running import demo
from tests.waiting import until

POLICY = """\
apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
pools: [{name: training, nodes: {matchLabels: {pool: training}}}]
tenants:
- name: vision
  namespaces: {matchLabels: {team: vision}}
  caps: {memorySlices: 12, profiles: {1g.10gb: 6}}
- {name: speech, namespaces: {matchLabels: {team: speech}}, dedicated: gpu}
headroom: [{profile: 1g.10gb, keep: 2, pool: training}]
"""
CROWDED = ("--nodes", "2", "--gpus", "2", "--vms", "12", "--load", "1.4", "--burst", "8")
QUICK = ("--lifetime", "4", "--mix", "uniform", "--seed", "3")

IN_THE_DAY_ALONE = {
    # Nobody calls preempt, ends the process, or changes the policy in the demo.
    "tangram_leader",
    "tangram_ready",
    "tangram_policy_info",
    "tangram_policy_refused",
    "tangram_policy_reloads_total",
}
"""What does not move in the demo, where nothing goes wrong: ``test_day`` has it move."""


async def test_everything_moves_in_the_demo_or_in_the_day(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    expected = EVERYTHING - IN_THE_DAY_ALONE
    assert IN_THE_DAY_ALONE < EVERYTHING, "and nothing that nobody looks at"
    with demo(*CROWDED, *QUICK, "--policy", str(file)) as page:
        async with prometheus(tmp_path, page, rule_file()) as server:
            began = time.time()

            async def all_moved() -> bool:
                left = expected - await moved(server, expected, since=began, until=time.time())
                return not left

            await until(all_moved, within=90, every=2)
