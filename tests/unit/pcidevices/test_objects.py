"""Which objects the controller makes of a node's devices, and when."""

from __future__ import annotations

from collections.abc import Callable

from nodeagent.apiserver.protocol import PatchType
from tests.fakes.pcidevices.names import MIG_CONFIGURATIONS, SRIOV_GPUS, VGPUS, Version
from tests.unit.pcidevices.node import BIG, FIRST, FIRST_ADDRESS, GPU, SMALL, Node


async def test_a_gpu_is_found_and_its_functions_once_it_is_enabled(node: Node) -> None:
    gpu = await node.get(SRIOV_GPUS, GPU)
    vgpu = await node.get(VGPUS, FIRST)

    assert gpu["metadata"]["labels"] == {"nodename": "node-1"}
    assert gpu["spec"] == {"address": "0000:10:00.0", "nodeName": "node-1", "enabled": True}
    assert gpu["status"]["vGPUDevices"][0] == FIRST
    assert len(gpu["status"]["vfAddresses"]) == 8
    assert vgpu["metadata"]["labels"] == {
        "nodename": "node-1",
        "harvesterhci.io/parentSRIOVGPUDevice": GPU,
    }
    assert vgpu["spec"] == {
        "vGPUTypeName": "",
        "address": FIRST_ADDRESS,
        "enabled": False,
        "nodeName": "node-1",
        "parentGPUDeviceAddress": "0000:10:00.0",
    }


async def test_a_mig_configuration_asks_for_nothing_at_first(
    node_of: Callable[[Version], Node], version: Version
) -> None:
    node = node_of(version)
    await node.begin(neutral=False)

    mig = await node.get(MIG_CONFIGURATIONS, GPU)

    assert mig["spec"]["enabled"] is False
    assert mig["spec"]["profileSpec"][0] == {"name": "MIG 1g.5gb", "id": 19, "requested": 0}
    assert {each["requested"] for each in mig["spec"]["profileSpec"]} == {0}
    assert mig["metadata"]["ownerReferences"][0]["name"] == GPU
    assert mig["status"]["profileStatus"][0] == {
        "name": "MIG 1g.5gb",
        "id": 19,
        "available": 7,
        "total": 7,
        "vGPUID": [],
    }


async def test_a_mig_configuration_is_enabled_where_gpu_instances_exist_already(
    node_of: Callable[[Version], Node], version: Version
) -> None:
    node = node_of(version)
    node.host.sriov_manage(0, True)
    node.cut()

    await node.cluster.prepare("node-1")
    await node.work()

    assert (await node.get(MIG_CONFIGURATIONS, GPU))["spec"]["enabled"]


async def test_the_available_column_is_the_drivers_and_its_total_constant(node: Node) -> None:
    node.cut(9, 4)
    fresh = {each.id: each for each in node.host.profiles(0)}

    assert (fresh[9].available, fresh[9].total, fresh[9].instances) == (1, 2, ("1",))
    assert (fresh[0].available, fresh[0].total) == (0, 1)


async def test_available_types_lag_by_a_scan(node: Node) -> None:
    node.cut()
    await node.work()

    before = (await node.status(VGPUS, FIRST)).get("availableTypes")
    await node.pass_(30)
    after = (await node.status(VGPUS, FIRST))["availableTypes"]

    assert not before
    assert set(after) == {SMALL}


async def test_whatever_changes_in_an_object_refreshes_its_available_types_at_once(
    node: Node,
) -> None:
    node.cut(9)

    await node.touch(FIRST)
    await node.work()

    assert set((await node.status(VGPUS, FIRST))["availableTypes"]) == {BIG}


async def test_a_controller_that_does_not_heed_touches_lags_all_the_same(node: Node) -> None:
    node.heeds_touches = False
    node.restart()
    await node.work()
    node.cut(9)

    await node.touch(FIRST)
    await node.work()
    before = (await node.status(VGPUS, FIRST)).get("availableTypes")
    await node.pass_(30)

    assert not before
    assert set((await node.status(VGPUS, FIRST))["availableTypes"]) == {BIG}


async def test_types_are_numbered_as_the_interface_has_them(node: Node) -> None:
    node.cut()
    await node.pass_(30)

    number = (await node.status(VGPUS, FIRST))["availableTypes"][SMALL]

    prefix = "nvidia-" if node.cluster.version is Version.V1_7 else ""
    assert number == f"{prefix}{node.host.kernel.types(0)[SMALL]}"


async def test_a_vgpu_that_exists_already_is_adopted_as_enabled(
    node_of: Callable[[Version], Node], version: Version
) -> None:
    node = node_of(version)
    node.host.sriov_manage(0, True)
    node.cut()
    name = "00000000-0000-4000-8000-000000000001" if version is Version.V1_7 else ""
    node.host.kernel.create(0, 1, node.host.kernel.types(0)[SMALL], name)
    await node.cluster.prepare("node-1")

    await node.work()

    vgpu = await node.get(VGPUS, FIRST)
    assert vgpu["spec"]["enabled"]
    assert vgpu["spec"]["vGPUTypeName"] == ""
    assert vgpu["status"]["configureVGPUTypeName"] == SMALL
    assert node.shelf.healthy("nvidia.com/NVIDIA_A100X-1-5C")


async def test_objects_of_functions_that_are_gone_stay_while_their_gpu_is_enabled(
    node: Node,
) -> None:
    node.host.unplugged.add(FIRST_ADDRESS)

    await node.pass_(60)
    while_enabled = await node.exists(VGPUS, FIRST)
    await node.change(SRIOV_GPUS, GPU, enabled=False)
    await node.pass_(60)

    assert while_enabled
    assert not await node.exists(VGPUS, FIRST)


async def test_disabling_a_gpu_forgets_all_of_mig(node: Node) -> None:
    await node.change(SRIOV_GPUS, GPU, enabled=False)
    await node.work()

    assert not await node.exists(MIG_CONFIGURATIONS, GPU)
    assert node.host.functions(0) == {}


async def test_an_object_of_another_node_is_nobodys_affair(node: Node) -> None:
    """So that one of a node that does not exist stays as whoever made it has left it."""
    body = {
        "metadata": {"name": "tangram-1", "labels": {"nodename": "tangram"}},
        "spec": {"nodeName": "tangram", "enabled": False, "address": ""},
    }
    await node.user.create(VGPUS, body)
    status = {"status": {"configureVGPUTypeName": SMALL}}
    await node.user.patch(
        VGPUS, "tangram-1", status, patch_type=PatchType.MERGE, subresource="status"
    )

    await node.pass_(300)

    assert (await node.status(VGPUS, "tangram-1")) == {"configureVGPUTypeName": SMALL}
