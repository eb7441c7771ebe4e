"""From a pod to what it asks of us."""

from __future__ import annotations

from typing import Any

import pytest

from extender import wire
from extender.packing.spread import Spread
from extender.request import Asked, NotOurs, Request, Unanswerable, of_pod
from nodeagent.api import keys
from nodeagent.api.gpunode import PodRef
from tests.builders import VGPU, as_json, raw_pod


def asked(pod: dict[str, Any]) -> Asked:
    return of_pod(wire.decode(as_json(pod), wire.Pod), devices_per_pod=16)


def container(name: str = "c", *, always: bool = False, **amounts: str) -> dict[str, Any]:
    requests = {VGPU + each.replace("_", "-")[1:]: n for each, n in amounts.items()}
    spec: dict[str, Any] = {"name": name, "resources": {"requests": requests}}
    return {**spec, "restartPolicy": "Always"} if always else spec


def test_a_pod_without_our_resources_is_not_ours() -> None:
    assert isinstance(asked(raw_pod(resources={"cpu": "2", "nvidia.com/gpu": "1"})), NotOurs)


def test_a_time_sliced_vgpu_is_not_ours() -> None:
    assert isinstance(asked(raw_pod(resources={"nvidia.com/NVIDIA_A2-2Q": "1"})), NotOurs)


def test_one_vgpu_is_one_instance() -> None:
    request = asked(raw_pod("1-10C"))

    assert isinstance(request, Request)
    assert request.wanted == (VGPU + "1-10C",)


def test_several_resources_and_several_devices_add_up() -> None:
    request = asked(raw_pod("3-40C", "1-10C", "1-10C"))

    assert isinstance(request, Request)
    assert request.wanted == (VGPU + "1-10C", VGPU + "1-10C", VGPU + "3-40C")


@pytest.mark.parametrize(
    ("init", "main", "count"),
    [
        pytest.param([container(_1_10C="2")], [container(_1_10C="1")], 2, id="init is larger"),
        pytest.param([container(_1_10C="1")], [container(_1_10C="3")], 3, id="main is larger"),
        pytest.param(
            [container(_1_10C="1", always=True)], [container(_1_10C="1")], 2, id="sidecar adds"
        ),
        pytest.param(
            [container(_1_10C="1", always=True), container(_1_10C="3")],
            [container(_1_10C="1")],
            4,
            id="init beside an earlier sidecar",
        ),
        pytest.param(
            [container(_1_10C="3"), container(_1_10C="1", always=True)],
            [container(_1_10C="1")],
            3,
            id="init before the sidecar",
        ),
    ],
)
def test_init_containers_count_as_kubernetes_counts_them(
    init: list[dict[str, Any]], main: list[dict[str, Any]], count: int
) -> None:
    pod = raw_pod()
    pod["spec"] |= {"initContainers": init, "containers": main}

    request = asked(pod)

    assert isinstance(request, Request)
    assert len(request.wanted) == count


def test_limits_count_where_requests_are_missing() -> None:
    pod = raw_pod()
    pod["spec"]["containers"] = [{"name": "c", "resources": {"limits": {VGPU + "1-10C": "1"}}}]

    assert isinstance(asked(pod), Request)


def test_the_controller_among_the_owners_is_the_owner() -> None:
    pod = raw_pod("1-10C")
    pod["metadata"]["ownerReferences"] = [
        {"kind": "Other", "name": "x", "uid": "1"},
        {"kind": "VirtualMachineInstance", "name": "vm", "uid": "2", "controller": True},
    ]

    request = asked(pod)

    assert isinstance(request, Request)
    assert request.owner is not None
    assert (request.owner.kind, request.owner.name) == ("VirtualMachineInstance", "vm")


@pytest.mark.parametrize("amount", ["1500m", "-1", "x", "1.5", "", "1" * 40])
def test_an_amount_that_is_no_whole_number_can_never_be_met(amount: str) -> None:
    answer = asked(raw_pod(resources={VGPU + "1-10C": amount}))

    assert isinstance(answer, Unanswerable)


@pytest.mark.parametrize("amount", ["1k", "17", "999999999999999999", "9e99", "4Ti"])
def test_more_instances_than_any_node_holds_are_refused_without_counting_them(amount: str) -> None:
    assert isinstance(asked(raw_pod(resources={VGPU + "1-10C": amount})), Unanswerable)


def test_a_pod_without_identity_can_never_be_met() -> None:
    pod = raw_pod("1-10C")
    del pod["metadata"]

    assert isinstance(asked(pod), Unanswerable)


def test_a_claim_of_a_volume_is_noticed() -> None:
    pod = raw_pod("1-10C", volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "d"}}])

    request = asked(pod)

    assert isinstance(request, Request)
    assert request.waits_for_volumes


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
@pytest.mark.parametrize("always", [False, True])
def test_a_pod_of_very_many_containers_is_refused_without_adding_them_up(
    kind: str, always: bool
) -> None:
    """Adding up 50,000 resources container by container would take hours."""
    pod = raw_pod()
    pod["spec"] = {kind: [container(always=always, **{f"_{n}_1_{n}C": "1"}) for n in range(50_000)]}

    assert asked(pod) == Unanswerable(
        PodRef("default", "vm-1", "pod-1"), "vGPU: a pod may ask for at most 16 GPU instances"
    )


def spread(said: str, *wanted: str) -> dict[str, Any]:
    pod = raw_pod(*wanted)
    pod["metadata"]["annotations"] = {keys.SPREAD_ANNOTATION: said}
    return pod


@pytest.mark.parametrize(("said", "meant"), [("same", Spread.SAME), ("distinct", Spread.DISTINCT)])
def test_a_pod_of_several_vgpus_says_how_they_lie(said: str, meant: Spread) -> None:
    several, one = asked(spread(said, "1-10C", "3-40C")), asked(spread(said, "1-10C"))

    assert isinstance(several, Request)
    assert isinstance(one, Request)
    assert several.spread is meant
    assert one.spread is Spread.ANY, "one alone is like those of which nothing is said"


@pytest.mark.parametrize("said", ["", "any", "Same", "same ", "x" * 5000])
def test_another_way_to_lie_is_refused_with_the_remedy(said: str) -> None:
    answer = asked(spread(said, "1-10C", "3-40C"))

    assert answer == Unanswerable(
        PodRef("default", "vm-1", "pod-1"),
        f"vGPU: the annotation tangram.dev/spread says {said[:63]!r}: write same or distinct,"
        " or remove it",
    )


def test_a_pod_that_is_not_ours_may_say_what_it_likes() -> None:
    pod = raw_pod(resources={"cpu": "2"})
    pod["metadata"]["annotations"] = {keys.SPREAD_ANNOTATION: "wide"}

    assert isinstance(asked(pod), NotOurs)
