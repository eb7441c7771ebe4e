"""What the controller does to vGPUs, what it advertises, and its traps."""

from __future__ import annotations

import pytest

from nodeagent.apiserver.protocol import Refused
from tests.fakes.pcidevices.log import CREATE_VGPU, HOT_REMOVE, REMOVE_VGPU, traps
from tests.fakes.pcidevices.names import (
    KUBEVIRT,
    KUBEVIRT_NAMESPACE,
    KUBEVIRTS,
    PCI_CLAIMS,
    PCI_DEVICES,
    SRIOV_GPUS,
    VGPUS,
    VMS,
    Version,
)
from tests.unit.pcidevices.node import (
    FIRST,
    FIRST_ADDRESS,
    GPU,
    SECOND,
    SMALL,
    SMALL_RESOURCE,
    Node,
)


async def test_an_enabled_device_becomes_a_vgpu_that_the_plugin_advertises(node: Node) -> None:
    await node.made()

    (vgpu,) = node.host.kernel.vgpus()
    status = await node.status(VGPUS, FIRST)
    assert (status["vGPUStatus"], status["configureVGPUTypeName"]) == ("vGPUConfigured", SMALL)
    if node.cluster.version is Version.V1_7:
        assert status["uuid"] == vgpu.uuid
        assert node.shelf.healthy(SMALL_RESOURCE) == [vgpu.uuid]
    else:
        assert status["uuid"] == str(vgpu.type_id)
        assert node.shelf.healthy(SMALL_RESOURCE) == [FIRST_ADDRESS]
    assert not list(traps(node.cluster.log.entries))


async def test_its_resource_is_permitted_to_kubevirt_and_stays_so(node: Node) -> None:
    await node.made()
    await node.change(VGPUS, FIRST, enabled=False)
    await node.work()

    kubevirt = await node.get(KUBEVIRTS, KUBEVIRT, KUBEVIRT_NAMESPACE)
    permitted = kubevirt["spec"]["configuration"]["permittedHostDevices"]
    if node.cluster.version is Version.V1_7:
        assert permitted == {
            "mediatedDevices": [
                {
                    "mdevNameSelector": SMALL,
                    "resourceName": SMALL_RESOURCE,
                    "externalResourceProvider": True,
                }
            ]
        }
    else:
        assert [each["resourceName"] for each in permitted["pciHostDevices"]] == [SMALL_RESOURCE]


async def test_enabling_a_type_that_the_object_does_not_know_to_be_available_is_refused(
    node: Node,
) -> None:
    node.cut()

    with pytest.raises(Refused, match="not a valid profile"):
        await node.enable()
    with pytest.raises(Refused, match="cannot be empty"):
        await node.enable(kind="")


async def test_siblings_are_refreshed_at_once_when_a_vgpu_comes_or_goes(node: Node) -> None:
    node.cut()
    await node.pass_(30)
    offered = (await node.status(VGPUS, SECOND))["availableTypes"]
    await node.enable()
    await node.work()

    taken = (await node.status(VGPUS, SECOND)).get("availableTypes")
    await node.change(VGPUS, FIRST, enabled=False)
    await node.work()

    assert offered
    assert not taken
    assert (await node.status(VGPUS, SECOND))["availableTypes"] == offered


async def test_a_disabled_device_is_removed_and_stays_listed_as_unhealthy(node: Node) -> None:
    await node.made()
    node.cut(19, 1)
    await node.touch(SECOND)
    await node.work()
    await node.enable(SECOND)
    await node.work()

    await node.change(VGPUS, FIRST, enabled=False)
    await node.work()

    assert len(node.host.kernel.vgpus()) == 1
    assert sorted(node.shelf.devices[SMALL_RESOURCE].values()) == [False, True]
    status = await node.status(VGPUS, FIRST)
    assert status.keys() == {"availableTypes"}


async def test_the_last_device_of_a_resource_takes_the_plugin_with_it(node: Node) -> None:
    await node.made()

    await node.change(VGPUS, FIRST, enabled=False)
    await node.work()

    assert node.shelf.devices[SMALL_RESOURCE] == {}


async def test_a_device_that_is_enabled_too_late_is_tried_again(node: Node) -> None:
    made = node.cut()
    await node.pass_(30)
    node.machine.destroy_gpu_instance(0, made)
    await node.enable()
    await node.work()
    early = node.host.kernel.vgpus()

    node.cut()
    await node.pass_(60)

    assert early == []
    assert len(node.host.kernel.vgpus()) == 1


