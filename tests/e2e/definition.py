"""Replaces the definition of GpuNode, as an upgrade does."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nodeagent.api import keys
from tests.e2e.controlplane.cluster import ControlPlane
from tests.waiting import until

ITSELF = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gpunodes.tangram.dev"
GPU_NODES = f"/apis/{keys.API_VERSION}/{keys.GPU_NODE_PLURAL}"
_NUMBERS = itertools.count(1)


def read(file: Path) -> dict[str, Any]:
    """Return the definition in a file."""
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


async def define(plane: ControlPlane, definition: Mapping[str, Any]) -> None:
    """Replace the definition, and wait until the API server goes by it.

    What it knows besides is a field of plans by which that is seen.
    """
    mark = f"definition{next(_NUMBERS)}"
    body = copy.deepcopy(dict(definition))
    schema = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"][mark] = {"type": "string"}
    trial = {
        "apiVersion": keys.API_VERSION,
        "kind": keys.GPU_NODE_KIND,
        "metadata": {"name": "trial"},
        "spec": {mark: "known"},
    }
    async with plane.client() as http:
        media = {"Content-Type": "application/apply-patch+yaml"}
        query = {"fieldManager": "test", "force": "true"}
        async with http.patch(ITSELF, params=query, data=json.dumps(body), headers=media) as answer:
            assert answer.status == 200, await answer.text()

        async def goes_by_it() -> bool:
            async with http.post(GPU_NODES, json=trial, params={"dryRun": "All"}) as answer:
                assert answer.status == 201, await answer.text()
                return mark in (await answer.json())["spec"]

        await until(goes_by_it, within=30, every=0.1)
