"""Whether a pod is Ready, and what keeps it from that: as its kubelet says, and never much."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster import feed
from extender.cluster.objects import watched_pod
from extender.cluster.readiness import LONGEST_MESSAGE, LOST, SILENT, UNSAID
from extender.service import Service
from extender.service.seam import Call
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import PODS
from tests.builders import raw_pod
from tests.fakes.kubelets import Kubelets
from tests.waiting import until

LONGEST = 450  # three containers, each with why it waits
PAUSED = 'the status of pod readiness gate "kubevirt.io/virtual-machine-unpaused" is not "True"'


def unready(status: dict[str, Any], *, node: str = "node-1") -> str:
    pod = raw_pod("1-10C", name="vm")
    pod["spec"]["nodeName"] = node
    pod["status"] = {"phase": "Pending", **status}
    return watched_pod(msgspec.json.encode(pod), devices_per_pod=8).unready


def ready(status: str, message: str = "") -> dict[str, Any]:
    return {"type": "Ready", "status": status, "message": message}


def container(name: str, *, waits: str = "", ready: bool = False) -> dict[str, Any]:
    state = {"waiting": {"reason": waits}} if waits else {"running": {}}
    return {"name": name, "ready": ready, "state": state}


@pytest.mark.parametrize("containers", [[], [container("compute", ready=True)]])
def test_a_pod_is_ready_by_its_condition_alone(containers: list[Any]) -> None:
    scheduled = {"type": "PodScheduled", "status": "True"}
    said = {"conditions": [scheduled, ready("True")], "containerStatuses": containers}

    assert unready(said) == ""
    assert unready({**said, "conditions": [scheduled]}) == SILENT
    assert unready({"containerStatuses": containers}) == SILENT
    assert unready({}) == SILENT


def test_containers_are_named_that_do_not_start_or_whose_probe_fails() -> None:
    said = {
        "conditions": [ready("False", "containers with unready status: [compute hook]")],
        "initContainerStatuses": [container("disk", waits="ErrImagePull")],
        "containerStatuses": [
            container("compute", waits="CrashLoopBackOff"),
            container("console", ready=True),
            container("hook"),
        ],
    }

    assert unready(said) == "containers disk: ErrImagePull, compute: CrashLoopBackOff, hook"


def test_a_vm_that_is_paused_has_the_gate_told_that_is_closed() -> None:
    said = {
        "conditions": [ready("False", PAUSED)],
        "containerStatuses": [container("compute", ready=True)],
    }

    assert unready(said) == PAUSED


def test_of_a_pod_whose_node_is_lost_it_is_not_said_that_its_kubelet_was_silent() -> None:
    """The one condition is changed, by who misses the node; what its kubelet said last stays."""
    said = {
        "phase": "Running",
        "conditions": [ready("False")],
        "containerStatuses": [container("compute", ready=True)],
    }
    never = {**said, "containerStatuses": [container("compute", waits="ContainerCreating")]}

    assert unready(said) == LOST
    assert unready(never) == "containers compute: ContainerCreating"
    assert unready({"conditions": [ready("False")]}) == UNSAID


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_nothing_keeps_a_pod_from_being_ready_that_is_not_bound_or_has_ended(phase: str) -> None:
    assert unready({"phase": phase, "conditions": [ready("False", "PodCompleted")]}) == ""
    assert unready({"conditions": [ready("False")]}, node="") == ""


words = st.text(max_size=400)
containers = st.lists(
    st.fixed_dictionaries(
        {}, optional={
            "name": words,
            "ready": st.just(False),
            "state": st.fixed_dictionaries({"waiting": st.fixed_dictionaries({"reason": words})}),
        },
    ),
    max_size=40,
)  # fmt: skip


@given(containers, containers, st.lists(words.map(lambda text: ready("False", text)), max_size=3))
def test_what_is_told_of_any_status_is_a_line_that_is_not_long(
    first: list[Any], others: list[Any], conditions: list[Any]
) -> None:
    said = unready(
        {
            "conditions": conditions or None,
            "initContainerStatuses": first or None,
            "containerStatuses": others,
        }
    )

    assert said.isprintable()
    assert len(said) <= (LONGEST if first or others else LONGEST_MESSAGE)
    assert said


class Heard:
    """A witness that keeps what it hears."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def heard(self, call: Call) -> None:
        self.calls.append(call)


async def test_pods_that_are_not_ready_are_known_until_they_are_or_have_gone(
    api: InMemoryApi, service: Service
) -> None:
    """And nobody who writes down what answers rest on hears anything of it."""
    kubelets, knowledge, witness = Kubelets(api), service.knowledge, Heard()
    knowledge.seam.join(witness)
    uids = {}
    for name in ("a", "b", "waits"):
        pod = raw_pod("1-10C", name=name)
        del pod["metadata"]["uid"]
        if name != "waits":
            pod["spec"]["nodeName"] = "node-1"
        made = await api.create(PODS, pod, namespace="default")
        uids[name] = msgspec.json.decode(made)["metadata"]["uid"]
    kubelets.waiting = {"a": "ImagePullBackOff"}
    await kubelets.tell()
    told = "containers compute: ImagePullBackOff"
    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(feed(api, knowledge))
        await until(lambda: len(knowledge.pods) == 3)
        listed = dict(knowledge.unready)
        kubelets.waiting = {"b": "CrashLoopBackOff"}
        await kubelets.tell()
        await until(lambda: uids["b"] in knowledge.unready and uids["a"] not in knowledge.unready)
        await api.delete(PODS, "b", namespace="default", grace_seconds=0)
        await until(lambda: uids["b"] not in knowledge.pods)
        feeding.cancel()

    assert listed == {uids["a"]: told}
    assert knowledge.unready == {}
    assert witness.calls
    assert not any("BackOff" in repr(call) for call in witness.calls)
