"""What a plan and a pod both say is in memory once, whichever of them comes first."""

from __future__ import annotations

import msgspec
import pytest

from extender.cluster import objects
from extender.request import Request
from extender.service import Service
from extender.service.ports import PodFacts
from nodeagent.api import gpunode
from nodeagent.api.gpunode import Assignment, GpuNode, OwnerRef, PodRef
from tests.builders import assignment, gpu_node

OWNER = OwnerRef("VirtualMachineInstance", "tenants", "vm")


def facts(name: str = "vm-abcde", *, phase: str = "") -> PodFacts:
    """Return a pod as one that has just been read, sharing nothing with any other."""
    ref = PodRef("tenants", name, f"uid of {name}")
    asked = Request(pod=ref, wanted=("nvidia.com/mig-1g.10gb",), owner=OWNER)
    return msgspec.json.decode(
        msgspec.json.encode(PodFacts(ref, asked, phase=phase)), type=_PodFacts
    ).facts()


class _PodFacts(msgspec.Struct):
    ref: PodRef
    asked: _Asked
    phase: str

    def facts(self) -> PodFacts:
        """Return it as the feed makes it: the request's pod is the pod."""
        asked = Request(pod=self.ref, wanted=tuple(self.asked.wanted), owner=self.asked.owner)
        return PodFacts(self.ref, asked, phase=self.phase)


class _Asked(msgspec.Struct):
    wanted: list[str]
    owner: OwnerRef


def planned(*, generation: int = 1) -> GpuNode:
    """Return a node whose plan has a place for the pod, as one that has just been read."""
    entry = msgspec.structs.replace(assignment("a", 19, 0), pod=facts().ref, owner=OWNER)
    made = gpu_node("node-1", plan=(entry,), generation=generation, version=generation + 1)
    return gpunode.decode(msgspec.json.encode(made))


def entry_of(service: Service) -> Assignment:
    (entry,) = service.knowledge.views["node-1"].node.spec.assignments
    return entry


def shared(service: Service) -> bool:
    """Tell whether pod, request and entry have the same objects, down to the keys."""
    knowledge = service.knowledge
    (pod,), entry = knowledge.pods.values(), entry_of(service)
    assert isinstance(pod.asked, Request)
    assert pod.ref == entry.pod
    (key,), (assigned,) = knowledge.pods, knowledge.assigned
    return (
        pod.ref is entry.pod is pod.asked.pod
        and pod.asked.owner is entry.owner
        and key is pod.ref.uid is assigned
    )


@pytest.mark.parametrize("pod_first", [True, False])
def test_what_both_say_is_in_memory_once_and_stays_so(service: Service, pod_first: bool) -> None:
    knowledge = service.knowledge
    if pod_first:
        knowledge.pod(facts())
        knowledge.gpu_node(planned())
    else:
        knowledge.gpu_node(planned())
        knowledge.pod(facts())
    assert shared(service)

    knowledge.gpu_node(planned(generation=2))
    assert shared(service)
    knowledge.pod(facts(phase="Running"))
    assert shared(service)
    (pod,) = knowledge.pods.values()
    assert pod.phase == "Running"


def test_what_they_say_differently_stays_apart(service: Service) -> None:
    other = msgspec.structs.replace(OWNER, name="another")
    entry = msgspec.structs.replace(assignment("a", 19, 0), pod=facts().ref, owner=other)
    service.knowledge.gpu_node(gpu_node("node-1", plan=(entry,), version=2))
    service.knowledge.pod(facts())

    (pod,) = service.knowledge.pods.values()
    assert isinstance(pod.asked, Request)
    assert (pod.asked.owner, entry_of(service).owner) == (OWNER, other)


def test_of_a_gpu_node_only_what_decisions_look_at_is_kept() -> None:
    made = planned()
    entries = tuple(
        msgspec.structs.replace(each, since="2026-01-01T00:00:00.000000Z")
        for each in made.spec.assignments
    )
    status = msgspec.structs.replace(
        made.status, realized=(gpunode.Realized(entries[0].id, "slot-1"),)
    )
    told = msgspec.structs.replace(made, spec=gpunode.Plan(entries), status=status)

    read = objects.gpu_node(msgspec.json.encode(told))

    assert read.spec.assignments == entries
    assert read.status.realized == (gpunode.Realized(entries[0].id),)
    assert read.metadata == told.metadata
    assert read.status.gpus == told.status.gpus
