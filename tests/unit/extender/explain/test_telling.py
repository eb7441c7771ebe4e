"""Events on pods and their VMs: said once, sparingly, and no names of others' VMs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest

from extender.cluster import KubernetesCluster
from extender.cluster.pod_events import ApiPodEvents
from extender.service import Service, explaining
from extender.service.events import Warn
from extender.service.ports import ClusterUnavailable, Feed
from extender.service.telling import (
    AGAIN_SECONDS,
    FORGOTTEN_SECONDS,
    IDLE_SHARE,
    PATIENCE_SECONDS,
    REASON,
    Teller,
)
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import EVENTS, PODS
from tests.builders import gpu, gpu_node, instance, raw_pod
from tests.fakes.world import filter_args
from tests.unit.extender.explain.test_explained import crowded

pytestmark = pytest.mark.virtual_time


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Heard:
    """Keeps what is said; ``down``: nothing can be."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []
        self.down = False

    async def warn(self, pod: PodRef, reason: str, message: str) -> None:
        if self.down:
            raise ClusterUnavailable("away")
        self.said.append((pod.name, reason, message))

    async def about(self, pod: PodRef) -> Warn:
        return partial(self.warn, pod)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(api: InMemoryApi, clock: Clock) -> Service:
    made = Service(KubernetesCluster(api), clock=clock)
    for feed in Feed:
        made.knowledge.feed_synced(feed)
    made.knowledge.node("node-1", cordoned=False)
    made.knowledge.gpu_node(gpu_node("node-1", gpus=[gpu(instances=(instance(5, 0),))]))
    made.knowledge.lease("node-1", "1")
    return made


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def teller(service: Service, heard: Heard) -> Teller:
    return Teller(service.knowledge, service.explainer, heard)


def refused(service: Service, name: str, *wanted: str) -> None:
    pod = raw_pod(*(wanted or ("7-80C",)), name=name, uid=name)
    answer = service.hooks.filter(filter_args(pod, "node-1"))
    assert not answer.node_names


async def test_a_pod_is_told_of_once_it_has_waited_and_not_again(
    service: Service, teller: Teller, heard: Heard, clock: Clock
) -> None:
    refused(service, "vm")
    await teller.step()
    clock.now += PATIENCE_SECONDS - 1
    await teller.step()
    assert not heard.said

    clock.now += 1
    await teller.step()
    ((name, reason, text),) = heard.said
    assert (name, reason) == ("vm", REASON)
    assert "it needs 8" in text

    for _ in range(5):
        clock.now += AGAIN_SECONDS
        await teller.step()
    assert len(heard.said) == 1


async def test_other_words_are_said_but_not_often(
    service: Service, teller: Teller, heard: Heard, clock: Clock
) -> None:
    refused(service, "vm")
    await teller.step()
    clock.now += PATIENCE_SECONDS
    await teller.step()
    full = gpu(instances=(instance(5, 0), instance(9, 4)))
    service.knowledge.gpu_node(gpu_node("node-1", gpus=[full], version=2))
    clock.now += AGAIN_SECONDS - 1
    await teller.step()
    assert len(heard.said) == 1

    clock.now += 1
    await teller.step()
    assert len({text for _, _, text in heard.said}) == 2


async def test_what_the_api_server_has_forgotten_is_said_again(
    service: Service, teller: Teller, heard: Heard, clock: Clock
) -> None:
    refused(service, "vm")
    await teller.step()
    clock.now += PATIENCE_SECONDS
    await teller.step()
    clock.now += FORGOTTEN_SECONDS
    await teller.step()

    assert len(heard.said) == 2


async def test_many_pods_are_told_of_one_by_one_and_each_comes_to_its_turn(
    service: Service, teller: Teller, heard: Heard, clock: Clock
) -> None:
    for number in range(5):
        refused(service, f"vm-{number}")
    await teller.step()
    clock.now += PATIENCE_SECONDS
    for told in range(1, 6):
        await teller.step()
        assert len(heard.said) == told
        clock.now += 2.0
    assert {name for name, _, _ in heard.said} == {f"vm-{number}" for number in range(5)}


async def test_a_pod_that_fits_by_now_is_not_told_of(
    service: Service, teller: Teller, heard: Heard, clock: Clock
) -> None:
    refused(service, "vm")
    await teller.step()
    service.knowledge.gpu_node(gpu_node("node-1", version=2))
    clock.now += PATIENCE_SECONDS
    await teller.step()

    assert not heard.said


