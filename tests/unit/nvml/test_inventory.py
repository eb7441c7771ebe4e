from __future__ import annotations

from collections.abc import Callable

import msgspec
from typer.testing import CliRunner, Result

from nodeagent.__main__ import app
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Inventory, Mode
from tests.unit.nvml.node import Node

NodeOf = Callable[..., Node]


def printed(node: Node, *options: str) -> Result:
    where = ["--library", str(node.library), "--host-root", str(node.root)]
    result = CliRunner().invoke(app, ["inventory", *where, *options])
    assert result.exit_code == 0, result.output
    return result


# The command has an event loop of its own: these tests must not be inside one.
def test_the_table_shows_gpus_gpu_instances_profiles_and_types(node_of: NodeOf) -> None:
    node = node_of("A30-24GB", gpus=2, mode=Mode.VGPU_VFIO)
    used = node.machine.create_gpu_instance(0, 14, Placement(0, 1))
    handed_out = node.machine.create_gpu_instance(0, 5, Placement(2, 2))
    node.machine.create_compute_instance(0, handed_out, 1)
    node.machine.start_vgpu(0, used, "NVIDIA A30-1-6C")
    node.machine.remapped_rows(1, 0, 1, pending=False, failed=True)
    uuid = node.machine.mig_uuid(0, handed_out, 0)

    assert printed(node).stdout.splitlines() == [
        "driver 580.95.05, boot boot-1, 2 GPUs",
        "",
        f"0000:10:00.0  NVIDIA A30  {node.machine.uuids[0]}",
        "  NUMA node -, MIG mode on, 1 of 4 memory slices free",
        "  GPU instance 1  1g.6gb  {0}:1  in use",
        f"  GPU instance 2  2g.12gb  {{2}}:2  not seen in use  {uuid}",
        "",
        f"0000:11:00.0  NVIDIA A30  {node.machine.uuids[1]}",
        "  NUMA node -, MIG mode on, UNHEALTHY: a memory row could not be remapped: "
        "the GPU needs service",
        "",
        "profiles of NVIDIA A30",
        "  profile     id  compute slices  at most  MiB    placements",
        "  1g.6gb      14  1               4        5952   {0,1,2,3}:1",
        "  1g.6gb+me   21  1               1        5952   {0,1,2,3}:1",
        "  2g.12gb     5   2               2        11968  {0,2}:2",
        "  2g.12gb+me  6   2               1        11968  {0,2}:2",
        "  4g.24gb     0   4               1        24000  {0}:4",
        "",
        "MIG-backed vGPU types of NVIDIA A30",
        "  type                profile id  per GPU instance",
        "  NVIDIA A30-4-24C    0           1",
        "  NVIDIA A30-2-12C    5           1",
        "  NVIDIA A30-2-12CME  6           1",
        "  NVIDIA A30-1-6C     14          1",
        "  NVIDIA A30-1-6CME   21          1",
    ]


def test_the_json_is_the_status_of_a_gpu_node(node_of: NodeOf) -> None:
    node = node_of(mode=Mode.VGPU_VFIO)
    node.machine.create_gpu_instance(0, 9, Placement(4, 4))

    status = msgspec.json.decode(printed(node, "--output", "json").stdout, type=Inventory)

    (gpu,) = status.gpus
    assert gpu.uuid == node.machine.uuids[0]
    assert [each.placement for each in gpu.instances] == [Placement(4, 4)]
    assert status.geometries[gpu.geometry].by_id[9].name == "3g.40gb"
    assert status.summary.free_slices == 4
    assert status.driver == "580.95.05"
    assert "simulated" not in printed(node, "--output", "json").stdout


def test_a_node_without_mig_is_shown_plainly(node_of: NodeOf) -> None:
    node = node_of(mig=None)

    assert "the GPU cannot be divided: it has no MIG" in printed(node).stdout
    assert '"unhealthy": "the GPU cannot be divided' in printed(node, "--output", "json").stdout


def test_the_inventory_command_only_reads(node_of: NodeOf) -> None:
    node = node_of(gpus=2)
    node.machine.create_gpu_instance(1, 9, Placement(0, 4))

    printed(node)

    called = [call.symbol for call in node.machine.calls()]
    assert (called[0], called[-1]) == ("nvmlInitWithFlags", "nvmlShutdown")
    assert all(
        name.startswith(("nvmlSystemGet", "nvmlDeviceGet", "nvmlGpuInstanceGet"))
        for name in called[1:-1]
    )


def test_a_driver_that_is_not_loaded_is_said_in_one_line(node_of: NodeOf) -> None:
    node = node_of()
    node.machine.fail("nvmlInitWithFlags", 9)

    result = CliRunner().invoke(app, ["inventory", "--library", str(node.library)])

    assert result.exit_code == 1
    assert result.stderr == (
        "tangram-agent: the NVIDIA driver cannot be asked: "
        "nvmlInitWithFlags: the NVIDIA driver is not loaded (NVML error 9)\n"
    )
