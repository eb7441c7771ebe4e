"""The life of a VM with a vGPU, from its creation to the device it leaves behind."""

from __future__ import annotations

import pytest

from nodeagent.apiserver.protocol import Refused
from tests.fakes.pcidevices.log import REFUSED, traps
from tests.fakes.pcidevices.names import (
    KUBEVIRT,
    KUBEVIRT_NAMESPACE,
    KUBEVIRTS,
    VGPUS,
    VMS,
    Version,
)
from tests.unit.kubevirt_fake.house import RESOURCE, House

FIRST, SECOND = "node-1-000010004", "node-1-000010005"


async def test_a_vm_whose_type_no_device_has_is_refused(house: House) -> None:
    with pytest.raises(Refused, match=f"resource name {RESOURCE} not found in pcidevice cache"):
        await house.create("vm-1")


async def test_a_vm_runs_with_the_device_that_the_kubelet_gave_it(house: House) -> None:
    await house.device(FIRST)
    await house.create("vm-1")
    await house.work()
    await house.bind("vm-1")
    await house.work()

    assert (await house.pod("vm-1"))["status"]["phase"] == "Running"
    assert (await house.vmi("vm-1"))["status"] == {"phase": "Running", "nodeName": "node-1"}
    member = "gpus" if house.cluster.version is Version.V1_7 else "hostdevices"
    assert await house.allocation("vm-1") == {member: {RESOURCE: [FIRST]}}
    (vgpu,) = house.site.host.kernel.vgpus()
    assert vgpu.opened
    assert (await house.allocatable())[RESOURCE] == "1"


async def test_from_1_8_on_its_gpus_are_host_devices(house: House) -> None:
    await house.device(FIRST)
    await house.create("vm-1")

    devices = (await house.vm("vm-1"))["spec"]["template"]["spec"]["domain"]["devices"]

    member = "gpus" if house.cluster.version is Version.V1_7 else "hostDevices"
    assert devices == {member: [{"name": "gpu-0", "deviceName": RESOURCE}]}


async def test_a_launcher_without_a_device_is_rejected_and_another_comes(house: House) -> None:
    await house.device(FIRST)
    for name in ("vm-1", "vm-2"):
        await house.create(name)
        await house.work()
        await house.bind(name)
        await house.work()

    pods = [pod["status"]["phase"] for pod in await house.pods()]
    assert sorted(pods) == ["Pending", "Running"]  # vm-2's next launcher, which waits
    assert (await house.vmi("vm-2"))["status"] == {"phase": "Scheduling"}
    (refused,) = house.cluster.log.of(REFUSED)
    assert refused.actor == "kubelet"
    assert refused.subject.startswith("pods virt-launcher-vm-2")


async def test_a_stopped_vm_keeps_its_device_and_names_it(house: House) -> None:
    await house.device(FIRST)
    await house.create("vm-1")
    await house.work()
    await house.bind("vm-1")
    await house.work()

    await house.run("vm-1", "Halted")

    assert await house.pods() == []
    (vgpu,) = house.site.host.kernel.vgpus()
    assert not vgpu.opened
    devices = (await house.vm("vm-1"))["spec"]["template"]["spec"]["domain"]["devices"]
    member = "gpus" if house.cluster.version is Version.V1_7 else "hostDevices"
    assert devices[member] == [{"name": FIRST, "deviceName": RESOURCE}]
    with pytest.raises(Refused, match="in use with VM vm-1"):
        await house.change(VGPUS, FIRST, enabled=False)
    await house.user.delete(VMS, "vm-1", namespace="default")
    await house.change(VGPUS, FIRST, enabled=False)


async def test_a_started_vm_takes_whichever_device_the_kubelet_picks(house: House) -> None:
    await house.device(FIRST)
    await house.create("vm-1")
    await house.work()
    await house.bind("vm-1")
    await house.work()
    await house.run("vm-1", "Halted")
    await house.device(SECOND, start=3)

    await house.run("vm-1", "Always")
    await house.bind("vm-1")
    await house.work()

    (devices,) = (await house.allocation("vm-1")).values()
    assert devices[RESOURCE] in ([FIRST], [SECOND])
    given = next(v for v in house.site.host.kernel.vgpus() if v.opened)
    assert given.function == {FIRST: 1, SECOND: 2}[devices[RESOURCE][0]]


async def test_a_type_that_is_not_permitted_renders_no_launcher(house: House) -> None:
    await house.device(FIRST)
    await house.create("vm-1")
    await house.change(
        KUBEVIRTS, KUBEVIRT, KUBEVIRT_NAMESPACE, configuration={"permittedHostDevices": None}
    )

    await house.kubevirt.work()

    assert await house.pods() == []


async def test_a_reboot_fails_the_launcher_and_the_vm_gets_another(house: House) -> None:
    await house.device(FIRST)
    await house.create("vm-1")
    await house.work()
    await house.bind("vm-1")
    await house.work()
    before = (await house.pod("vm-1"))["metadata"]["uid"]

    house.node.reboot()
    house.site.restart()
    await house.work()

    after = await house.pod("vm-1")
    assert after["metadata"]["uid"] != before
    assert "nodeName" not in after["spec"]
    assert not list(traps(house.cluster.log.entries))
