"""The installation for trials works, is shut to whom it should be, and does no more than it may."""

from __future__ import annotations

from pathlib import Path

import yaml

from nodeagent.api import resources
from nodeagent.apiserver.protocol import PODS
from tests.e2e import occasions, strangers
from tests.e2e.deployed import tangram
from tests.e2e.running import installed
from tests.e2e.stack import artifacts

VMS = 100
WHOLE_GPU = "nvidia.com/NVIDIA_H100XM-7-80C"


async def test_it_is_shut_to_all_but_the_scheduler_which_is_told_what_the_gpus_offer(
    tmp_path: Path,
) -> None:
    (foreign := tmp_path / "foreign").mkdir()
    async with installed(artifacts(tmp_path)) as running:
        assert await strangers.at_the_hooks(running, foreign) == strangers.KEPT_OUT
        past = await strangers.past_the_extender(running, "tangram-simulated-0")
        assert past == strangers.TOLD

        kubeconfig = ("--kubeconfig", str(running.plane.kubeconfig("admin")))
        printed = await tangram("scheduler-config", *kubeconfig)
        (entry,) = yaml.safe_load(printed)["extenders"]
        names = {each["name"] for each in entry["managedResources"]}
        (node, *_) = await running.gpu_nodes()
        assert names == {
            resource
            for types in node.status.vgpu_types.values()
            for each in types
            for resource in resources.of_vgpu_type(each.name)
        }
        file = tmp_path / "scheduler.yaml"
        file.write_text(printed)
        assert "nothing is wrong" in await tangram(
            "scheduler-config", "--check", str(file), *kubeconfig
        )


async def test_a_hundred_vms_come_and_go_under_exactly_the_roles_that_are_installed(
    tmp_path: Path,
) -> None:
    async with installed(artifacts(tmp_path)) as running:
        leaving = await occasions.owned(running)
        await occasions.a_drain_is_planned(running, leaving)
        await running.create_vms(VMS - len(leaving))
        await running.running(VMS)
        await running.planned(VMS)
        for name in leaving:  # before any of them may be evicted
            await running.api.delete(PODS, name, namespace="default")
        await running.running(VMS - len(leaving))
        await running.planned(VMS - len(leaving))
        await occasions.one_of_high_priority_makes_room(running, {WHOLE_GPU: "3"})
        there = [pod["metadata"]["name"] for pod in await running.pods()]
        for name in there[: VMS // 2]:
            await running.api.delete(PODS, name, namespace="default")
        staying = VMS - len(leaving) - VMS // 2
        await running.running(staying)
        await running.planned(staying)
        await occasions.a_node_comes_and_goes(running)
        await occasions.a_pod_loses_its_label(running)
        await occasions.a_policy_is_refused(running)
        await occasions.metrics_are_read(running)

        assert await occasions.unused(running) == {}
        await running.planned(staying)
        assert running.refusals() == {}
