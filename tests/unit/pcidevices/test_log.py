"""What agents do by themselves is noted, in order, and what they must not do is found."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.protocol import Kind, PatchType, Refused
from nodeagent.vgpu.sysfs import MDEV_BUS
from tests.fakes.nvml.machine import IN_USE
from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices.drivers import DriverCalls
from tests.fakes.pcidevices.log import AGENT, Entry, Log, traps
from tests.fakes.pcidevices.names import MIG_CONFIGURATIONS, OUT_OF_SYNC, VGPUS, Version
from tests.fakes.sysfs.tree import FakeSysfs
from tests.unit.pcidevices.node import FIRST, FIRST_ADDRESS, GPU, SMALL, Node


def by_agents(node: Node) -> list[tuple[str, str, int]]:
    entries = node.cluster.log.entries
    return [(each.action, each.detail, each.code) for each in entries if each.actor == AGENT]


async def test_calls_of_nvml_that_change_something_are_among_the_deeds(node: Node) -> None:
    with node.machine.in_this_process() as pynvml:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        place = pynvml.c_nvmlGpuInstancePlacement_t(3, 1)
        made = pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, 19, pynvml.byref(place))
        node.cluster.log.add("somebody", "looks", "at it")
        node.machine.open_client(0, pynvml.nvmlGpuInstanceGetInfo(made).id, "vm")
        with pytest.raises(pynvml.NVMLError):
            pynvml.nvmlGpuInstanceDestroy(made)

    assert by_agents(node) == [
        (deeds.NVML_CREATE, "profile=19 start=3 size=1", 0),
        (deeds.NVML_DESTROY, "gi=1", IN_USE),
    ]
    actions = [each.action for each in node.cluster.log.entries]
    assert actions.index(deeds.NVML_CREATE) < actions.index("looks")
    assert actions.index("looks") < actions.index(deeds.NVML_DESTROY)
    (trap,) = traps(node.cluster.log.entries)
    assert "would have destroyed" in trap
    assert node.cluster.log.entries[-1].subject == "node-1 0000:10:00.0"


async def test_a_file_of_the_kernels_that_anybody_but_the_controller_writes_is_a_trap(
    node: Node, tmp_path: Path, version: Version
) -> None:
    if version is not Version.V1_7:
        pytest.skip("mediated devices are of 1.7")
    node.cut()
    sysfs = FakeSysfs(tmp_path, node.host.kernel, Mode.VGPU_MDEV)
    number = node.host.kernel.types(0)[SMALL]

    file = MDEV_BUS / FIRST_ADDRESS / f"mdev_supported_types/nvidia-{number}/create"
    sysfs.write(file, str(uuid.uuid4()))

    (trap,) = traps(node.cluster.log.entries)
    assert "wrote a file of the kernel's" in trap


WRITES = [
    ('patch {"metadata":{"uid":"u"},"spec":{"enabled":false}}', "wrote over whatever was there"),
    (
        'patch {"metadata":{"resourceVersion":"1"},"spec":{"profileSpec":[{"requested":1}]}}',
        "asked for GPU instances",
    ),
]


@pytest.mark.parametrize(("detail", "trap"), WRITES)
def test_writes_that_no_agent_may_make_are_traps(detail: str, trap: str) -> None:
    entry = Entry(0.0, AGENT, deeds.WRITE, "migconfigurations node-1-gpu", detail)

    (found,) = traps([entry])
    assert trap in found
    assert not list(traps([Entry(0.0, "admin", deeds.WRITE, entry.subject, detail)]))


async def test_an_agent_that_disables_what_has_no_uuid_is_in_a_trap_whenever_harvester_comes(
    node: Node,
) -> None:
    await node.made()
    assert await traps_once_disabled(node, VGPUS, FIRST, AGENT) == []  # it has one
    await node.work()
    await node.enable()
    assert await traps_once_disabled(node, VGPUS, FIRST, "admin") == []
    await node.enable()
    (trap,) = await traps_once_disabled(node, VGPUS, FIRST, AGENT)
    assert "while it had no uuid" in trap


async def test_an_agent_that_disables_a_layout_whose_counts_then_stay_frozen_is_in_a_trap(
    node: Node,
) -> None:
    layout = MIG_CONFIGURATIONS, GPU
    made = node.cut()
    await node.pass_(300)
    assert (await node.status(*layout))["status"] == OUT_OF_SYNC
    assert await traps_once_disabled(node, *layout, AGENT) == []  # there is something to delete
    await node.change(*layout, enabled=True)
    node.machine.destroy_gpu_instance(0, made)
    assert await traps_once_disabled(node, *layout, "admin") == []
    await node.change(*layout, enabled=True)
    (trap,) = await traps_once_disabled(node, *layout, AGENT)
    assert "while its GPU was empty" in trap

    await node.work()
    with pytest.raises(Refused):  # for good
        await node.change(*layout, profileSpec=[{"name": "MIG 1g.5gb", "id": 19, "requested": 1}])


async def traps_once_disabled(node: Node, kind: Kind, name: str, actor: str) -> list[str]:
    """Have *actor* disable an object as it is now, and return what steps into traps there were."""
    version = (await node.get(kind, name))["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "spec": {"enabled": False}}
    await node.cluster.client(actor).patch(kind, name, patch, patch_type=PatchType.MERGE)
    return list(traps(node.cluster.log.entries))


def test_who_has_a_gpu_open_for_whom_functions_are_to_be_enabled_has_stepped_into_a_trap() -> None:
    asked = 'patch {"metadata":{"resourceVersion":"1"},"spec":{"enabled":true}}'
    subject = "sriovgpudevices node-1-000010000"
    blocked = Entry(1.0, "node-1", deeds.BLOCKED, "node-1 0000:10:00.0")

    assert list(traps([Entry(0.0, AGENT, deeds.WRITE, subject, asked), blocked]))
    assert not list(traps([Entry(0.0, "admin", deeds.WRITE, subject, asked), blocked]))


def test_an_agent_that_enables_a_gpu_which_somebody_has_disabled_has_stepped_into_a_trap() -> None:
    def asked(at: float, actor: str, verb: str, enabled: str) -> Entry:
        detail = f'{verb} {{"metadata":{{"resourceVersion":"1"}},"spec":{{"enabled":{enabled}}}}}'
        return Entry(at, actor, deeds.WRITE, "sriovgpudevices node-1-000010000", detail)

    made, off = asked(0.0, "node-1", "create", "false"), asked(1.0, "admin", "patch", "false")
    on = asked(3.0, AGENT, "patch", "true")

    assert list(traps([made, on])) == []
    (trap,) = traps([made, off, on])
    assert "somebody has disabled" in trap
    assert list(traps([made, off, asked(2.0, "admin", "patch", "true"), on])) == []
    assert list(traps([made, off, asked(2.0, "admin", "patch", "true")])) == []


def test_a_line_that_is_being_written_is_read_when_it_is_whole(node: Node) -> None:
    path = node.machine.state.with_name(node.machine.state.name + ".log")
    calls, log = DriverCalls(node.machine, "n"), Log(lambda: 1.0)
    log.include(calls)
    with path.open("a") as file:
        file.write("> 900 1 nvmlDeviceSetMigMode gpu=0 mode=1\n< 900")
    assert not log.of(deeds.SET_MIG_MODE)
    with path.open("a") as file:
        file.write(" 0\n")

    (entry,) = log.of(deeds.SET_MIG_MODE)
    assert (entry.at, entry.code, entry.detail) == (1.0, 0, "mode=1")
