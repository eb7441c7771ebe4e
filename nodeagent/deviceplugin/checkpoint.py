"""The device manager's checkpoint: what a kubelet has given to which pod, by the pod's UID.

The kubelet replaces the file as a whole, before a pod's containers are made. Its checksum is over
the kubelet's own Go types, which may change with any release, so it is not ours to verify: what
does not decode completely is no checkpoint.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.kubelet import KubeletError

LARGEST: Final = 64 << 20
"""In bytes: 256 pods of 16 containers with 4 kB each are a quarter of it."""


class Entry(msgspec.Struct, frozen=True):
    """The devices of one resource that a container of a pod has been given."""

    pod_uid: str
    resource: str
    devices: tuple[str, ...]


class _Entry(msgspec.Struct, frozen=True):
    uid: str = msgspec.field(name="PodUID")
    resource: str = msgspec.field(name="ResourceName")
    # By NUMA node, -1 where a device has none; through Kubernetes 1.19 without.
    devices: dict[str, list[str] | None] | list[str] | None = msgspec.field(name="DeviceIDs")


class _Content(msgspec.Struct, frozen=True):
    # Go writes null for what is empty.
    entries: list[_Entry] | None = msgspec.field(name="PodDeviceEntries")


class _Checkpoint(msgspec.Struct, frozen=True):
    content: _Content = msgspec.field(name="Data")


_DECODER = msgspec.json.Decoder(_Checkpoint)


def read(path: Path) -> Sequence[Entry] | None:
    """Return the entries of the checkpoint at *path*, None if there is none.

    Raises:
        KubeletError: it cannot be read, or does not decode.
    """
    try:
        text = _text(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KubeletError(f"{path} cannot be read: {error}; the agent must run as root") from error
    try:
        entries = _DECODER.decode(text).content.entries or []
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise KubeletError(
            f"{path} is no checkpoint of a kubelet ({error}), so it is not known which pods have"
            " devices: drain the node, remove the file and restart the kubelet"
        ) from error
    return [Entry(each.uid, each.resource, _devices(each.devices)) for each in entries]


def _text(path: Path) -> bytes:
    # Neither a link nor a pipe somebody has put there.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise OSError(f"larger than {LARGEST} bytes")
    return text


def _devices(found: dict[str, list[str] | None] | list[str] | None) -> tuple[str, ...]:
    if isinstance(found, dict):
        return tuple(dict.fromkeys(each for ids in found.values() for each in ids or ()))
    return tuple(found or ())
