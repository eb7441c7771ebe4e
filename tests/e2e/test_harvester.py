"""Tangram on Harvester 1.7 and 1.8: real control plane, real extender and agents.

Harvester's scan comes every 2 s here, every 30 s there; all other time is the clock's.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

import pytest

from tests.e2e.deployed import EXTENDER, SCHEDULER
from tests.e2e.harvester.cluster import Cluster
from tests.e2e.harvester.endings import Killed
from tests.e2e.harvester.judge import violations
from tests.e2e.harvester.nodes import Node
from tests.e2e.harvester.place import decided
from tests.e2e.harvester.tangram import ACCOUNT, installed
from tests.e2e.stack import artifacts
from tests.fakes.pcidevices.names import Version
from tests.manifests.calls import Permission
from tests.waiting import until

SCAN_SECONDS = 2.0
REBOOTS = "node-6"
"""The node that reboots while the last wave of VMs is on the way."""
CREATE = "nvmlDeviceCreateGpuInstance"
INIT = "nvmlInitWithFlags"
MIX = (*[19] * 7, *[14] * 3, 9, 5)
"""Profiles that VMs ask for: small ones more often. The first VM asks for a whole GPU."""
WAVE = 15

UNUSED: Mapping[str, Mapping[Permission, str]] = {
    EXTENDER: {
        ("", "events", "create"): "its policy is never refused",
        ("", "pods/eviction", "create"): "a stopped VM keeps its devices: nobody is evicted",
        ("apps", "replicasets", "get"): "all pods are launchers, whose VMs it asks after",
        ("apps", "statefulsets", "get"): "all pods are launchers, whose VMs it asks after",
        ("authentication.k8s.io", "tokenreviews", "create"): "nobody reads its metrics",
        ("authorization.k8s.io", "subjectaccessreviews", "create"): "nobody reads its metrics",
        ("kubevirt.io", "virtualmachineinstances", "get"): "nobody is advised to move",
        ("policy", "poddisruptionbudgets", "list"): "nobody is evicted, or advised to move",
        ("tangram.dev", "gpunodes", "delete"): "no node goes",
    },
    SCHEDULER: {},
    ACCOUNT: {
        ("", "events", "create"): "no GPU fails under a VM",
        ("", "pods", "get"): "no GPU fails under a VM",
    },
}
"""What an account may do and does not in the run, and why: other tests have it done."""

each_version = pytest.mark.parametrize("version", list(Version), ids=str)


@each_version
async def test_sixty_vms_come_and_go_over_six_nodes(tmp_path: Path, version: Version) -> None:
    """Each has the GPU instance that was decided for it; of devices that VMs keep, the recorded."""
    chance = random.Random(6)
    directory = artifacts(tmp_path)
    async with installed(directory, version, nodes=6, scan_seconds=SCAN_SECONDS, elects=True) as (
        running,
        tangram,
    ):
        names = [f"vm-{n:02}" for n in range(4 * WAVE)]
        wanted: dict[str, tuple[int, ...]] = {name: (chance.choice(MIX),) for name in names}
        wanted["vm-00"] = (0,)
        for name in names[9::10]:
            wanted[name] *= 2
        alive: list[str] = []
        unused: Mapping[str, Set[Permission]] = {}
        for first in range(0, len(names), WAVE):
            fresh = names[first : first + WAVE]
            for name in fresh:
                await running.create(name, *wanted[name])
            alive += fresh
            if fresh[-1] == names[-1]:
                unused = {
                    account: {grant.permission for grant in tangram.unused(account)}
                    for account in UNUSED
                }
                assert len(await running.running()) < len(alive)  # they are on the way
                await running.nodes[REBOOTS].reboot()
            await running.settled(*alive)
            assert await violations(running) == []
            assert len(await running.running()) >= 0.9 * len(alive)
            gone = chance.sample(alive, 7)
            for name in gone:
                await running.delete(name)
            alive = [name for name in alive if name not in gone]
            small = await alike(running, [name for name in alive if wanted[name] == (19,)])
            stopped = list(dict.fromkeys([*chance.sample(alive, 2), *small[:4]]))
            for name in stopped:
                await running.run(name, "Halted")
            await running.gone(*gone, *stopped)
            await running.quiet()
            assert await violations(running) == []
            node = running.nodes[f"node-{1 + first // WAVE}"]
            before = len(node.host.machine.calls(INIT))
            await node.driver_pod.replace()  # as an upgrade of the addon does
            for name in stopped:
                await running.run(name, "Always")
            await running.settled(*alive)
            await reopened(node, before)
        assert await violations(running) == []

        for name in alive:
            await running.delete(name)
        await running.gone(*alive)
        await running.empty()
        assert await violations(running) == []
        for node in running.nodes.values():
            assert node.host.machine.calls(CREATE) == []  # without a placement
            assert node.host.machine.calls(f"{CREATE}WithPlacement")
        assert {each.node for each in running.witness.rejected} <= {REBOOTS}
        assert running.refused == []
        assert tangram.refusals() == {}
        for account, reasons in UNUSED.items():
            assert unused[account] == reasons.keys(), account


async def reopened(node: Node, before: int) -> None:
    """Wait until a node's agent has opened NVML anew, of the driver's new pod."""
    await until(lambda: len(node.host.machine.calls(INIT)) > before, within=90, every=0.5)


async def alike(running: Cluster, names: Iterable[str]) -> list[str]:
    """Return those of VMs of one type that are on the node where most of them are."""
    pods = await running.launchers()
    nodes = {name: pods[name]["spec"].get("nodeName", "") for name in names}
    ((most, _),) = Counter(filter(None, nodes.values())).most_common(1)
    return [name for name, node in nodes.items() if node == most]


@each_version
async def test_a_vm_that_comes_back_is_meant_for_what_it_kept_whatever_the_kubelet_gives_it(
    tmp_path: Path, version: Version
) -> None:
    """Two VMs are off; the kubelet gives the one that comes back the device of the other one."""
    async with installed(
        artifacts(tmp_path), version, nodes=1, gpus=1, scan_seconds=SCAN_SECONDS
    ) as (running, _):
        names = ["vm-1", "vm-2"]
        for name in names:
            await running.create(name, 19)
        await running.all_run(*names)
        await running.noted(*names)
        await running.quiet()
        places = {name: await running.place(name) for name in names}
        own = await running.devices("vm-2")
        for name in names:
            await running.run(name, "Halted")
        await running.gone(*names)
        await running.quiet()
        running.nodes["node-1"].kubelet.shuns = lambda pod: (
            own if pod.name.startswith("virt-launcher-vm-2-") else ()
        )

        await running.run("vm-2", "Always")
        await running.all_run("vm-2")
        await running.quiet()

        assert decided((await running.launchers())["vm-2"]) == Counter([places["vm-2"]])
        assert await running.place("vm-2") == places["vm-1"]
        assert running.witness.rewritten == ["vm-2"]
        assert await violations(running) == []

        await running.run("vm-1", "Always")
        await running.all_run("vm-1")
        await running.quiet()

        assert await running.place("vm-1") == places["vm-2"]
        assert await violations(running) == []
        assert running.witness.rejected == []
        assert running.refused == []


@each_version
async def test_a_node_reboots_and_every_vm_has_a_vgpu_again(
    tmp_path: Path, version: Version
) -> None:
    async with installed(
        artifacts(tmp_path), version, nodes=2, gpus=1, scan_seconds=SCAN_SECONDS
    ) as (running, _):
        names = ["vm-1", "vm-2", "vm-3", "vm-4"]
        for name, profile in zip(names, (19, 19, 14, 9), strict=True):
            await running.create(name, profile)
        await running.all_run(*names)
        await running.noted(*names)
        await running.run("vm-2", "Halted")
        await running.gone("vm-2")
        await running.quiet()

        await running.nodes["node-1"].reboot()
        await running.nodes["node-2"].reboot()
        await running.all_run("vm-1", "vm-3", "vm-4")
        await running.run("vm-2", "Always")
        await running.all_run(*names)
        await running.quiet()

        assert await violations(running) == []
        assert {it.reason for it in running.witness.rejected} <= {"NodeRebooted"}
        assert running.refused == []


@each_version
async def test_agents_controllers_and_the_extender_are_killed_while_vms_come_and_go(
    tmp_path: Path, version: Version
) -> None:
    """Controllers at a step of their own, the moment they come to it; the others at any moment."""
    chance = random.Random(9)
    async with installed(
        artifacts(tmp_path), version, nodes=2, gpus=1, scan_seconds=SCAN_SECONDS
    ) as (running, tangram):
        deadly = chance.choices(range(4, 40), k=60)
        count = 0

        def step(name: str) -> None:
            nonlocal count
            count += 1
            if deadly and count >= deadly[-1]:
                deadly.pop()
                count = 0
                raise Killed(name)

        for node in running.nodes.values():
            node.step = step
        names = [f"vm-{n}" for n in range(8)]
        for n, name in enumerate(names):
            await running.create(name, 19)
            if n % 2:
                node = running.nodes[f"node-{1 + n // 2 % 2}"]
                await node.agent.stop(signal.SIGKILL)
                await node.agent.start()
            if n == len(names) // 2:
                await tangram.replace_extender()
        await running.all_run(*names)
        for name in names[::2]:
            await running.delete(name)
        for node in running.nodes.values():
            await node.agent.stop(signal.SIGKILL)
            await node.agent.start()
        await tangram.replace_extender()
        await running.gone(*names[::2])
        deadly.clear()
        await running.all_run(*names[1::2])

        crashes = sum(node.crashes for node in running.nodes.values())
        assert crashes >= 3
        assert await violations(running) == []
        # With a controller its device plugins go, and a kubelet has no devices until there is
        # another: who comes just then is sent away.
        assert {it.reason for it in running.witness.rejected} <= {"UnexpectedAdmissionError"}
        assert len(running.witness.rejected) <= crashes
        assert running.unexcused == []
        for name in names[1::2]:
            await running.delete(name)
        await running.empty()
