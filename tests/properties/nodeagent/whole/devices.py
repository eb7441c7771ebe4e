"""Where on which GPU a pod finds itself with the devices that it was given."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from nodeagent.api.gpunode import Mode
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from tests.fakes.sysfs.kernel import KernelVgpu
from tests.fakes.sysfs.tree import function_address
from tests.properties.nodeagent.whole.site import GPUS, Profile, Site

Place = tuple[int, int]
"""A GPU by its index, and where on it a GPU instance starts."""


def ids(site: Site, answers: Iterable[v1beta1.ContainerAllocateResponse]) -> Iterator[str]:
    """Yield the devices to which the plugin's *answers* for a container lead now."""
    for answer in answers:
        for variable in answer.envs.values():
            yield from variable.split(",")
        for device in answer.cdi_devices:
            yield _visible(site, device.name)


def _visible(site: Site, name: str) -> str:
    """Return the device that a container runtime finds by its CDI *name*."""
    kind, _, slot = name.partition("=")
    for path in site.places.cdi.glob("*.json"):
        spec = json.loads(path.read_text())
        for each in spec["devices"]:
            if (spec["kind"], each["name"]) == (kind, slot):
                (variable,) = each["containerEdits"]["env"]
                return str(variable.partition("=")[2])
    raise AssertionError(f"a container that starts now finds no {name}")


def place(site: Site, device: str, profile: Profile) -> Place | None:
    """Return where *device* is, None if there is none or it is not of *profile*."""
    at = _gpu_instance(site, device)
    for where, (profile_id, gi_id) in site.instances().items():
        if (where[0], gi_id, profile_id) == (*at, profile.id):
            return where
    return None


def set_opened(site: Site, pod: str, devices: Iterable[str], opened: bool) -> None:
    """Let a pod open its *devices*, or close them."""
    if site.mode is Mode.CONTAINER and not opened:
        site.machine.close_client(pod)
        return
    for device in devices:
        if vgpu := _vgpu(site, device):
            site.kernel.open(vgpu.gpu, vgpu.function, opened)
        else:
            site.machine.open_client(*_gpu_instance(site, device), pod)


def _gpu_instance(site: Site, device: str) -> tuple[int, int]:
    """Return the GPU and the id of the GPU instance behind a device, (-1, -1) if there is none."""
    if vgpu := _vgpu(site, device):
        return vgpu.gpu, vgpu.gi_id
    for gpu in range(GPUS):
        for each in site.machine.gpu_instances(gpu):
            for compute in each.compute_instances:
                if site.machine.mig_uuid(gpu, each.gi_id, compute.ci_id) == device:
                    return gpu, each.gi_id
    return -1, -1


def _vgpu(site: Site, device: str) -> KernelVgpu | None:
    """Return the vGPU that is named so."""
    for each in site.kernel.vgpus():
        if device in (each.uuid, function_address(each.gpu, each.function)):
            return each
    return None
