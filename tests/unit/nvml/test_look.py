from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.driver import DriverError, DriverNotLoaded
from nodeagent.nvml import gpus, profiles
from nodeagent.nvml.library import Location
from nodeagent.nvml.session import Nvml
from tests.unit.nvml.node import Node

NodeOf = Callable[..., Node]


async def test_a_gpu_instance_without_compute_instance_is_found(node_of: NodeOf) -> None:
    node = node_of()
    gi_id = node.machine.create_gpu_instance(0, 9, Placement(4, 4))

    (found,) = (await node.gpu()).instances

    assert (found.gi_id, found.profile_id, found.placement) == (gi_id, 9, Placement(4, 4))


async def test_a_full_gpu_is_listed_with_all_its_gpu_instances(node_of: NodeOf) -> None:
    node = node_of()
    for start in range(6):
        node.machine.create_gpu_instance(0, 19, Placement(start, 1))
    node.machine.create_gpu_instance(0, 20, Placement(6, 1))

    instances = (await node.gpu()).instances

    assert [each.gi_id for each in instances] == [1, 2, 3, 4, 5, 6, 7]
    assert [each.profile_id for each in instances] == [19] * 6 + [20]


@pytest.mark.parametrize("model", MODELS)
async def test_vgpu_types_are_told_with_their_profile_and_seats(
    node_of: NodeOf, model: str
) -> None:
    node = node_of(model, mode=Mode.VGPU_VFIO)

    assert (await node.gpu()).vgpu_types == MODELS[model].vgpu_types


async def test_a_driver_that_is_no_vgpu_hosts_tells_no_types(node_of: NodeOf) -> None:
    assert (await node_of().gpu()).vgpu_types == ()


async def test_the_numa_node_is_the_kernels(node_of: NodeOf, tmp_path: Path) -> None:
    node = node_of()
    device = tmp_path / "sys/bus/pci/devices/0000:10:00.0"
    device.mkdir(parents=True)
    (device / "numa_node").write_text("3\n")

    gpu = await node.gpu()

    assert (gpu.pci_address, gpu.numa_node) == ("0000:10:00.0", 3)


async def test_a_gpu_that_cannot_do_mig_is_told_of_and_takes_nothing(node_of: NodeOf) -> None:
    gpu = await node_of(mig=None).gpu()

    assert not gpu.mig_enabled
    assert gpu.unhealthy == "the GPU cannot be divided: it has no MIG"
    assert (gpu.geometry.profiles, gpu.instances) == ((), ())
    assert not list(gpu.geometry.malformations())


@pytest.mark.parametrize("model", ["A100-40GB", "H100-80GB", "RTX-PRO-6000-Blackwell-96GB"])
async def test_with_mig_mode_off_the_profiles_are_the_same(node_of: NodeOf, model: str) -> None:
    gpu = await node_of(model, mig=False).gpu()

    assert (gpu.mig_enabled, gpu.unhealthy) == (False, "")
    assert gpu.geometry == MODELS[model].geometry


async def test_once_mig_mode_is_on_the_names_are_the_drivers(node_of: NodeOf) -> None:
    node = node_of("H200-141GB", mig=False)
    assert not (await node.gpu()).mig_enabled

    node.set_mig_mode(0, True)

    gpu = await node.gpu()
    assert gpu.mig_enabled
    assert gpu.geometry == MODELS["H200-141GB"].geometry


@pytest.mark.parametrize(
    ("befall", "reason"),
    [
        (
            lambda machine: machine.remapped_rows(0, 0, 1, pending=True, failed=False),
            "a memory row is to be remapped: the GPU needs a reset",
        ),
        (
            lambda machine: machine.remapped_rows(0, 0, 1, pending=True, failed=True),
            "a memory row could not be remapped: the GPU needs service",
        ),
        (lambda machine: machine.recovery_action(0, 1), "the driver asks to reset the GPU"),
        (
            lambda machine: machine.recovery_action(0, 4),
            "the driver asks to drain and reset the GPU",
        ),
        (
            lambda machine: machine.recovery_action(0, 9),
            "the driver asks to take recovery action 9",
        ),
        (
            lambda machine: machine.always("nvmlDeviceGetMigMode", 16, gpu=0),
            "nvmlDeviceGetMigMode: the GPU must be reset (NVML error 16)",
        ),
        (
            lambda machine: machine.lose(0),
            "nvmlDeviceGetHandleByIndex: GPU is lost (NVML error 15)",
        ),
    ],
)
async def test_an_unhealthy_gpu_says_why_beside_the_others(
    node_of: NodeOf, befall: Callable[[Any], None], reason: str
) -> None:
    node = node_of(gpus=2)
    assert [gpu.unhealthy for gpu in (await node.driver.discover()).gpus] == ["", ""]

    befall(node.machine)

    assert [gpu.unhealthy for gpu in (await node.driver.discover()).gpus] == [reason, ""]


