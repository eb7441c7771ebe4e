"""Each kind of fault of ``make chaos-e2e`` once: under load, and judged write by write.

Every process that can be killed or frozen is, and a link is delayed, cut and dropped. They come one
after the other, and all comes to rest twice: in rounds of their own they take three times as long.
"""

from __future__ import annotations

import random
from pathlib import Path

from extender.demo.pods import launcher
from nodeagent.apiserver.protocol import PODS
from tests.e2e.chaos import report
from tests.e2e.chaos.campaign import Campaign
from tests.e2e.chaos.faults import faults
from tests.e2e.chaos.load import Pace
from tests.e2e.chaos.site import Site, site
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.stack import RESOURCES, artifacts
from tests.waiting import until

CHOSEN = (
    *("kill-leader", "stop-agents", "kill-apiserver", "stop-etcd", "cut-leader"),
    *("stop-leader", "kill-agents", "stop-apiserver", "kill-etcd", "delay-agents", "drop-hooks"),
)
RESTS_AFTER = ("cut-leader", "drop-hooks")


async def test_under_load_no_fault_breaks_a_promise(tmp_path: Path) -> None:
    binaries = required_binaries()
    known = {each.name: each for each in faults()}
    chosen = [known[name] for name in CHOSEN]
    async with site(artifacts(tmp_path), binaries, nodes=6, gpus=4) as running:
        campaign = Campaign(running, pace=Pace(), chance=random.Random(0), tell=print)
        async with campaign.prepared():
            rounds = [
                await campaign.round(fault, rest=fault.name in RESTS_AFTER) for fault in chosen
            ]
            await bind_behind_everybodys_back(running)
            await until(lambda: campaign.violations, within=10, every=0.05)
    print(report.text(report.rows(chosen, rounds)))

    assert report.failures(rounds) == []
    # Or nothing was seen of them.
    assert sum(each.held for each in rounds) > 0
    assert sum(each.found_again for each in rounds) > 0
    assert sum(each.released for each in rounds) > 0
    assert sum(each.gangs for each in rounds) > 0
    assert any("half bound: by-hand wants" in each for each in campaign.violations)


async def bind_behind_everybodys_back(running: Site) -> None:
    """Break a promise, to see whether the judge would have seen it all along."""
    pod = launcher("by-hand", "default", RESOURCES[0])
    pod["metadata"] = {"name": "by-hand", "labels": pod["metadata"]["labels"]}
    pod["spec"]["schedulerName"] = "by-hand"
    await running.api.create(PODS, pod, namespace="default")
    binding = {
        "metadata": {"name": "by-hand"},
        "target": {"kind": "Node", "name": running.nodes[0]},
    }
    await running.api.create(
        PODS, binding, namespace="default", name="by-hand", subresource="binding"
    )
