"""Definition and extender are replaced by newer and by older ones, while VMs run.

Not the agents: simulated GPUs end with their process. What agents of different versions keep for
each other on the node is tried in ``tests/unit``, and by ``make crash``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nodeagent.api import keys
from nodeagent.apiserver.protocol import GPU_NODES, PODS, PatchType
from tests.e2e.judge import Place, violations
from tests.e2e.stack import CRD, Stack, artifacts, stack
from tests.manifests.test_crd_evolution import PREVIOUS
from tests.waiting import until

NODES = 2
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gpunodes.tangram.dev"
TIER = {"type": "string", "maxLength": 63}
"""A field of assignments that only a newer version knows."""


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


def newer() -> dict[str, Any]:
    """Return the definition of a version to come."""
    found = read(CRD)
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["assignments"]["items"]["properties"]["tier"] = TIER
    return found


async def define(running: Stack, definition: Mapping[str, Any]) -> None:
    """Replace the definition, and wait until the API server goes by it."""
    async with running.plane.client() as http:
        media = {"Content-Type": "application/apply-patch+yaml"}
        query = {"fieldManager": "test", "force": "true"}
        body = json.dumps(definition)
        async with http.patch(DEFINITION, params=query, data=body, headers=media) as answer:
            assert answer.status == 200, await answer.text()
        knows = "tier" in body
        trial = {
            "apiVersion": keys.API_VERSION,
            "kind": keys.GPU_NODE_KIND,
            "metadata": {"name": "trial"},
            "spec": {"assignments": [ENTRY]},
        }

        async def goes_by_it() -> bool:
            path, dry = f"/apis/{keys.API_VERSION}/{keys.GPU_NODE_PLURAL}", {"dryRun": "All"}
            async with http.post(path, json=trial, params=dry) as answer:
                assert answer.status == 201, await answer.text()
                (entry,) = (await answer.json())["spec"]["assignments"]
            return ("tier" in entry) == knows

        await until(goes_by_it, within=30, every=0.1)


ENTRY = {
    "id": "trial",
    "gpu": "GPU-1",
    "profileId": 19,
    "start": 0,
    "size": 1,
    "resource": "nvidia.com/NVIDIA_H100XM-1-10C",
    "since": "2026-01-01T00:00:00Z",
    "tier": "gold",
}


async def places(running: Stack) -> dict[str, Place]:
    """Return where each VM's GPU instance is, by the UID of its pod."""
    return {
        entry.pod.uid: (entry.gpu, entry.profile_id, entry.start)
        for node in await running.gpu_nodes()
        for entry in node.spec.assignments
        if entry.pod is not None
    }


async def settled(running: Stack, vms: int) -> dict[str, Place]:
    """Wait until so many VMs run, all as it must be; return their places."""
    await running.bound_pods(at_least=vms)
    await running.quiet(for_seconds=2)
    pods = await running.pods()
    assert len(pods) == vms
    assert not list(violations(await running.gpu_nodes(), pods))
    return await places(running)


async def replaced(running: Stack) -> None:
    """Replace the extender, as a rolling update does."""
    await running.extender.stop()
    await running.extender.start()
    await running.ready()


async def tiers(running: Stack) -> list[str]:
    """Return the newer field of every entry, "" where there is none."""
    listed = await running.listed(GPU_NODES)
    return [a.get("tier", "") for n in listed for a in n.get("spec", {}).get("assignments", ())]


async def test_vms_live_through_upgrades_and_back(tmp_path: Path) -> None:
    async with stack(artifacts(tmp_path), nodes=NODES, definition=PREVIOUS) as running:
        await running.create_vms({f"old-{n}": (19, 14, 9)[n % 3] for n in range(9)})
        at_first = await settled(running, 9)

        # To this version: the definition first.
        await define(running, read(CRD))
        await replaced(running)
        await running.create_vms({f"now-{n}": 19 for n in range(6)})
        now = await settled(running, 15)
        assert at_first.items() <= now.items()

        # To the next, whose extender writes something besides; this one goes on by it.
        await define(running, newer())
        for raw in await running.listed(GPU_NODES):
            entries = [each | {"tier": "gold"} for each in raw["spec"]["assignments"]]
            await running.api.patch(
                GPU_NODES,
                raw["metadata"]["name"],
                [{"op": "replace", "path": "/spec/assignments", "value": entries}],
                patch_type=PatchType.JSON,
            )
        for name, pod in (await running.pods()).items():
            if name in ("old-0", "now-0"):
                await running.api.delete(PODS, pod["metadata"]["name"], namespace="default")
        await running.create_vms({f"next-{n}": 19 for n in range(4)})
        later = await settled(running, 17)
        assert len(now.items() & later.items()) == 13
        assert sorted(await tiers(running)) == [""] * 4 + ["gold"] * 13

        # And back, where nobody knows of it: the extender first, the definition last.
        await replaced(running)
        await define(running, read(PREVIOUS))
        await running.create_vms({f"back-{n}": 19 for n in range(3)})
        at_last = await settled(running, 20)
        assert later.items() <= at_last.items()
