"""Agents and Harvester's controllers end at every step they take, from the first VM to the last.

The two first times that a step is taken whoever takes it ends there, and another takes over: a
controller on one node, an agent (by SIGKILL to its process) on another. VMs come, stop, start and
go on both until in the life of one nobody has ended any more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.e2e.harvester.cluster import Cluster
from tests.e2e.harvester.endings import CREATE, DESTROY, TIMES, EndingController
from tests.e2e.harvester.judge import violations
from tests.e2e.harvester.nodes import Node
from tests.e2e.harvester.place import decided, place
from tests.e2e.harvester.site import HOSTNAME
from tests.e2e.harvester.tangram import installed
from tests.e2e.stack import artifacts
from tests.fakes.pcidevices.names import Version

SCAN_SECONDS = 1.0
CONTROLLERS, AGENTS = "node-1", "node-2"
"""The node whose controllers end, and the one whose agents do."""
MOST_VMS = 12

OF_AGENTS = {
    *(f"api: {when} patch gpunodes/status" for when in ("before", "after")),
    *(f"api: {when} patch vgpudevices" for when in ("before", "after")),
    *(f"api: {when} patch migconfigurations" for when in ("before", "after")),
    *(f"api: {when} patch sriovgpudevices" for when in ("before", "after")),
    *(
        f"disk: before {effect} {file}"
        for effect in ("write", "rename", "sync")
        for file in ("journal.json", "told.json")
    ),
}
OF_CONTROLLERS: Mapping[Version, set[str]] = {
    version: {
        *("create sriovgpudevices", "created sriovgpudevices"),
        *("write status of sriovgpudevices", "wrote status of sriovgpudevices"),
        *("sriov-manage", "sriov-managed"),
        *("create migconfigurations", "created migconfigurations"),
        *("create vgpudevices", "created vgpudevices"),
        *("write status of vgpudevices", "wrote status of vgpudevices"),
        *("create vGPU", "created vGPU", "remove vGPU", "removed vGPU"),
        *("advertise", "advertised", "withdraw", "withdrawn"),
        *("write virtualmachines", "wrote virtualmachines"),
        *further,
    }
    for version, further in {
        Version.V1_7: (),
        Version.V1_8: (
            *("create pcidevices", "created pcidevices", "write pcidevices", "wrote pcidevices"),
            *("create pcideviceclaims", "created pcideviceclaims"),
            *("delete pcideviceclaims", "deleted pcideviceclaims"),
        ),
    }.items()
}
"""What each comes to in the life of a node and a VM; what is more is gone through all the same."""


@pytest.mark.parametrize("version", list(Version), ids=str)
async def test_wherever_an_agent_or_a_controller_ends_every_vm_has_what_was_decided(
    tmp_path: Path, version: Version
) -> None:
    controllers: list[EndingController] = []

    def before(node: Node) -> None:
        if node.name == CONTROLLERS:
            controllers.append(node.end_controllers())
        else:
            node.end_agents()

    async with installed(
        artifacts(tmp_path), version, nodes=2, gpus=1, scan_seconds=SCAN_SECONDS, before=before
    ) as (running, _):
        (controller,) = controllers
        agents = running.nodes[AGENTS]
        async with asyncio.TaskGroup() as lives:
            lives.create_task(lived(running, CONTROLLERS, lambda: controller.taken))
            lives.create_task(lived(running, AGENTS, lambda: agents.taken))
        await running.empty()

        assert await violations(running) == []
        assert OF_CONTROLLERS[version] <= controller.taken.keys()
        assert agents.taken.keys() >= OF_AGENTS
        assert {symbol: agents.taken[symbol] for symbol in (CREATE, DESTROY)} == {
            CREATE: 2,
            DESTROY: 2,
        }
        assert running.nodes[CONTROLLERS].crashes == ends(controller.taken)
        assert {it.reason for it in running.witness.rejected} <= {"UnexpectedAdmissionError"}
        assert len(running.witness.rejected) <= running.nodes[CONTROLLERS].crashes
        assert running.unexcused == []


def ends(taken: Counter[str]) -> int:
    """Return how often whoever has taken these steps has ended."""
    return sum(min(count, TIMES) for count in taken.values())


async def lived(running: Cluster, node: str, taken: Callable[[], Counter[str]]) -> None:
    """Have VMs live on a node, one after the other, until nobody ends in the life of one."""
    for number in range(MOST_VMS):
        before = ends(taken())
        name = f"vm-{node}-{number}"
        await running.create(name, 19, selector={HOSTNAME: node})
        await running.all_run(name)
        await as_decided(running, name)
        await running.run(name, "Halted")
        await running.gone(name)
        await running.run(name, "Always")
        await running.all_run(name)
        await as_decided(running, name)
        await running.delete(name)
        await running.gone(name)
        await running.empty(node)
        if ends(taken()) == before:
            return
    raise AssertionError(f"after {MOST_VMS} VMs there is still no end: {taken()}")


async def as_decided(running: Cluster, name: str) -> None:
    """See that a VM has what was decided for it, or what a stopped one had kept."""
    pod = (await running.launchers())[name]
    uid, node = pod["metadata"]["uid"], running.nodes[pod["spec"]["nodeName"]]
    places = Counter(place(node.host, function) for function in node.launchers.devices(uid))
    assert places.total() == 1
    strayed = places - (decided(pod) or Counter())
    assert strayed.keys() <= set(running.witness.may_have(uid)), name
