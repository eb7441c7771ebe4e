"""A policy file under a running extender: its rules reach real pods, and its changes do."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from nodeagent.api import keys
from nodeagent.apiserver.protocol import EVENTS
from tests.e2e.process import ROOT
from tests.e2e.stack import RESOURCES, Stack, artifacts, stack
from tests.e2e.test_placement import bound, pending_reason
from tests.waiting import until

HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
CAPPED = (
    HEAD
    + """\
tenants:
- name: first
  namespaces: {matchLabels: {kubernetes.io/metadata.name: default}}
  caps: {memorySlices: 2}
"""
)
SMALL = next(profile for profile, name in RESOURCES.items() if name.endswith("-1-10C"))
AT_CAP = "vGPU: tenant first is at its cap of memory slices"


async def settled(running: Stack, *, places: int) -> str:
    """Wait until so many of three VMs are bound; return why the last is not, "" if all are."""

    async def as_many() -> bool:
        pods = await running.pods()
        waiting = pods.keys() - bound(pods)
        told = all("conditions" in pods[name]["status"] for name in waiting)
        return len(pods) == 3 and len(bound(pods)) == places and told

    await until(as_many, within=90, every=0.2)
    pods = await running.pods()
    return "".join(pending_reason(pods[name]) for name in pods.keys() - bound(pods))


async def foreseen(running: Stack, file: Path) -> tuple[int, dict[str, Any]]:
    """Hold a policy file against the cluster; return the exit status, and what is told of it."""
    kubeconfig = str(running.plane.kubeconfig("admin"))
    options = ("--against", "cluster", "--output", "json", "--kubeconfig", kubeconfig)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "extender", "policy", "check", str(file), *options),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, json.loads(said)["cluster"]


async def test_a_cap_holds_until_a_good_policy_lifts_it(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(CAPPED)

    async def refused() -> list[str]:
        events = await running.listed(EVENTS, keys.SYSTEM_NAMESPACE)
        return [str(each["message"]) for each in events if each["reason"] == "PolicyRefused"]

    async with stack(artifacts(tmp_path), nodes=2, gpus=1, policy=str(file)) as running:
        await running.create_vms(dict.fromkeys(("a", "b", "c"), SMALL))
        assert AT_CAP in await settled(running, places=2)

        other = tmp_path / "other.yaml"
        for slices, status, lost, fit in ((1, 2, 2, 0), (2, 0, 0, 0), (3, 0, 0, 1)):
            other.write_text(CAPPED.replace("memorySlices: 2", f"memorySlices: {slices}"))
            code, told = await foreseen(running, other)
            assert (code, told["placed"]["pods"], told["placed"]["refused"]) == (status, 2, lost)
            assert (told["waiting"]["pods"], told["waiting"]["refused"]) == (1, 1 - fit)

        file.write_text(CAPPED.replace("memorySlices: 2", "memorySlices: many"))
        await until(refused, within=30, every=0.2)
        (why,) = await refused()
        assert "$.tenants[0].caps.memorySlices" in why
        assert AT_CAP in await settled(running, places=2)

        file.write_text(CAPPED.replace("memorySlices: 2", "memorySlices: 3"))
        assert await settled(running, places=3) == ""

    versions = {each["policy_version"] for each in running.extender.events("place_chosen")}
    assert len(versions) == 2, "the decisions of each policy name it"
