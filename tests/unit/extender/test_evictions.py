"""What a conflict says of an eviction, and of a VM that is stopped: whether they are gone, or not.

A kube-apiserver answers 409 where the pod is another by that name, and where it, or its budget's
status, was written by others at every try; 404 where the pod is gone, or its budget just went.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from extender.cluster import ApiEvictor, KubeVirtRelocator
from extender.service.ports import ClusterUnavailable, EvictionRefused
from nodeagent.api.gpunode import OwnerRef, PodRef
from nodeagent.apiserver.memory import Call, InMemoryApi
from nodeagent.apiserver.protocol import (
    PODS,
    VIRTUAL_MACHINE_INSTANCES,
    ApiError,
    Conflict,
    Kind,
    NotFound,
    Overloaded,
    Throttled,
    Unavailable,
)

BUDGET_WRITTEN = Conflict(
    409,
    'Operation cannot be fulfilled on poddisruptionbudgets.policy "one": the object has been'
    " modified; please apply your changes to the latest version and try again",
)
BUDGET_GONE = NotFound(404, 'poddisruptionbudgets.policy "one" not found')
OWNER = OwnerRef("VirtualMachineInstance", "default", "vm")


async def made(api: InMemoryApi, kind: Kind, name: str, **body: dict[str, Any]) -> str:
    """Create an object; return its UID."""
    body["metadata"] = {"name": name, **body.get("metadata", {})}
    raw = await api.create(kind, body, namespace="default")
    return str(msgspec.json.decode(raw)["metadata"]["uid"])


async def pod(api: InMemoryApi, **spec: str) -> PodRef:
    return PodRef("default", "vm-1", await made(api, PODS, "vm-1", spec=dict(spec)))


def answering(api: InMemoryApi, verb: str, error: ApiError, subresource: str = "") -> None:
    """Let calls of a verb be answered by an error, and nothing be done."""

    async def disturb(call: Call) -> None:
        if (call.verb, call.subresource, call.done) == (verb, subresource, False):
            raise error

    api.disturbance = disturb


@pytest.mark.parametrize("error", [BUDGET_WRITTEN, BUDGET_GONE], ids=["409", "404"])
async def test_a_pod_that_stays_is_to_be_evicted_again_whatever_was_in_conflict(
    api: InMemoryApi, error: ApiError
) -> None:
    victim = await pod(api)
    answering(api, "create", error, "eviction")

    with pytest.raises(EvictionRefused, match="poddisruptionbudgets"):
        await ApiEvictor(api).evict(victim)

    api.disturbance = None
    await ApiEvictor(api).evict(victim)
    assert (await api.list(PODS)).items == []


async def test_a_pod_that_was_replaced_is_gone_and_its_successor_stays(api: InMemoryApi) -> None:
    victim = await pod(api)
    await api.delete(PODS, victim.name, namespace="default")
    successor = await pod(api)

    await ApiEvictor(api).evict(victim)

    (raw,) = (await api.list(PODS)).items
    assert msgspec.json.decode(raw)["metadata"]["uid"] == successor.uid


async def test_a_pod_that_is_not_there_is_gone(api: InMemoryApi) -> None:
    victim = await pod(api)
    await api.delete(PODS, victim.name, namespace="default")

    await ApiEvictor(api).evict(victim)


@pytest.mark.parametrize("error", [BUDGET_WRITTEN, BUDGET_GONE], ids=["409", "404"])
async def test_a_pod_that_is_being_deleted_need_not_be_evicted(
    api: InMemoryApi, error: ApiError
) -> None:
    victim = await pod(api, nodeName="node-1")
    await api.delete(PODS, victim.name, namespace="default")  # its kubelet ends it
    answering(api, "create", error, "eviction")

    await ApiEvictor(api).evict(victim)


async def test_whether_a_pod_in_conflict_stays_has_to_be_known(api: InMemoryApi) -> None:
    victim = await pod(api)

    async def disturb(call: Call) -> None:
        if call.done:
            return
        if call.subresource == "eviction":
            raise BUDGET_WRITTEN
        raise Unavailable(0, "no answer")

    api.disturbance = disturb

    with pytest.raises(ClusterUnavailable):
        await ApiEvictor(api).evict(victim)


async def test_when_to_ask_again_is_what_the_api_server_says(api: InMemoryApi) -> None:
    victim = await pod(api)
    answering(api, "create", Throttled(429, "later", retry_after=7.0), "eviction")

    with pytest.raises(EvictionRefused) as caught:
        await ApiEvictor(api).evict(victim)

    assert caught.value.retry_after == 7.0


@pytest.mark.parametrize("call", [ApiEvictor.evict, ApiEvictor.rehearse], ids=["real", "dry run"])
async def test_a_busy_api_server_has_refused_nobody(
    api: InMemoryApi, call: Callable[[ApiEvictor, PodRef], Awaitable[None]]
) -> None:
    victim = await pod(api)
    answering(api, "create", Overloaded(429, "too many requests", retry_after=1.0), "eviction")

    with pytest.raises(ClusterUnavailable) as caught:
        await call(ApiEvictor(api), victim)

    assert (caught.value.undone, caught.value.passing) == (True, True)
    assert caught.value.retry_after == 1.0


@pytest.fixture
def relocator(api: InMemoryApi) -> KubeVirtRelocator:
    api.register(VIRTUAL_MACHINE_INSTANCES)
    return KubeVirtRelocator(api)


async def test_a_vm_that_runs_as_before_after_a_conflict_was_not_stopped(
    api: InMemoryApi, relocator: KubeVirtRelocator
) -> None:
    instance = await made(api, VIRTUAL_MACHINE_INSTANCES, "vm")
    answering(api, "delete", Conflict(409, "the object has been modified"))

    with pytest.raises(ClusterUnavailable) as caught:
        await relocator.restart(OWNER, instance)

    assert caught.value.undone


async def test_a_vm_that_runs_anew_is_left_alone(
    api: InMemoryApi, relocator: KubeVirtRelocator
) -> None:
    before = await made(api, VIRTUAL_MACHINE_INSTANCES, "vm")
    await api.delete(VIRTUAL_MACHINE_INSTANCES, "vm", namespace="default")
    await made(api, VIRTUAL_MACHINE_INSTANCES, "vm")

    await relocator.restart(OWNER, before)

    assert len((await api.list(VIRTUAL_MACHINE_INSTANCES)).items) == 1


async def test_a_vm_that_is_stopping_need_not_be_stopped(
    api: InMemoryApi, relocator: KubeVirtRelocator
) -> None:
    going = {"deletionTimestamp": "2026-12-02T12:00:00Z"}
    instance = await made(api, VIRTUAL_MACHINE_INSTANCES, "vm", metadata=going)
    answering(api, "delete", Conflict(409, "the object has been modified"))

    await relocator.restart(OWNER, instance)
