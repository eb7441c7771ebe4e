"""Which pod has which device, out of what a kubelet tells in two places: values only.

Its pod-resources API names pods and leaves out init containers that end; its checkpoint has UIDs,
and is written a moment later. Either may still tell of pods that have ended or are gone, which a
kubelet forgets when it next needs a device. So a pod has a device if one of the two says so and the
API server, asked after them, says that the pod is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from nodeagent import slots
from nodeagent.api import resources
from nodeagent.api.gpunode import PodRef
from nodeagent.deviceplugin.checkpoint import Entry
from nodeagent.kubelet import Holder

SHOWN: Final = 64
"""So many characters of a stranger's device id are repeated."""


class Listed(msgspec.Struct, frozen=True):
    """The devices of one resource that the pod-resources API lists for a container."""

    namespace: str
    pod: str
    resource: str
    devices: tuple[str, ...]


def is_slot(resource: str, device: str) -> bool:
    """Tell whether a device id is the name of one of our slots."""
    number = device.rpartition("-")[2]
    return device.isascii() and number.isdecimal() and slots.resource_of(device) == resource


def claims(
    entries: Iterable[Entry], listed: Iterable[Listed], pods: Collection[PodRef]
) -> dict[str, str]:
    """Return the UID of the pod that has each slot; *pods* are those that have not ended."""
    return {
        device: pod.uid
        for resource, device, pod in _held(entries, listed, pods)
        if is_slot(resource, device)
    }


def holders(
    entries: Iterable[Entry], listed: Iterable[Listed], pods: Collection[PodRef]
) -> Sequence[Holder]:
    """Return who of *pods* has devices for our resources that are no slots, in a stable order."""
    found = {
        Holder(resource, device, pod)
        for resource, device, pod in _held(entries, listed, pods)
        if not is_slot(resource, device)
    }
    return sorted(found, key=lambda each: (each.resource, each.device, each.pod.uid))


def rivals(allocatable: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Say of which of our resources the kubelet lists healthy devices that are no slots."""
    return {
        resource: f"another device plugin serves it (the kubelet lists {foreign[0][:SHOWN]!r}):"
        " switch that plugin off on this node"
        for resource, devices in sorted(allocatable.items())
        if resources.ours(resource)
        and (foreign := sorted(each for each in devices if not is_slot(resource, each)))
    }


def _held(
    entries: Iterable[Entry], listed: Iterable[Listed], pods: Collection[PodRef]
) -> Iterator[tuple[str, str, PodRef]]:
    """Yield resource, device and pod; the checkpoint last, for a UID is surer than a name."""
    named = {(pod.namespace, pod.name): pod for pod in pods}
    known = {pod.uid: pod for pod in pods}
    for each in listed:
        if resources.ours(each.resource) and (pod := named.get((each.namespace, each.pod))):
            yield from ((each.resource, device, pod) for device in each.devices)
    for entry in entries:
        if resources.ours(entry.resource) and (pod := known.get(entry.pod_uid)):
            yield from ((entry.resource, device, pod) for device in entry.devices)
