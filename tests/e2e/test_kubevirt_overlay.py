"""The overlay for KubeVirt as it is: VMs with vGPUs, on agents with their own account and node."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.api.gpunode import Mode
from tests.e2e.harvester.place import decided
from tests.e2e.running import installed
from tests.e2e.stack import artifacts
from tests.e2e.vgpus import LARGE, MEDIUM, SMALL, WHOLE, VgpuGpus, Vms
from tests.waiting import until

FIRST = {
    "whole": (WHOLE,),
    "two": (SMALL, SMALL),
    "unlike": (SMALL, MEDIUM),
    **{f"large-{n}": (LARGE,) for n in range(2)},
    **{f"medium-{n}": (MEDIUM,) for n in range(4)},
    **{f"small-{n}": (SMALL,) for n in range(12)},
}
THEN = {
    **{f"late-large-{n}": (LARGE,) for n in range(3)},
    **{f"late-small-{n}": (SMALL,) for n in range(8)},
}
FALLEN_OFF_THE_BUS = 79
"""The Xid error of a GPU that does not answer any more."""


async def a_gpu_fails_under(vm: str, vms: Vms, gpus: VgpuGpus) -> None:
    """Let the GPU of a VM fall off the bus: its agent warns the VM."""
    pod = (await vms.launchers())[vm]
    node = gpus.there[pod["spec"]["nodeName"]]
    (function,) = node.launchers.devices(pod["metadata"]["uid"])
    node.host.machine.xid(node.host.parent(function), FALLEN_OFF_THE_BUS)


@pytest.mark.parametrize("mode", [Mode.VGPU_VFIO, Mode.VGPU_MDEV], ids=str)
async def test_vms_have_the_vgpus_that_were_planned_for_them_and_leave_nothing(
    tmp_path: Path, mode: Mode
) -> None:
    gpus = VgpuGpus(tmp_path / "nodes", mode)
    async with installed(artifacts(tmp_path), gpus) as running:
        vms = Vms(running, gpus)
        there = dict(FIRST)
        for name, resources in there.items():
            await vms.create(name, *resources)
        await vms.all_well(there)

        # One that starts anew is another launcher, for which its place was kept.
        before = decided((await vms.launchers())["large-0"])
        await vms.restart("large-0")
        assert decided((await vms.launchers())["large-0"]) == before
        await vms.all_well(there)

        going = [name for name in there if name.endswith(("1", "3", "5")) or name == "whole"]
        await vms.delete(*going)
        there = {name: there[name] for name in there if name not in going} | THEN
        for name, resources in THEN.items():
            await vms.create(name, *resources)
        await vms.all_well(there)
        await vms.delete(*there)
        await vms.nothing_is_left()
        assert [each for node in gpus.there.values() for each in node.amiss] == []

        await vms.create("last", SMALL)
        await running.running(1)
        await a_gpu_fails_under("last", vms, gpus)
        await until(lambda: not running.unused(gpus.account), within=60, every=0.5)
        assert running.refusals() == {}
