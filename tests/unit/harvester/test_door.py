"""Harvester's objects, followed and written through an API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from nodeagent.api.gpunode import OwnerRef
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import VIRTUAL_MACHINES, Kind, PatchType
from nodeagent.apiserver.reflector import Object
from nodeagent.driver import DriverError
from nodeagent.harvester.door import ClusterObjects, Refusal
from nodeagent.harvester.known import Known
from nodeagent.harvester.objects import (
    MIG_CONFIGURATIONS,
    SRIOV_GPU_DEVICES,
    VGPU_DEVICES,
    Objects,
)
from nodeagent.harvester.wire import ALLOCATION_ANNOTATION, keeper
from tests.waiting import until

KINDS = (SRIOV_GPU_DEVICES, VGPU_DEVICES, MIG_CONFIGURATIONS, VIRTUAL_MACHINES)
FIRST = "n1-000010004"
TYPE = "NVIDIA A100-1-5C"
RESOURCE = "nvidia.com/NVIDIA_A100-1-5C"


class House:
    def __init__(self) -> None:
        self.api = InMemoryApi()
        for kind in KINDS:
            self.api.register(kind)
        self.objects = ClusterObjects(self.api, "n1", timeout=5.0)
        self.changes = 0

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[ClusterObjects]:
        def changed() -> None:
            self.changes += 1

        task = asyncio.create_task(self.objects.follow(changed))
        try:
            await until(self.known)
            yield self.objects
        finally:
            task.cancel()
            await asyncio.wait([task])

    def known(self) -> bool:
        with contextlib.suppress(DriverError):
            self.objects.now()
            return True
        return False

    async def vgpu(self, name: str = FIRST, node: str = "n1", **spec: Any) -> None:
        body = {
            "metadata": {"name": name, "labels": {"nodename": node}},
            "spec": {
                "address": "0000:10:00.4",
                "nodeName": node,
                "parentGPUDeviceAddress": "0000:10:00.0",
                "enabled": False,
                **spec,
            },
        }
        await self.api.create(VGPU_DEVICES, body)

    async def mig(self, name: str, node: str, *requested: int) -> None:
        profiles = [{"name": "MIG 1g.5gb", "id": 19, "requested": each} for each in requested]
        spec = {"nodeName": node, "gpuAddress": "0000:10:00.0", "profileSpec": profiles}
        body = {"metadata": {"name": name}, "spec": spec}
        await self.api.create(MIG_CONFIGURATIONS, body)

    async def vm(self, name: str, allocation: str | None, *asks: str, **devices: Any) -> None:
        """Create a VM that *asks* for GPUs by these resources, or has *devices* of its own kind."""
        annotations = {} if allocation is None else {ALLOCATION_ANNOTATION: allocation}
        asked = {"gpus": [{"name": "gpu", "deviceName": each} for each in asks], **devices}
        body = {
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"template": {"spec": {"domain": {"devices": asked}}}},
        }
        await self.api.create(VIRTUAL_MACHINES, body, namespace="default")

    async def change(self, kind: Kind, name: str, patch: dict[str, Any], **options: Any) -> None:
        await self.api.patch(kind, name, patch, patch_type=PatchType.MERGE, **options)

    async def read(self, kind: Kind, name: str) -> dict[str, Any]:
        return dict(msgspec.json.decode(await self.api.get(kind, name)))


@pytest.fixture
def house() -> House:
    return House()


async def test_before_all_has_been_read_nothing_is_known(house: House) -> None:
    with pytest.raises(DriverError, match="have not been read yet"):
        house.objects.now()


async def test_only_the_nodes_own_are_told(house: House) -> None:
    await house.vgpu()
    await house.vgpu("n2-000010004", node="n2")
    await house.mig("n1-000010000", "n1", 0)
    await house.mig("n2-000010000", "n2", 3)
    async with house.followed() as objects:
        now = objects.now()

    assert [each.head.name for each in now.vgpus] == [FIRST]
    assert [each.head.name for each in now.migs] == ["n1-000010000"]


async def test_null_and_missing_members_mean_nothing(house: House) -> None:
    body = {
        "metadata": {"name": FIRST, "labels": {"nodename": "n1"}},
        "spec": {"vGPUTypeName": None, "enabled": None},
        "status": None,
    }
    await house.api.create(VGPU_DEVICES, body)
    async with house.followed() as objects:
        (vgpu,) = objects.now().vgpus

    assert (vgpu.enabled, vgpu.kind, vgpu.uuid, vgpu.available) == (False, "", "", frozenset())


async def test_who_keeps_a_device_follows_the_vms(house: House) -> None:
    host_devices = [{"name": "x", "deviceName": RESOURCE}]
    await house.vgpu(vGPUTypeName=TYPE)
    await house.vm("vm-1", f'{{"gpus":{{"{RESOURCE}":["{FIRST}"]}},"hostdevices":{{}}}}', RESOURCE)
    await house.vm(
        "vm-2", f'{{"hostdevices":{{"{RESOURCE}":["{FIRST}"]}}}}', hostDevices=host_devices
    )
    await house.vm("vm-3", None, RESOURCE)
    await house.vm("vm-4", "no JSON", RESOURCE)
    async with house.followed() as objects:
        owners = [OwnerRef("VirtualMachineInstance", "default", f"vm-{n}") for n in (1, 2)]
        assert objects.now().keepers == {FIRST: tuple(owners)}

        await house.api.delete(VIRTUAL_MACHINES, "vm-1", namespace="default")
        await until(lambda: objects.now().keepers == {FIRST: (owners[1],)})
        gone = {"metadata": {"annotations": {ALLOCATION_ANNOTATION: None}}}
        await house.change(VIRTUAL_MACHINES, "vm-2", gone, namespace="default")
        await until(lambda: not objects.now().keepers)


@pytest.mark.parametrize(
    ("allocation", "asks"),
    [
        (f'{{"gpus":{{"{RESOURCE}":["{FIRST}"]}}}}', []),
        (f'{{"gpus":{{"{RESOURCE}":["{FIRST}"]}}}}', ["nvidia.com/OTHER"]),
        (f'{{"gpus":{{"nvidia.com/OTHER":["{FIRST}"]}}}}', ["nvidia.com/OTHER"]),  # it is none
        (f'{{"gpus":{{"{RESOURCE}":["n1-000010005","{FIRST}"]}}}}', [RESOURCE]),  # a second one
        (f'{{"hostdevices":{{"{RESOURCE}":["n","{FIRST}"]}},"gpus":{{"":null}}}}', [RESOURCE]),
    ],
)
async def test_a_vm_keeps_no_device_that_it_does_not_ask_for_though_harvester_thinks_so(
    house: House, allocation: str, asks: list[str]
) -> None:
    await house.vgpu(vGPUTypeName=TYPE)
    await house.vm("vm-1", allocation, *asks)
    async with house.followed() as objects:
        now = objects.now()

    assert now.keepers == {}
    assert now.named == {FIRST}


async def test_one_device_named_twice_is_kept_once_beside_another(house: House) -> None:
    await house.vgpu(vGPUTypeName=TYPE)
    await house.vgpu("n1-000010005", vGPUTypeName=TYPE)
    names = f'["{FIRST}","{FIRST}","n1-000010005"]'
    await house.vm("vm-1", f'{{"gpus":{{"{RESOURCE}":{names}}}}}', RESOURCE, RESOURCE)
    async with house.followed() as objects:
        assert set(objects.now().keepers) == {FIRST, "n1-000010005"}


HOSTILE = [
    "no JSON",
    "[]",
    "null",
    "7",
    '{"gpus":[]}',
    '{"gpus":{"x":"y"}}',
    '{"gpus":{"x":[null]}}',
    '{"gpus":{"x":[{}]}}',
    '{"gpus":{"x":' + "[" * 100_000,
    '{"other":' + "[" * 100_000 + "]" * 100_000 + "}",
    "\x00",
    "1e999999",
]


@pytest.mark.parametrize("allocation", HOSTILE, ids=range(len(HOSTILE)))
async def test_whatever_somebody_writes_into_an_annotation_the_others_are_followed(
    house: House, allocation: str
) -> None:
    await house.vgpu(vGPUTypeName=TYPE)
    await house.vm("hostile", allocation, RESOURCE)
    async with house.followed() as objects:
        assert objects.now().keepers == {}
        good = f'{{"gpus":{{"{RESOURCE}":["{FIRST}"]}}}}'
        await house.vm("vm-1", good, RESOURCE)
        await until(lambda: set(objects.now().keepers) == {FIRST})


@given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_an_annotation_is_read_or_refused_and_nothing_else(text: str) -> None:
    metadata = {"name": "vm-1", "annotations": {ALLOCATION_ANNOTATION: text}}
    raw = msgspec.json.encode({"metadata": metadata})
    with contextlib.suppress(msgspec.MsgspecError):
        assert keeper(raw).kept == frozenset()  # for it asks for nothing


def test_an_unreadable_object_is_logged_once_for_each_version_of_it() -> None:
    known = Known(keeper)

    def state(version: int, allocation: str) -> Object:
        annotations = {ALLOCATION_ANNOTATION: allocation}
        metadata = {"name": "vm", "resourceVersion": str(version), "annotations": annotations}
        return Object("default", "vm", "uid", msgspec.json.encode({"metadata": metadata}))

    with capture_logs() as logged:
        known.replace([state(7, "no JSON")])
        known.put(state(7, "no JSON"))
        known.replace([state(7, "no JSON")])
        assert len(logged) == 1
        known.put(state(8, "nor this"))
        assert len(logged) == 2
        known.put(state(9, "{}"))
        known.put(state(9, "{}"))
        known.drop(state(9, "{}"))
        known.put(state(7, "no JSON"))

    assert [each["event"] for each in logged] == ["object_unreadable"] * 3


async def test_a_write_says_what_is_wanted_and_for_whom_and_is_known_at_once(house: House) -> None:
    await house.vgpu()
    async with house.followed() as objects:
        (vgpu,) = objects.now().vgpus
        await objects.enable(vgpu, "NVIDIA A100-1-5C", "a1")
        (enabled,) = objects.now().vgpus
        await objects.disable(enabled)
        (disabled,) = objects.now().vgpus

    assert (enabled.enabled, enabled.kind, enabled.assignment) == (True, "NVIDIA A100-1-5C", "a1")
    assert (disabled.enabled, disabled.assignment) == (False, "")


async def test_a_write_decided_on_an_older_state_is_refused_and_nothing_is_changed(
    house: House,
) -> None:
    await house.vgpu()
    async with house.followed() as objects:
        (vgpu,) = objects.now().vgpus
        await house.change(VGPU_DEVICES, FIRST, {"spec": {"enabled": True}})
        before = await house.read(VGPU_DEVICES, FIRST)

        with pytest.raises(Refusal, match=f"enable VGPUDevice {FIRST}"):
            await objects.enable(vgpu, "NVIDIA A100-1-5C", "a1")

    assert await house.read(VGPU_DEVICES, FIRST) == before


async def test_a_layout_is_configured_with_its_profiles_and_no_counts(house: House) -> None:
    await house.mig("n1-000010000", "n1", 2)
    async with house.followed() as objects:
        (mig,) = objects.now().migs
        with capture_logs() as logged:
            await objects.configure(mig, enabled=True, ours=True)
            (neutral,) = objects.now().migs
            await objects.configure(neutral, enabled=False, ours=False)
        (back,) = objects.now().migs

    assert [each["event"] for each in logged] == ["layout_left_to_tangram", "layout_handed_back"]
    assert (neutral.neutral, neutral.ours) == (True, True)
    assert [(each.name, each.id) for each in neutral.requested] == [("MIG 1g.5gb", 19)]
    assert (back.enabled, back.ours) == (False, False)


async def test_a_layout_that_is_given_up_is_logged_as_that_with_what_it_was(house: House) -> None:
    await house.mig("n1-000010000", "n1", 2)
    await house.change(MIG_CONFIGURATIONS, "n1-000010000", {"spec": {"enabled": True}})
    async with house.followed() as objects:
        (mig,) = objects.now().migs
        with capture_logs() as logged:
            await objects.configure(mig, enabled=False, ours=False)

    assert logged == [
        {
            "event": "layout_given_up",
            "log_level": "warning",
            "gpu": "n1-000010000",
            "requested": {"MIG 1g.5gb": 2},
        }
    ]


async def test_one_that_cannot_be_read_stays_as_it_was(house: House) -> None:
    await house.vgpu()
    async with house.followed() as objects:
        before: Objects = objects.now()
        seen = house.changes
        await house.change(VGPU_DEVICES, FIRST, {"spec": {"address": {"not": "text"}}})
        await house.vm("vm-1", f'{{"gpus":{{"x":["{FIRST}"]}}}}')
        await until(lambda: house.changes > seen)

        assert objects.now().vgpus == before.vgpus