async def test_mig_mode_that_changes_with_the_next_reset_is_told(node_of: NodeOf) -> None:
    node = node_of("A100-40GB")
    await node.driver.discover()
    pynvml.nvmlDeviceSetMigMode(pynvml.nvmlDeviceGetHandleByIndex(0), 0)

    gpu = await node.gpu()

    assert gpu.mig_enabled
    assert gpu.unhealthy == "MIG mode will be off after the next GPU reset"


@pytest.mark.parametrize("code", [3, 4, 13])
async def test_what_this_process_cannot_see_is_not_seen_in_use(node_of: NodeOf, code: int) -> None:
    node = node_of(mode=Mode.VGPU_VFIO)
    node.machine.create_gpu_instance(0, 19, Placement(0, 1))
    node.machine.always("nvmlDeviceGetActiveVgpus", code)

    (found,) = (await node.gpu()).instances

    assert not found.in_use


async def test_a_count_that_the_placements_forbid_is_not_believed(node_of: NodeOf) -> None:
    class Boasting(Nvml):
        def ask(self, function: Callable[..., Any], *arguments: object, **options: Any) -> Any:
            answer = super().ask(function, *arguments, **options)
            if function is pynvml.nvmlDeviceGetGpuInstanceProfileInfo:
                answer.instanceCount = 100
            return answer

    node = node_of("A30-24GB")
    await node.driver.discover()
    nvml = Boasting(Location(node.library))

    found = profiles.geometry(nvml, gpus.at(nvml, 0))

    assert [profile.max_instances for profile in found.profiles] == [4, 4, 2, 2, 1]


async def test_without_a_kernel_driver_nothing_can_be_said_until_it_is_there(
    node_of: NodeOf,
) -> None:
    node = node_of()
    node.machine.fail("nvmlInitWithFlags", 9)

    with pytest.raises(DriverNotLoaded):
        await node.driver.discover()
    assert (await node.gpu()).uuid == node.machine.uuids[0]


@pytest.mark.parametrize("mode", [Mode.CONTAINER, Mode.VGPU_VFIO])
async def test_looking_changes_nothing(node_of: NodeOf, mode: Mode) -> None:
    node = node_of(gpus=2, mode=mode)
    node.machine.create_gpu_instance(0, 19, Placement(0, 1))

    await node.driver.discover()

    called = {call.symbol for call in node.machine.calls()}
    assert "nvmlDeviceGetGpuInstances" in called
    assert not [name for name in called if any(v in name for v in ("Set", "Create", "Destroy"))]


async def test_every_error_of_every_call_is_one_of_ours_or_a_gpus_ailment_and_passes(
    node_of: NodeOf,
) -> None:
    node = node_of("A30-24GB", mode=Mode.VGPU_VFIO)
    gi_id = node.machine.create_gpu_instance(0, 14, Placement(0, 1))
    node.machine.start_vgpu(0, gi_id, "NVIDIA A30-1-6C")
    before = await node.gpu()
    symbols = {call.symbol for call in node.machine.calls()}
    node.machine.logging(False)
    for symbol in sorted(symbols):
        for code in (19, 23, 3, 2, 4, 6, 7, 15, 16, 10, 999, 13, 9, 12, 18, 17, 27):
            node.machine.always(symbol, code)
            with contextlib.suppress(DriverError):
                assert (await node.gpu()).uuid == node.machine.uuids[0]
            node.machine.clear_faults()

            assert await node.gpu() == before