async def test_what_could_not_be_said_is_said_later(
    service: Service, teller: Teller, heard: Heard, clock: Clock
) -> None:
    refused(service, "vm")
    await teller.step()
    clock.now += PATIENCE_SECONDS
    heard.down = True
    await teller.step()
    heard.down = False
    clock.now += AGAIN_SECONDS
    await teller.step()

    assert len(heard.said) == 1


async def test_a_fault_in_an_explanation_ends_nothing(
    service: Service,
    teller: Teller,
    heard: Heard,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused(service, "vm")
    await teller.step()
    clock.now += PATIENCE_SECONDS

    def broken(_: object) -> None:
        raise AssertionError("a fault of ours")

    with monkeypatch.context() as while_broken:
        while_broken.setattr(explaining, "explain", broken)
        await teller.step()
    assert not heard.said

    clock.now += AGAIN_SECONDS
    await teller.step()
    assert len(heard.said) == 1


async def test_others_vms_are_not_named_in_events(
    service: Service, teller: Teller, heard: Heard, clock: Clock
) -> None:
    crowded(service)
    refused(service, "vm", "3-40C")
    await teller.step()
    clock.now += PATIENCE_SECONDS
    await teller.step()

    ((_, _, text),) = heard.said
    assert "if a VM you may not see (1g.10gb on node node-1, GPU 0, slice 4) moved to" in text
    assert "other/" not in text
    assert "p-0-4" not in text


async def test_who_does_not_lead_says_nothing(
    service: Service, teller: Teller, heard: Heard, clock: Clock
) -> None:
    refused(service, "vm")
    await teller.step()
    clock.now += PATIENCE_SECONDS
    service.knowledge.tenure.end()
    await teller.step()

    assert not heard.said


# What is written.


async def events_of(api: InMemoryApi) -> list[dict[str, Any]]:
    page = await api.list(EVENTS, namespace="default")
    return [dict(msgspec.json.decode(raw)) for raw in page.items]


async def made(api: InMemoryApi, **fields: Any) -> PodRef:
    pod = raw_pod("1-10C", **fields)
    for owner in pod["metadata"].get("ownerReferences", ()):
        owner["apiVersion"] = "kubevirt.io/v1"
    raw = msgspec.json.decode(await api.create(PODS, pod, namespace="default"))
    return PodRef("default", raw["metadata"]["name"], raw["metadata"]["uid"])


async def test_an_event_is_on_the_pod_and_on_its_vm_and_there_once(api: InMemoryApi) -> None:
    pod = await made(api, owner=("VirtualMachineInstance", "vm"))
    events = ApiPodEvents(api, lambda: datetime(2026, 1, 1, tzinfo=UTC), instance="extender-0")
    for _ in range(2):
        await events.warn(pod, REASON, "there is no room")
    await events.warn(pod, REASON, "there is less room still")

    written = await events_of(api)
    about = [(each["involvedObject"]["kind"], each["message"]) for each in written]
    assert sorted(about) == [
        ("Pod", "there is less room still"),
        ("Pod", "there is no room"),
        ("VirtualMachineInstance", "there is less room still"),
        ("VirtualMachineInstance", "there is no room"),
    ]
    assert {each["involvedObject"]["uid"] for each in written} == {pod.uid, "uid-vm"}
    assert {each["type"] for each in written} == {"Warning"}


async def test_a_pod_that_is_gone_or_another_by_now_is_not_written_of(api: InMemoryApi) -> None:
    pod = await made(api)
    events = ApiPodEvents(api, lambda: datetime(2026, 1, 1, tzinfo=UTC), instance="extender-0")
    await events.warn(PodRef("default", "nobody", "x"), REASON, "text")
    await events.warn(msgspec.structs.replace(pod, uid="another"), REASON, "text")

    assert not await events_of(api)


async def test_explanations_that_are_dear_are_rare(
    teller: Teller, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def explain_for_long() -> None:
        clock.now += 1.5

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(teller, "step", explain_for_long)
    monkeypatch.setattr(asyncio, "sleep", pause)

    with pytest.raises(asyncio.CancelledError):
        await teller.run()

    assert pauses == [1.5 * IDLE_SHARE]
