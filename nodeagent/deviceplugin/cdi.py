"""The CDI specification by which a container runtime finds the GPU instances behind slots.

A device is named by its slot, so what a container was given keeps its name when the GPU instance
is made anew, with another UUID and other device files, after a GPU reset or a reboot. The runtime
reads the file whenever it makes a container (cncf-tags/container-device-interface, SPEC.md).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.api import keys
from nodeagent.kubelet import Device, KubeletError

KIND: Final = f"{keys.GROUP}/gpu-instance"
VERSION: Final = "0.5.0"
"""The oldest that allows device names with dots to begin with a digit; containerd 1.7 has it."""
FILE: Final = f"{KIND.replace('/', '-')}.json"
"""Vendor and class, as the specification proposes; runtimes read ``.json`` and ``.yaml`` only."""


class _Node(msgspec.Struct, frozen=True):
    path: str
    permissions: str = "rw"


class _Edits(msgspec.Struct, frozen=True, rename="camel"):
    env: tuple[str, ...]
    device_nodes: tuple[_Node, ...]


class _Device(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    container_edits: _Edits


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    cdi_version: str
    kind: str
    devices: tuple[_Device, ...]


def qualified(slot: str) -> str:
    """Return the name by which the runtime is asked for *slot*.

    >>> qualified("mig-1g.10gb-7")
    'tangram.dev/gpu-instance=mig-1g.10gb-7'
    """
    return f"{KIND}={slot}"


def specification(devices: Mapping[str, Device]) -> bytes:
    """Return the file's content for *devices*, by slot.

    The variable is what NVIDIA's container runtime injects the driver's libraries by.
    """
    described = tuple(
        _Device(
            slot,
            _Edits((f"NVIDIA_VISIBLE_DEVICES={device.id}",), tuple(_Node(n) for n in device.nodes)),
        )
        for slot, device in sorted(devices.items())
    )
    return msgspec.json.format(msgspec.json.encode(_Spec(VERSION, KIND, described))) + b"\n"


def publish(directory: Path, devices: Mapping[str, Device]) -> None:
    """Make *devices* the ones that are found in *directory*, all at once.

    Without any there is no file, for one without devices is an error to a runtime. Nothing is
    synced: a node that loses its power loses its GPU instances, too.

    Raises:
        KubeletError: those found are still the ones before.
    """
    path = directory / FILE
    fresh = directory / (FILE + ".new")
    try:
        if not devices:
            path.unlink(missing_ok=True)
            return
        content = specification(devices)
        if path.is_file() and path.read_bytes() == content:
            return
        directory.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(content)
        os.replace(fresh, path)
    except OSError as error:
        raise KubeletError(f"{path} cannot be written: {error}; is {directory} mounted?") from error
