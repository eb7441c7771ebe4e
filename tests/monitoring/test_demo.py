"""Real Prometheus scrapes ``tangram demo --serve`` as people start it: what moves there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

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
    # Nothing goes wrong in the demo: no agent, GPU, kubelet or watch fails, nobody else writes.
    "tangram_feed_silence_seconds",
    "tangram_gpus",
    "tangram_gpus_avoided",
    "tangram_gpus_quarantined",
    "tangram_joint_plan_gap",
    "tangram_node_conditions",
    "tangram_nodes",
    "tangram_plan_conflicts_total",
    "tangram_pods_not_admitted_total",
    "tangram_realizations_failed_total",
    # Its policy stays as it is, and it leads to its end.
    "tangram_build_info",
    "tangram_headroom_placements_kept",
    "tangram_leader",
    "tangram_policy_info",
    "tangram_policy_refused",
    "tangram_policy_reloads_total",
    "tangram_ready",
    "tangram_tenant_instances_cap",
    "tangram_tenant_memory_slices_cap",
    # Nobody is evicted in it, or moved.
    "tangram_evictions_total",
    "tangram_move_orders_total",
    "tangram_moves_total",
    "tangram_preemptions_total",
    # Its decision log is written in time.
    "tangram_decision_log_errors_total",
    "tangram_decision_log_lost_total",
    "tangram_decision_log_waiting",
    # No policy runs beside its own.
    "tangram_shadow_behind",
    "tangram_shadow_decisions",
    "tangram_shadow_lag_seconds",
    "tangram_shadow_lost_total",
    "tangram_shadow_policy_refused",
    "tangram_shadow_refused",
    "tangram_shadow_refused_more",
    "tangram_shadow_refused_more_interval",
    "tangram_shadow_running",
    "tangram_shadow_stretch_seconds",
    "tangram_shadow_stretches_ended_total",
    "tangram_shadow_tenant_refused",
    "tangram_shadow_unusable_slices",
    "tangram_shadow_whole_gpus",
    # They last for milliseconds there: two scrapes a second see one now and then.
    "tangram_assignments_unrealized",
    "tangram_oldest_unrealized_seconds",
    "tangram_pods_presumed",
}
"""What is not certain to move in the demo; on the day of ``test_day`` all of it does."""


async def test_everything_that_the_day_alone_does_not_show_moves_in_the_demo(
    tmp_path: Path,
) -> None:
    assert IN_THE_DAY_ALONE < EVERYTHING, "and nothing that nobody looks at"
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    left = EVERYTHING - IN_THE_DAY_ALONE
    log = ("--decision-log", str(tmp_path / "log"))
    with demo(*CROWDED, *QUICK, *log, "--policy", str(file)) as page:
        async with prometheus(tmp_path, page, rule_file()) as server:
            await server.scraped_anew()  # so that all is known that is there from the beginning
            began = time.time()

            async def none_left() -> bool:
                nonlocal left
                left -= await moved(server, left, since=began, until=time.time())
                return not left

            try:
                await until(none_left, within=60, every=2)
            except TimeoutError:
                pytest.fail(f"these do not move in the demo: {sorted(left)}")
