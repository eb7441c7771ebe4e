"""Where the check says that kube-scheduler does not start, a real one does not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extender.kubescheduler.check import check
from extender.kubescheduler.compose import Files, Wanted, patch
from extender.kubescheduler.configuration import MalformedConfiguration, read
from extender.server.description import HOOKS
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.processes import StartFailed
from tests.e2e.controlplane.required import required_binaries

RESOURCE = "nvidia.com/NVIDIA_H100XM-1-10C"
Change = Callable[[dict[str, Any]], object]


def entry(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["extenders"][0]
    return found


STOPS: dict[str, Change] = {
    "no weight": lambda d: entry(d).pop("weight"),
    "a field nobody knows": lambda d: entry(d).update(ignoreable=True),
    "no duration": lambda d: entry(d).update(httpTimeout="soon"),
    "no CA's file": lambda d: entry(d)["tlsConfig"].update(caFile="/nowhere/ca.crt"),
    "two that bind": lambda d: d["extenders"].append(
        {"urlPrefix": "http://127.0.0.1:1", "bindVerb": "bind"}
    ),
    "one resource in two": lambda d: d["extenders"].append(
        {"urlPrefix": "http://127.0.0.1:1", "managedResources": [{"name": RESOURCE}]}
    ),
    "one resource twice": lambda d: entry(d)["managedResources"].append({"name": RESOURCE}),
    "an old version": lambda d: d.update(apiVersion="kubescheduler.config.k8s.io/v1beta3"),
}

UNSEEN = {"no CA's file"}
"""What cannot be told from the configuration alone."""


async def test_what_would_keep_the_scheduler_from_starting_is_found(tmp_path: Path) -> None:
    (tmp_path / "plane").mkdir()
    async with control_plane(required_binaries(), directory=tmp_path / "plane") as plane:
        client = plane.authority.issue("system:kube-scheduler")
        wanted = Wanted(
            url="https://127.0.0.1:1",
            server_name="tangram-extender",
            files=Files(str(plane.ca_file), str(client.public), str(client.key)),
            http_timeout_seconds=30,
            verbs=tuple(hook.verb for hook in HOOKS),
            resources={RESOURCE: False},
        )
        sound = patch(wanted)
        assert list(check(read(json.dumps(sound).encode()), wanted)) == []
        await plane.start_scheduler(sound)
        await plane.stop_scheduler()

        for name, change in STOPS.items():
            document = copy.deepcopy(sound)
            change(document)
            assert not await _starts(plane, document), name
            assert name in UNSEEN or _refused(document, wanted), name


async def _starts(plane: ControlPlane, document: dict[str, Any]) -> bool:
    try:
        await plane.start_scheduler(document)
    except StartFailed:
        return False
    return True


def _refused(document: dict[str, Any], wanted: Wanted) -> bool:
    try:
        found = list(check(read(json.dumps(document).encode()), wanted))
    except MalformedConfiguration:
        return True
    return any(each.fatal for each in found)
