"""Whose a device is, by what anybody who may edit a VM can write."""

from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from nodeagent.api.gpunode import OwnerRef
from nodeagent.apiserver.protocol import VIRTUAL_MACHINES
from nodeagent.apiserver.reflector import Object
from nodeagent.harvester.known import Known
from nodeagent.harvester.wire import ALLOCATION_ANNOTATION, keeper
from tests.unit.harvester.objects_house import FIRST, RESOURCE, TYPE, House
from tests.waiting import until


@pytest.fixture
def house() -> House:
    return House()


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
