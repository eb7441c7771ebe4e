"""virt-launcher pods as large as real ones are, about 20 kB of JSON, and what is asked about them.

The shape is that of KubeVirt's launchers; most of it no decision reads, but every hook receives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from extender.demo.pods import launcher

_MOUNTS = (
    *("private", "public", "ephemeral-disks", "container-disks", "libvirt-runtime", "sockets"),
    *("hotplug-disks", "network-info", "downward-api", "cloud-init", "sysprep", "var-log"),
    *(f"disk-{index}" for index in range(24)),
)
_NOTE = "example.com/note-of-the-owner-of-this-virtual-machine-{:02}"


def pod(name: str, resource: str, *, amount: int = 1) -> dict[str, Any]:
    """Return the pending launcher of a VM with vGPUs of one type, and a disk of its own."""
    body = launcher(name, "tenants", resource)
    body.pop("apiVersion")  # an extender gets neither
    body.pop("kind")
    body["metadata"] |= {
        "name": f"virt-launcher-{name}-x7k2p",
        "uid": f"uid-{name}",
        "resourceVersion": "8812345",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    body["metadata"]["annotations"] |= {
        "kubectl.kubernetes.io/default-container": "compute",
        **{_NOTE.format(index): f"{name}: " + "as entered by hand; " * 5 for index in range(40)},
    }
    (compute,) = body["spec"]["containers"]
    compute |= _process(name)
    vgpus = {resource: str(amount)}
    compute["resources"] = {
        "requests": {"cpu": "800m", "memory": "17432Mi", **vgpus},
        "limits": vgpus,
    }
    body["spec"] |= {
        "containers": [compute, {"name": "guest-console-log", **_process(name)}],
        "volumes": [_volume(mount) for mount in _MOUNTS],
        "schedulerName": "default-scheduler",
        "priority": 0,
        "tolerations": [
            {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute"}
            for taint in ("not-ready", "unreachable")
        ],
    }
    body["status"] = {"phase": "Pending", "qosClass": "Burstable"}
    return body


def _process(name: str) -> dict[str, Any]:
    return {
        "image": "registry.example.com/kubevirt/virt-launcher@sha256:" + "0123456789abcdef" * 4,
        "command": ["/usr/bin/virt-launcher-monitor", "--name", name, "--run-as-nonroot"],
        "env": [
            {"name": f"VIRT_LAUNCHER_SETTING_{index:02}", "value": "as the cluster has it"}
            for index in range(16)
        ],
        "volumeMounts": [
            {"name": mount, "mountPath": f"/var/run/kubevirt/{mount}", "mountPropagation": "None"}
            for mount in _MOUNTS
        ],
        "securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}},
        "terminationMessagePath": "/dev/termination-log",
        "imagePullPolicy": "IfNotPresent",
    }


def _volume(name: str) -> dict[str, Any]:
    if name == "disk-0":
        return {"name": name, "persistentVolumeClaim": {"claimName": name}}
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}


def question(pod: dict[str, Any], names: Sequence[str]) -> bytes:
    """Return what filter and prioritize are asked in names mode."""
    return msgspec.json.encode({"Pod": pod, "Nodes": None, "NodeNames": names})
