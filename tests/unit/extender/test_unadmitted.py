"""A pod that a kubelet has refused: whoever looks at it, or at its VM, is told, once."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest

from extender.cluster import KubernetesCluster
from extender.cluster.pod_events import ApiPodEvents
from extender.service import Service
from extender.service.events import Warn
from extender.service.ports import ClusterUnavailable, Feed, PodFacts
from extender.service.unadmitted import REASON, UnadmittedTeller
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import EVENTS, PODS
from tests.builders import assignment, gpu_node, raw_pod, request

VM = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachineInstance",
    "name": "vm",
    "uid": "uid-vm",
    "controller": True,
}


@pytest.fixture
def service(api: InMemoryApi) -> Service:
    """An extender that leads and knows of a place for a pod."""
    made = Service(KubernetesCluster(api))
    for feed in Feed:
        made.knowledge.feed_synced(feed)
    made.knowledge.node("node-1", cordoned=False)
    made.knowledge.gpu_node(gpu_node("node-1", plan=[assignment("a", 19, 0, pod="pod-1")]))
    return made


def refuse(service: Service, uid: str = "pod-1") -> None:
    asked = request("1-10C", pod="pod-1")
    ref = PodRef("default", "launcher", uid)
    facts = PodFacts(ref, asked, "node-1", "Failed", not_admitted=True)
    service.knowledge.pod(facts)


class Words:
    """Keeps what is said; ``error``: why nothing can be."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []
        self.error: ClusterUnavailable | None = None

    async def warn(self, pod: PodRef, reason: str, message: str) -> None:
        if self.error:
            raise self.error
        self.said.append((pod.uid, reason, message))

    async def about(self, pod: PodRef) -> Warn:
        return partial(self.warn, pod)


async def test_the_pod_and_its_vm_get_an_event(api: InMemoryApi, service: Service) -> None:
    pod = raw_pod("1-10C", name="launcher")
    pod["metadata"]["ownerReferences"] = [VM]
    del pod["metadata"]["uid"]
    made = msgspec.json.decode(await api.create(PODS, pod, namespace="default"))
    uid = made["metadata"]["uid"]
    service.knowledge.gpu_node(
        gpu_node("node-1", plan=[assignment("a", 19, 0, pod=uid)], generation=2, version=2)
    )
    refuse(service, uid)
    events = ApiPodEvents(api, lambda: datetime(2026, 1, 1, tzinfo=UTC), instance="extender-0")
    await UnadmittedTeller(service.knowledge, events).step()

    page = await api.list(EVENTS, namespace="default")
    found = [msgspec.json.decode(raw) for raw in page.items]
    assert {(it["involvedObject"]["kind"], it["reason"]) for it in found} == {
        ("Pod", REASON),
        ("VirtualMachineInstance", REASON),
    }
    assert all("node node-1" in it["message"] for it in found)
    assert {it["source"]["component"] for it in found} == {"tangram-extender"}


async def test_it_is_said_once_of_each_pod(service: Service) -> None:
    words = Words()
    teller = UnadmittedTeller(service.knowledge, words)
    for _ in range(2):
        refuse(service)
        await teller.step()
        await teller.step()

    assert [(uid, reason) for uid, reason, _ in words.said] == [("pod-1", REASON)]
    assert not service.knowledge.unadmitted.there.is_set()


async def test_of_a_pod_that_had_no_place_of_ours_nothing_is_said(service: Service) -> None:
    words = Words()
    refuse(service, "another")
    await UnadmittedTeller(service.knowledge, words).step()

    assert not words.said


async def test_what_cannot_be_written_now_is_written_later(service: Service) -> None:
    words = Words()
    teller = UnadmittedTeller(service.knowledge, words)
    refuse(service)
    words.error = ClusterUnavailable("away")
    await teller.step()
    words.error = None
    await teller.step()
    assert len(words.said) == 1


async def test_what_the_api_server_refuses_for_good_is_dropped(service: Service) -> None:
    words = Words()
    teller = UnadmittedTeller(service.knowledge, words)
    refuse(service)
    words.error = ClusterUnavailable("forbidden", passing=False)
    await teller.step()
    words.error = None
    await teller.step()

    assert not words.said


async def test_who_does_not_lead_says_nothing_and_keeps_it(service: Service) -> None:
    words = Words()
    refuse(service)
    service.knowledge.tenure.end()
    await UnadmittedTeller(service.knowledge, words).step()

    assert not words.said
    assert service.knowledge.unadmitted.pods
