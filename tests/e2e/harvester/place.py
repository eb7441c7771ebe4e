"""Where a VM is, by the GPUs themselves; and where it was decided to be, by its Binding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from nodeagent.api import keys
from nodeagent.api.gpunode import Decision
from tests.fakes.pcidevices.host import Host
from tests.fakes.pcidevices.names import device_name

Place = tuple[str, int, int]
"""A GPU (UUID), a profile id, the first memory slice."""


def place(host: Host, function: str) -> Place:
    """Return the GPU instance behind the vGPU on a virtual function."""
    vgpu, machine = host.vgpu(function), host.machine
    assert vgpu is not None, function
    instances = {each.gi_id: each for each in machine.gpu_instances(vgpu.gpu)}
    instance = instances[vgpu.gi_id]
    return machine.uuids[vgpu.gpu], instance.profile_id, instance.placement.start


def kept(host: Host, devices: Collection[str], beside: Collection[str]) -> frozenset[Place]:
    """Return where the vGPUs of VGPUDevices of such names are on a node, but for those *beside*.

    Those are the virtual functions whose vGPUs others have open: nobody keeps them meanwhile.
    """
    return frozenset(
        place(host, function)
        for gpu in host.gpus.values()
        for function in host.functions(gpu)
        if device_name(host.node, function) in devices
        and function not in beside
        and host.vgpu(function)
    )


def decided(pod: Mapping[str, Any]) -> Counter[Place] | None:
    """Return where a pod was decided to be, as it was bound; None if nobody has decided it."""
    text = (pod["metadata"].get("annotations") or {}).get(keys.DECISION_ANNOTATION)
    if text is None:
        return None
    decisions = msgspec.json.decode(text, type=list[Decision])
    return Counter((each.gpu, each.profile_id, each.start) for each in decisions)
