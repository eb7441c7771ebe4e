"""What is asked for, and the pod that KubeVirt makes of it: pure functions of objects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

Value = Mapping[str, Any]

LAUNCHER = "kubevirt.io=virt-launcher"
DOMAIN = "kubevirt.io/domain"

CORES, GUEST = 2, "3996Mi"
LIMITS = {"cpu": "2", "memory": "4Gi"}
REQUESTS = {"cpu": "125m", "memory": "2730Mi"}
"""What a small VM of Harvester's may use and what it asks for: processors are overcommitted 16
times there, memory by a half more; its guest has less than the VM, for what runs beside it."""
DEVICES = ("devices.kubevirt.io/kvm", "devices.kubevirt.io/tun", "devices.kubevirt.io/vhost-net")
"""Every launcher has one of each."""

# What the annotations of a VMI are that its pod does not get.
_KEPT_BACK = re.compile(
    r"kubectl\.kubernetes\.io.*|kubevirt\.io/(storage|latest)-observed-api-version"
)


def virtual_machine(
    name: str,
    *devices: str,
    namespace: str = "default",
    run: str = "Always",
    scheduler: str = "",
    labels: Mapping[str, str] | None = None,
    selector: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a VirtualMachine as Harvester's UI writes it; *devices* are resource names.

    ``gpus[].name`` has no effect on which device it gets.
    """
    gpus = [{"name": f"gpu-{n}", "deviceName": each} for n, each in enumerate(devices)]
    spec: dict[str, Any] = {
        "evictionStrategy": "LiveMigrateIfPossible",
        "domain": {
            "cpu": {"cores": CORES, "sockets": 1, "threads": 1},
            "memory": {"guest": GUEST},
            "resources": {"limits": dict(LIMITS), "requests": dict(REQUESTS)},
            "devices": {"gpus": gpus},
        },
    }
    if scheduler:
        spec["schedulerName"] = scheduler
    if selector:
        spec["nodeSelector"] = dict(selector)
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "runStrategy": run,
            "template": {"metadata": {"labels": dict(labels or {})}, "spec": spec},
        },
    }


def instance(vm: Value) -> dict[str, Any]:
    """Return the VirtualMachineInstance of a VirtualMachine."""
    metadata, template = vm["metadata"], vm["spec"]["template"]
    given = template.get("metadata") or {}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": dict(given.get("labels") or {}),
            "annotations": dict(given.get("annotations") or {}),
            "ownerReferences": [_owner(vm)],
        },
        "spec": template["spec"],
    }


def launcher(vmi: Value) -> dict[str, Any]:
    """Return the pod of a VirtualMachineInstance."""
    metadata, spec = vmi["metadata"], vmi["spec"]
    name = metadata["name"]
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if not _KEPT_BACK.fullmatch(key)
    }
    devices = dict.fromkeys(DEVICES, 1) | Counter(device_names(vmi))
    amounts = {resource: str(count) for resource, count in devices.items()}
    given = spec["domain"].get("resources") or {}
    pod: dict[str, Any] = {
        "nodeSelector": {"kubevirt.io/schedulable": "true", **(spec.get("nodeSelector") or {})},
        "terminationGracePeriodSeconds": 30,
        "containers": [
            {
                "name": "compute",
                "image": "virt-launcher",
                "resources": {
                    "requests": {**(given.get("requests") or {}), **amounts},
                    "limits": {**(given.get("limits") or {}), **amounts},
                },
            }
        ],
    }
    if spec.get("schedulerName"):
        pod["schedulerName"] = spec["schedulerName"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"virt-launcher-{name}-",
            "namespace": metadata["namespace"],
            "labels": {
                **(metadata.get("labels") or {}),
                "kubevirt.io": "virt-launcher",
                "kubevirt.io/created-by": metadata["uid"],
                "vm.kubevirt.io/name": name,
            },
            "annotations": {
                **annotations,
                DOMAIN: name,
                "kubevirt.io/migrationTransportUnix": "true",
                "kubectl.kubernetes.io/default-container": "compute",
            },
            "ownerReferences": [_owner(vmi)],
        },
        "spec": pod,
    }


def device_names(vmi: Value) -> Iterator[str]:
    """Yield the resource of each device: one is asked for, for each entry."""
    devices = vmi["spec"]["domain"].get("devices") or {}
    for member in ("gpus", "hostDevices"):
        for each in devices.get(member) or ():
            yield each["deviceName"]


def forbidden(vmi: Value, kubevirt: Value) -> Collection[str]:
    """Return which of its devices are not in permittedHostDevices: no launcher is rendered then."""
    configuration = kubevirt["spec"].get("configuration") or {}
    permitted = configuration.get("permittedHostDevices") or {}
    known = {
        each["resourceName"]
        for member in ("mediatedDevices", "pciHostDevices")
        for each in permitted.get(member) or ()
    }
    return set(device_names(vmi)) - known


def _owner(value: Value) -> dict[str, Any]:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": value["kind"],
        "name": value["metadata"]["name"],
        "uid": value["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
