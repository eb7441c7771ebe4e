"""Which resources are handed over to the extender."""

from __future__ import annotations

import msgspec

from extender.kubescheduler.offered import of_inventory, of_models
from nodeagent.api import resources
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import GpuNode, Mode
from tests.builders import gpu_node


def in_mode(node: GpuNode, mode: Mode) -> GpuNode:
    status = msgspec.structs.replace(node.status, mode=mode)
    return msgspec.structs.replace(node, status=status)


def restricted(node: GpuNode, *names: str) -> GpuNode:
    status = msgspec.structs.replace(node.status, resources=names)
    return msgspec.structs.replace(node, status=status)


def test_what_the_drivers_report_is_offered_and_counted_by_the_scheduler() -> None:
    offered = of_inventory([gpu_node("node-1", gpus=2)])

    assert offered["nvidia.com/NVIDIA_H100XM-1-10C"] is False
    assert not any(name.startswith("nvidia.com/mig-") for name in offered)
    assert list(offered) == sorted(offered)


def test_containers_are_offered_profiles() -> None:
    offered = of_inventory([in_mode(gpu_node("node-1"), Mode.CONTAINER)])

    assert "nvidia.com/mig-1g.10gb" in offered
    assert all(name.startswith("nvidia.com/mig-") for name in offered)


def test_what_no_agent_hands_out_is_not_offered() -> None:
    only = "nvidia.com/NVIDIA_H100XM-7-80C"

    assert of_inventory([restricted(gpu_node("node-1"), only)]) == {only: False}


def test_a_resource_that_any_node_makes_for_its_pod_is_ignored_by_the_scheduler() -> None:
    ours, harvesters = gpu_node("node-1"), in_mode(gpu_node("node-2"), Mode.HARVESTER)

    assert set(of_inventory([harvesters, ours]).values()) == {True}


def test_a_node_without_gpus_offers_nothing() -> None:
    assert of_inventory([gpu_node("node-1", gpus=0)]) == {}


def test_every_resource_of_the_catalog_is_ours() -> None:
    offered = of_models(MODELS.values())

    assert all(resources.ours(name) for name in offered)
    assert {"nvidia.com/mig-7g.80gb", "nvidia.com/NVIDIA_A100-1-5C"} <= offered.keys()


def test_harvester_serves_vms_alone_and_is_not_counted() -> None:
    every, harvesters = of_models(MODELS.values()), of_models(MODELS.values(), harvester=True)

    assert set(harvesters.values()) == {True}
    assert harvesters.keys() == {name for name in every if not name.startswith("nvidia.com/mig-")}
