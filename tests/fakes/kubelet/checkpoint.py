"""The device manager's checkpoint as Kubernetes 1.20 and later write it, checksum included.

The checksum is the 32-bit FNV-1a of how go-spew prints the checkpoint's Go structs, types and all.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec

NO_TOPOLOGY = -1


class Entry(msgspec.Struct, frozen=True):
    """What a container has of a resource, and what the plugin has answered for it."""

    uid: str
    container: str
    resource: str
    devices: Mapping[int, Sequence[str]]
    answer: bytes


class Corrupt(Exception):
    """The checkpoint is not the one that was written."""


def write(path: Path, entries: Sequence[Entry], registered: Mapping[str, Sequence[str]]) -> None:
    """Replace the checkpoint at *path*, as a kubelet does: synced, then renamed."""
    fresh = path.with_name(f".{path.name}")
    with open(fresh, "wb") as file:
        file.write(text(entries, registered))
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def text(entries: Sequence[Entry], registered: Mapping[str, Sequence[str]]) -> bytes:
    """Return a checkpoint's content."""
    document = {
        "Data": {
            "PodDeviceEntries": [_as_json(each) for each in entries] or None,
            "RegisteredDevices": {name: list(registered[name]) for name in sorted(registered)},
        },
        "Checksum": checksum(entries, registered),
    }
    return msgspec.json.encode(document)


def read(path: Path) -> tuple[list[Entry], Mapping[str, Sequence[str]]]:
    """Return what the checkpoint at *path* says; nothing if there is none.

    Raises:
        Corrupt: it does not decode, or its checksum is another.
    """
    try:
        document = msgspec.json.decode(path.read_bytes())
        entries = [_from_json(each) for each in document["Data"]["PodDeviceEntries"] or ()]
        registered = document["Data"]["RegisteredDevices"] or {}
    except FileNotFoundError:
        return [], {}
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise Corrupt(str(error)) from error
    if document["Checksum"] != checksum(entries, registered):
        raise Corrupt("its checksum is another")
    return entries, registered


def checksum(entries: Sequence[Entry], registered: Mapping[str, Sequence[str]]) -> int:
    """Return what a kubelet would write, and verify, as the checksum."""
    printed = " ".join(
        f"{{PodUID:(string){each.uid} ContainerName:(string){each.container}"
        f" ResourceName:(string){each.resource}"
        f" DeviceIDs:(checkpoint.DevicesPerNUMA){_map(each.devices)}"
        f" AllocResp:([]uint8){_list(each.answer)}}}"
        for each in entries
    )
    whole = (
        "(checkpoint.checkpointData){PodDeviceEntries:([]checkpoint.PodDevicesEntry)"
        f"{f'[{printed}]' if entries else '<nil>'}"
        f" RegisteredDevices:(map[string][]string){_map(registered)}}}"
    )
    return reduce(lambda hash, byte: (hash ^ byte) * 16777619 % 2**32, whole.encode(), 2166136261)


def _map(values: Mapping[Any, Sequence[str]]) -> str:
    return f"map[{' '.join(f'{key}:{_list(values[key])}' for key in sorted(values))}]"


def _list(values: Sequence[Any]) -> str:
    return f"[{' '.join(map(str, values))}]"


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "PodUID": entry.uid,
        "ContainerName": entry.container,
        "ResourceName": entry.resource,
        "DeviceIDs": {str(node): list(entry.devices[node]) for node in sorted(entry.devices)},
        "AllocResp": base64.b64encode(entry.answer).decode(),
    }


def _from_json(entry: Mapping[str, Any]) -> Entry:
    return Entry(
        entry["PodUID"],
        entry["ContainerName"],
        entry["ResourceName"],
        {int(node): ids for node, ids in entry["DeviceIDs"].items()},
        base64.b64decode(entry["AllocResp"]),
    )
