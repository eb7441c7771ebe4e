from __future__ import annotations

from collections.abc import Callable

import pynvml
import pytest

from nodeagent.api.catalog import MODELS
from nodeagent.driver import DriverError, GpuLost, InstanceInUse, NoPermission, NotSupported
from nodeagent.nvml.mode import ENABLE_MIG
from tests.fakes.nvml.machine import Kind, Privilege
from tests.unit.nvml.node import Node

NodeOf = Callable[..., Node]

PENDING = "MIG mode will be on after the next GPU reset"


async def test_mig_mode_comes_on_at_once_from_hopper_on(node_of: NodeOf) -> None:
    node = node_of("H100-80GB", gpus=2, mig=False)
    first, _ = (await node.driver.discover()).gpus

    assert await node.driver.enable_mig(first.uuid) == ""

    first, second = (await node.driver.discover()).gpus
    assert (first.mig_enabled, second.mig_enabled) == (True, False)
    assert first.geometry == MODELS["H100-80GB"].geometry
    assert (first.unhealthy, second.unhealthy) == ("", "")


async def test_before_hopper_it_waits_for_a_reset_and_that_is_said(node_of: NodeOf) -> None:
    node = node_of("A100-40GB", mig=False)
    uuid = (await node.gpu()).uuid

    assert await node.driver.enable_mig(uuid) == PENDING
    gpu = await node.gpu()
    assert (gpu.mig_enabled, gpu.unhealthy) == (False, PENDING)
    assert await node.driver.enable_mig(uuid) == PENDING
    assert len(node.machine.calls(ENABLE_MIG)) == 1

    node.machine.reset(0)
    assert await node.driver.enable_mig(uuid) == ""
    assert (await node.gpu()).unhealthy == ""


async def test_where_it_is_on_nothing_is_changed(node_of: NodeOf) -> None:
    node = node_of()
    gpu = await node.gpu()
    await node.driver.create(gpu.uuid, 19, gpu.geometry.by_id[19].placements[0])

    assert await node.driver.enable_mig(gpu.uuid) == ""
    assert node.machine.calls(ENABLE_MIG) == []


async def test_mig_mode_that_was_to_go_off_stays_on(node_of: NodeOf) -> None:
    node = node_of("A100-40GB")
    uuid = (await node.gpu()).uuid
    pynvml.nvmlDeviceSetMigMode(pynvml.nvmlDeviceGetHandleByIndex(0), 0)

    assert await node.driver.enable_mig(uuid) == ""
    assert node.machine.mig_mode(0) == (True, True)


async def test_a_gpu_with_a_process_is_left_alone(node_of: NodeOf) -> None:
    node = node_of(mig=False)
    uuid = (await node.gpu()).uuid
    node.machine.open_client(0, 0, "training", listed=True)

    with pytest.raises(InstanceInUse, match="the GPU must be idle"):
        await node.driver.enable_mig(uuid)

    assert node.machine.calls(ENABLE_MIG) == []
    assert node.machine.mig_mode(0) == (False, False)


async def test_a_client_that_only_the_driver_sees_leaves_the_mode_pending(node_of: NodeOf) -> None:
    node = node_of(mig=False)
    uuid = (await node.gpu()).uuid
    node.machine.open_client(0, 0, "DCGM")

    with pytest.raises(InstanceInUse, match=PENDING):
        await node.driver.enable_mig(uuid)

    assert (await node.gpu()).unhealthy == PENDING


async def test_a_gpu_without_mig_says_so(node_of: NodeOf) -> None:
    node = node_of(mig=None)
    uuid = (await node.gpu()).uuid

    with pytest.raises(NotSupported, match="the GPU cannot be divided: it has no MIG"):
        await node.driver.enable_mig(uuid)


async def test_without_permission_it_is_refused(node_of: NodeOf) -> None:
    node = node_of(mig=False)
    uuid = (await node.gpu()).uuid
    node.machine.privilege(Privilege.MONITOR)

    with pytest.raises(NoPermission):
        await node.driver.enable_mig(uuid)


async def test_an_unknown_gpu_is_a_lost_one(node_of: NodeOf) -> None:
    node = node_of(mig=False)

    with pytest.raises(GpuLost):
        await node.driver.enable_mig("GPU-nowhere")


async def test_a_success_that_was_none_is_not_believed(node_of: NodeOf) -> None:
    node = node_of(mig=False)
    uuid = (await node.gpu()).uuid
    node.machine.pretend(ENABLE_MIG)

    with pytest.raises(DriverError, match="reported success, but the mode has not changed"):
        await node.driver.enable_mig(uuid)


async def test_an_error_after_which_it_is_on_is_found_out_by_trying_again(node_of: NodeOf) -> None:
    node = node_of(mig=False)
    uuid = (await node.gpu()).uuid
    node.machine.fail(ENABLE_MIG, 999, kind=Kind.DONE_BUT_ERROR)

    with pytest.raises(DriverError, match=f"^{ENABLE_MIG}: unknown error"):
        await node.driver.enable_mig(uuid)

    assert await node.driver.enable_mig(uuid) == ""
    assert (await node.gpu()).mig_enabled
