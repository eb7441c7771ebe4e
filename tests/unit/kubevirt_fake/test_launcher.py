"""The pod that KubeVirt makes of a VM."""

from __future__ import annotations

from typing import Any

from tests.fakes.kubevirt.launcher import forbidden, instance, launcher, virtual_machine

SMALL, BIG = "nvidia.com/NVIDIA_A100X-1-5C", "nvidia.com/NVIDIA_A100X-3-20C"


def vmi(*devices: str, **options: Any) -> dict[str, Any]:
    vm = virtual_machine("vm-1", *devices, **options)
    vm["metadata"]["uid"] = "vm-uid"
    made = instance(vm)
    made["metadata"]["uid"] = "vmi-uid"
    return made


def test_each_device_adds_one_to_requests_and_limits_and_duplicates_add_up() -> None:
    (container,) = launcher(vmi(SMALL, SMALL, BIG))["spec"]["containers"]

    assert container["name"] == "compute"
    for amounts in container["resources"].values():
        asked = {name: amount for name, amount in amounts.items() if name.startswith("nvidia")}
        assert asked == {SMALL: "2", BIG: "1"}


def test_beside_its_devices_it_asks_for_what_every_vm_does() -> None:
    (container,) = launcher(vmi(SMALL))["spec"]["containers"]
    limits, requests = (container["resources"][each] for each in ("limits", "requests"))

    for device in ("kvm", "tun", "vhost-net"):
        assert limits[f"devices.kubevirt.io/{device}"] == "1"
        assert requests[f"devices.kubevirt.io/{device}"] == "1"
    assert (limits["cpu"], limits["memory"]) == ("2", "4Gi")
    assert (requests["cpu"], requests["memory"]) == ("125m", "2730Mi")


def test_it_has_the_vmis_labels_and_annotations_and_its_own() -> None:
    of = vmi(SMALL, labels={"tangram.dev/managed": "true"})
    of["metadata"]["annotations"] = {"mine": "1", "kubectl.kubernetes.io/last-applied": "x"}

    metadata = launcher(of)["metadata"]

    assert metadata["generateName"] == "virt-launcher-vm-1-"
    assert metadata["labels"] == {
        "tangram.dev/managed": "true",
        "kubevirt.io": "virt-launcher",
        "kubevirt.io/created-by": "vmi-uid",
        "vm.kubevirt.io/name": "vm-1",
    }
    assert metadata["annotations"]["mine"] == "1"
    assert metadata["annotations"]["kubevirt.io/domain"] == "vm-1"
    assert "kubectl.kubernetes.io/last-applied" not in metadata["annotations"]


def test_its_owner_is_the_instance_whose_owner_is_the_vm() -> None:
    of = vmi(SMALL)
    (owner,) = launcher(of)["metadata"]["ownerReferences"]
    (owners_owner,) = of["metadata"]["ownerReferences"]

    assert (owner["kind"], owner["uid"]) == ("VirtualMachineInstance", "vmi-uid")
    assert (owners_owner["kind"], owners_owner["uid"]) == ("VirtualMachine", "vm-uid")


def test_the_scheduler_is_the_one_the_vm_names() -> None:
    spec = launcher(vmi(SMALL, scheduler="tangram", selector={"zone": "a"}))["spec"]

    assert spec["schedulerName"] == "tangram"
    assert spec["nodeSelector"] == {"kubevirt.io/schedulable": "true", "zone": "a"}


def test_what_is_not_permitted_is_forbidden_wherever_it_stands() -> None:
    permitted = {"pciHostDevices": [{"resourceName": SMALL}], "mediatedDevices": []}
    kubevirt = {"spec": {"configuration": {"permittedHostDevices": permitted}}}

    assert forbidden(vmi(SMALL, BIG), kubevirt) == {BIG}
    assert forbidden(vmi(SMALL), {"spec": {}}) == {SMALL}
