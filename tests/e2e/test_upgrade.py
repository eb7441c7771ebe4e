"""A version to come has a field of assignments that this one does not know: nothing of it is lost.

What it is like beside the version before is in ``test_versions``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nodeagent.apiserver.protocol import GPU_NODES, PODS, PatchType
from nodeagent.apiserver.rest import RestApi
from tests.e2e.definition import define, read
from tests.e2e.deployed import kubeconfig
from tests.e2e.judge import Place, violations
from tests.e2e.stack import CRD, Stack, artifacts, stack

NODES = 2
TIER = {"type": "string", "maxLength": 63}
"""A field of assignments that only a newer version knows."""


def newer() -> dict[str, Any]:
    """Return the definition of a version to come."""
    found = read(CRD)
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["assignments"]["items"]["properties"]["tier"] = TIER
    return found


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


async def test_vms_live_through_a_newer_version_and_back(tmp_path: Path) -> None:
    async with stack(artifacts(tmp_path), nodes=NODES) as running:
        await running.create_vms({f"now-{n}": (19, 14, 9)[n % 3] for n in range(9)})
        now = await settled(running, 9)

        # The next version's extender writes something besides; this one goes on by it.
        await define(running.plane, newer())
        async with RestApi(kubeconfig=kubeconfig(running.plane, "extender-0")) as extenders_api:
            for raw in await running.listed(GPU_NODES):
                entries = [each | {"tier": "gold"} for each in raw["spec"]["assignments"]]
                await extenders_api.patch(
                    GPU_NODES,
                    raw["metadata"]["name"],
                    [{"op": "replace", "path": "/spec/assignments", "value": entries}],
                    patch_type=PatchType.JSON,
                )
        for name, pod in (await running.pods()).items():
            if name in ("now-0", "now-1"):
                await running.api.delete(PODS, pod["metadata"]["name"], namespace="default")
        await running.create_vms({f"next-{n}": 19 for n in range(4)})
        later = await settled(running, 11)
        assert len(now.items() & later.items()) == 7
        assert sorted(await tiers(running)) == [""] * 4 + ["gold"] * 7

        # And back, where nobody knows of it: the extender first, the definition last.
        await replaced(running)
        await define(running.plane, read(CRD))
        await running.create_vms({f"back-{n}": 19 for n in range(3)})
        at_last = await settled(running, 14)
        assert later.items() <= at_last.items()
