"""Why a VM waits, on a real control plane: asked through its API server, and told in Events."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nodeagent.api import keys
from nodeagent.apiserver.protocol import EVENTS
from tests.e2e.desk import ALICE, allow, allow_everywhere, lead_to_the_desk
from tests.e2e.process import ROOT
from tests.e2e.stack import RESOURCES, Stack, artifacts, free_port, stack
from tests.waiting import until

WHOLE = next(profile for profile, name in RESOURCES.items() if name.endswith("-7-80C"))
SMALL = next(profile for profile, name in RESOURCES.items() if name.endswith("-1-10C"))


async def tangram(running: Stack, *arguments: str) -> tuple[int, str]:
    """Run the command line as Alice; return its status and all it said."""
    kubeconfig = running.plane.kubeconfig(ALICE)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "extender", *arguments, "--kubeconfig", str(kubeconfig)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, " ".join(said.decode().split())


async def test_a_tenant_learns_why_its_vm_waits(tmp_path: Path) -> None:
    port = free_port()
    options = ("--host", "0.0.0.0", "--desk-port", str(port))
    async with stack(
        artifacts(tmp_path), nodes=1, gpus=1, users=(ALICE,), options=options
    ) as running:
        await lead_to_the_desk(running, port)
        await running.create_vms({"whole": WHOLE})
        await running.bound_pods(at_least=1)
        await running.create_vms({"waits": SMALL})
        await until(lambda: running.extender.events("filter_answered")[-1]["refused"], within=60)

        status, said = await tangram(running, "explain", "waits")
        assert status == 1
        assert "services" in said
        assert "cannot get resource" in said

        desk = {"resourceNames": ["https:tangram-page:desk"], "verbs": ["get"]}
        proxy = {"apiGroups": [""], "resources": ["services/proxy"], **desk}
        await allow(running, keys.SYSTEM_NAMESPACE, proxy)
        status, said = await tangram(running, "explain", "waits")
        assert (status, "you may not get pods in namespace default" in said) == (1, True), said

        pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
        await allow(running, "default", pods)

        async def may() -> bool:  # what was refused is refused for half a minute
            nonlocal status, said
            status, said = await tangram(running, "explain", "waits")
            return status == 0

        await until(may, within=60, every=1.0)
        assert "VirtualMachineInstance waits" in said
        assert "is refused" in said
        assert "0 memory slices are free, and it needs 1" in said
        status, said = await tangram(running, "nodes")
        assert (status, "you may not list gpunodes.tangram.dev" in said) == (1, True), said

        async def told() -> set[str]:
            events = await running.listed(EVENTS, "default")
            return {
                each["involvedObject"]["kind"]
                for each in events
                if each["reason"] == "VgpuNotPlaced" and "it needs 1" in each["message"]
            }

        async def both() -> bool:
            return await told() == {"Pod", "VirtualMachineInstance"}

        await until(both, within=60, every=0.5)

        listed = {
            "apiGroups": [keys.GROUP],
            "resources": [keys.GPU_NODE_PLURAL],
            "verbs": ["list"],
        }
        await allow_everywhere(running, listed)

        (node,) = [each.name for each in await running.gpu_nodes()]

        async def holds() -> bool:
            nonlocal status, said
            status, said = await tangram(running, "drain", node, "plan")
            return status == 2

        await until(holds, within=60, every=1.0)
        assert f"default/whole on {node} GPU 0 slices 0-7 cannot go: there is no room" in said
        status, said = await tangram(running, "defrag", "plan", "--admit", "default/waits")
        assert (status, "No moves attain that." in said) == (2, True), said
