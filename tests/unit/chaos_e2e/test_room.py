"""Who waits although there is room for it is found, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.api import keys
from nodeagent.api.gpunode import GpuNode
from tests.builders import assignment, gpu, gpu_node, instance
from tests.e2e.chaos.demand import Vm
from tests.e2e.room import missed

WHOLE, FOUR, THREE, ONE = 0, 5, 9, 19


def cluster(*taken: tuple[int, int]) -> list[GpuNode]:
    """Return a node with one empty GPU, and one whose GPU has instances (profile id, start)."""
    there = tuple(instance(profile, start, gi_id=n) for n, (profile, start) in enumerate(taken))
    return [gpu_node("a"), gpu_node("b", gpus=[gpu(instances=there)])]


def pending(*vms: Vm, bound: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    pods = {vm.name: vm.pod() for vm in vms}
    for name in bound:
        pods[name]["spec"]["nodeName"] = "a"
    return pods


def gang(*profiles: int, size: int = 0) -> list[Vm]:
    size = size or len(profiles)
    return [Vm(f"g-{at}", (each,), "g", size) for at, each in enumerate(profiles)]


@pytest.mark.parametrize(
    ("profiles", "fits"),
    [((WHOLE,), True), ((FOUR, THREE), True), ((FOUR, FOUR), False), ((WHOLE, ONE), False)],
    ids=["one", "both on one GPU", "two that exclude each other", "more than a GPU"],
)
def test_a_pod_is_missed_if_one_node_has_all_it_wants(
    profiles: tuple[int, ...], fits: bool
) -> None:
    full = cluster((WHOLE, 0))

    assert list(missed(full, pending(Vm("vm", profiles)))) == ["vm"] * fits


def test_who_is_bound_or_fits_nowhere_is_not_missed() -> None:
    nodes = cluster((WHOLE, 0))
    nodes[0] = gpu_node("a", plan=[assignment("x", ONE, 3)])
    pods = pending(Vm("bound", (ONE,)), Vm("whole", (WHOLE,)), Vm("one", (ONE,)), bound=("bound",))

    assert list(missed(nodes, pods)) == ["one"]


def test_a_gang_is_missed_if_all_of_it_fit_together_and_else_none_of_it_is() -> None:
    assert set(missed(cluster(), pending(*gang(WHOLE, FOUR, THREE)))) == {"g-0", "g-1", "g-2"}
    assert list(missed(cluster((ONE, 0)), pending(*gang(WHOLE, FOUR, FOUR)))) == []
    assert list(missed(cluster(), pending(*gang(ONE, ONE, size=3)))) == []  # one has gone


def test_what_is_left_of_a_gang_that_has_begun_is_as_any_pod() -> None:
    pods = pending(*gang(ONE, ONE, WHOLE), bound=("g-0",))
    nodes = cluster((ONE, 0))
    nodes[0] = gpu_node("a", plan=[assignment("x", ONE, 3)])

    assert list(missed(nodes, pods)) == ["g-1"]


def test_a_gang_of_pods_says_so_in_its_annotations() -> None:
    (first, _) = gang(ONE, ONE)

    annotations = first.pod()["metadata"]["annotations"]
    assert (annotations[keys.GANG], annotations[keys.GANG_SIZE]) == ("g", "2")
