"""Pods as KubeVirt makes them for VMs, as far as scheduling can tell."""

from __future__ import annotations

from typing import Any

from nodeagent.api import keys

SCHEDULABLE = {"kubevirt.io/schedulable": "true"}
"""The label of nodes that run VMs, by which their pods select them."""


def launcher(name: str, namespace: str, resource: str) -> dict[str, Any]:
    """Return the virt-launcher pod of a VM that asks for one vGPU (or container device)."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"virt-launcher-{name}-",
            "namespace": namespace,
            "labels": {
                "kubevirt.io": "virt-launcher",
                "kubevirt.io/created-by": f"vmi-{name}",
                "vm.kubevirt.io/name": name,
                keys.MANAGED_LABEL: "true",
            },
            "annotations": {"kubevirt.io/domain": name},
            "ownerReferences": [
                {
                    "apiVersion": "kubevirt.io/v1",
                    "kind": "VirtualMachineInstance",
                    "name": name,
                    "uid": f"vmi-{name}",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": dict(SCHEDULABLE),
            "containers": [
                {
                    "name": "compute",
                    "image": "virt-launcher",
                    "resources": {"requests": {resource: "1"}, "limits": {resource: "1"}},
                }
            ],
        },
    }