async def test_a_second_free_instance_of_the_profile_is_a_trap(node: Node) -> None:
    node.cut(19, 0)
    node.cut(19, 3)
    await node.touch(FIRST)
    await node.work()

    await node.enable()
    await node.work()

    assert node.cluster.log.of(CREATE_VGPU)[0].candidates == 2
    assert any("2 GPU instances to choose of" in each for each in traps(node.cluster.log.entries))


async def test_a_vgpu_made_behind_its_object_is_removed(node: Node) -> None:
    """Its object has a uuid by then where a scan came first; see the next test."""
    node.cut()
    name = "00000000-0000-4000-8000-000000000001" if node.cluster.version is Version.V1_7 else ""
    node.host.kernel.create(0, 1, node.host.kernel.types(0)[SMALL], name)

    await node.pass_(30)

    assert node.host.kernel.vgpus() == []
    assert [each.declared for each in node.cluster.log.of(REMOVE_VGPU)] == [False]
    assert any("no VGPUDevice had declared" in each for each in traps(node.cluster.log.entries))


async def test_without_a_uuid_the_function_itself_is_torn_off_the_bus(node: Node) -> None:
    node.cut()
    name = "00000000-0000-4000-8000-000000000001" if node.cluster.version is Version.V1_7 else ""
    node.host.kernel.create(0, 1, node.host.kernel.types(0)[SMALL], name)

    await node.touch(FIRST)
    await node.work()

    torn = [each.subject for each in node.cluster.log.of(HOT_REMOVE)]
    if node.cluster.version is Version.V1_7:
        assert torn == [f"node-1 {FIRST_ADDRESS}"]
        assert FIRST_ADDRESS not in node.host.functions(0)
    else:
        assert torn == []


async def test_a_device_that_a_vm_keeps_can_be_neither_disabled_nor_deleted(node: Node) -> None:
    await node.made()
    await node.vm_keeps(FIRST)

    for attempt in (
        node.change(VGPUS, FIRST, enabled=False),
        node.user.delete(VGPUS, FIRST),
        node.change(SRIOV_GPUS, GPU, enabled=False),
    ):
        with pytest.raises(Refused, match=f"device {FIRST} is in use with VM vm-1"):
            await attempt
    await node.user.delete(VMS, "vm-1", namespace="default")
    await node.change(VGPUS, FIRST, enabled=False)


async def test_an_enabled_gpu_cannot_be_deleted(node: Node) -> None:
    with pytest.raises(Refused, match="please disable"):
        await node.user.delete(SRIOV_GPUS, GPU)


async def test_after_a_reboot_a_vgpu_is_made_anew_and_has_another_uuid(node: Node) -> None:
    await node.made()
    before = (await node.status(VGPUS, FIRST))["uuid"]
    node.host.rebooted()
    node.restart()

    await node.pass_(60)
    without_instance = node.host.kernel.vgpus()
    node.cut()
    await node.pass_(60)

    assert without_instance == []
    after = (await node.status(VGPUS, FIRST))["uuid"]
    assert (before == after) == (node.cluster.version is Version.V1_8)


async def test_a_controller_that_begins_anew_advertises_what_is_there(node: Node) -> None:
    await node.made()
    before = node.shelf.healthy(SMALL_RESOURCE)

    node.restart()
    await node.work()

    assert node.shelf.healthy(SMALL_RESOURCE) == before


async def test_from_1_8_on_a_claim_and_an_annotation_stand_for_the_vgpu(node: Node) -> None:
    await node.made()
    claimed = await node.exists(PCI_CLAIMS, FIRST)
    if node.cluster.version is Version.V1_7:
        assert not claimed
        return
    device = await node.get(PCI_DEVICES, FIRST)
    claim = await node.get(PCI_CLAIMS, FIRST)

    await node.change(VGPUS, FIRST, enabled=False)
    await node.work()

    key = "pcidevice.harvesterhci.io/override-resource-name"
    assert device["metadata"]["annotations"][key] == SMALL_RESOURCE
    assert device["status"]["resourceName"] == SMALL_RESOURCE
    assert claim["metadata"]["annotations"] == {
        "pcidevices.harvesterhci.io/skip-vfio-binding": "true"
    }
    assert not await node.exists(PCI_CLAIMS, FIRST)
    assert (await node.status(PCI_DEVICES, FIRST))["resourceName"] != SMALL_RESOURCE
