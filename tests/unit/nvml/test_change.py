from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from nodeagent import driver
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.driver import (
    CREATE,
    DESTROY,
    DriverBusy,
    DriverError,
    DriverTimeout,
    GpuLost,
    InstanceInUse,
    MigDisabled,
    NoSuchInstance,
    PlacementUnavailable,
)
from tests.fakes.nvml.machine import Kind
from tests.unit.nvml.node import Node
from tests.waiting import until

NodeOf = Callable[..., Node]

CREATE_COMPUTE = "nvmlGpuInstanceCreateComputeInstance"
FIRST = Placement(0, 1)


@pytest.mark.parametrize("model", MODELS)
async def test_for_containers_a_gpu_instance_gets_one_compute_instance_of_its_size(
    node_of: NodeOf, model: str
) -> None:
    node = node_of(model)
    gpu = await node.gpu()
    for profile in gpu.geometry.profiles:
        gi_id = await node.driver.create(gpu.uuid, profile.id, profile.placements[0])

        (made,) = node.machine.gpu_instances(0)
        (inside,) = made.compute_instances
        assert inside.placement == Placement(0, profile.compute_slices)
        await node.driver.destroy(gpu.uuid, gi_id)
        assert node.machine.gpu_instances(0) == []


async def test_of_two_profiles_with_all_slices_the_one_with_more_multiprocessors_is_taken(
    node_of: NodeOf,
) -> None:
    node = node_of("H100-80GB")
    gpu = await node.gpu()

    await node.driver.create(gpu.uuid, 15, Placement(2, 2))

    (made,) = node.machine.gpu_instances(0)
    assert [each.profile for each in made.compute_instances] == [7]


async def test_for_vgpus_no_compute_instance_is_made(node_of: NodeOf) -> None:
    node = node_of(mode=Mode.VGPU_VFIO)
    gpu = await node.gpu()

    await node.driver.create(gpu.uuid, 19, FIRST)

    (made,) = node.machine.gpu_instances(0)
    assert made.compute_instances == ()


@pytest.mark.parametrize("code", [2, 3, 4, 10, 15, 19, 23, 999])
async def test_without_its_compute_instance_a_gpu_instance_does_not_stay(
    node_of: NodeOf, code: int
) -> None:
    node = node_of()
    gpu = await node.gpu()
    node.machine.fail(CREATE_COMPUTE, code)

    with pytest.raises(DriverError, match=CREATE_COMPUTE) as caught:
        await node.driver.create(gpu.uuid, 19, FIRST)

    assert caught.value.code == code
    assert node.machine.gpu_instances(0) == []


async def test_a_compute_instance_made_despite_an_error_does_not_keep_the_gpu_instance(
    node_of: NodeOf,
) -> None:
    node = node_of()
    gpu = await node.gpu()
    node.machine.fail(CREATE_COMPUTE, 23, kind=Kind.DONE_BUT_ERROR)

    with pytest.raises(DriverError) as caught:
        await node.driver.create(gpu.uuid, 19, FIRST)

    # As a PlacementUnavailable it would say that there cannot be a GPU instance.
    assert (type(caught.value), caught.value.code) == (DriverError, 23)
    assert node.machine.gpu_instances(0) == []


async def test_a_gpu_instance_that_could_not_be_undone_is_never_said_not_to_be_there(
    node_of: NodeOf,
) -> None:
    node = node_of()
    gpu = await node.gpu()
    node.machine.fail(CREATE_COMPUTE, 23)
    node.machine.fail(DESTROY, 19)

    with pytest.raises(DriverError, match="could not be destroyed") as caught:
        await node.driver.create(gpu.uuid, 19, FIRST)

    assert type(caught.value) is DriverError
    assert CREATE_COMPUTE in str(caught.value)
    assert DESTROY in str(caught.value)
    assert len((await node.gpu()).instances) == 1


async def test_a_creation_that_was_none_is_noticed(node_of: NodeOf) -> None:
    node = node_of()
    gpu = await node.gpu()
    node.machine.pretend(CREATE)

    with pytest.raises(DriverError):
        await node.driver.create(gpu.uuid, 19, FIRST)

    assert (await node.gpu()).instances == ()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (2, driver.InvalidPlacement),
        (3, MigDisabled),
        (4, driver.NoPermission),
        (10, DriverTimeout),
        (15, GpuLost),
        (16, driver.ResetRequired),
        (19, InstanceInUse),
        (23, PlacementUnavailable),
        (999, DriverError),
    ],
)
async def test_a_refused_creation_tells_why(
    node_of: NodeOf, code: int, kind: type[DriverError]
) -> None:
    node = node_of()
    gpu = await node.gpu()
    node.machine.fail(CREATE, code)

    with pytest.raises(DriverError) as caught:
        await node.driver.create(gpu.uuid, 19, FIRST)

    assert type(caught.value) is kind
    assert (caught.value.call, caught.value.code) == (CREATE, code)


async def test_what_has_the_id_of_another_now_is_left_alone(node_of: NodeOf) -> None:
    node = node_of()
    gpu = await node.gpu()
    gi_id = await node.driver.create(gpu.uuid, 19, FIRST)
    node.machine.destroy_compute_instance(0, gi_id, 0)
    node.machine.destroy_gpu_instance(0, gi_id)
    assert node.machine.create_gpu_instance(0, 19, Placement(1, 1)) == gi_id

    with pytest.raises(NoSuchInstance, match="another one has its id now"):
        await node.driver.destroy(gpu.uuid, gi_id)

    assert len(node.machine.gpu_instances(0)) == 1


async def test_a_gpu_instance_in_use_keeps_its_compute_instance(node_of: NodeOf) -> None:
    node = node_of()
    gpu = await node.gpu()
    gi_id = await node.driver.create(gpu.uuid, 19, FIRST)
    node.machine.open_client(0, gi_id, "a process that NVML does not list")

    with pytest.raises(InstanceInUse):
        await node.driver.destroy(gpu.uuid, gi_id)

    (left,) = node.machine.gpu_instances(0)
    assert len(left.compute_instances) == 1


async def test_a_process_keeps_its_gpu_instance_without_anything_being_tried(
    node_of: NodeOf,
) -> None:
    node = node_of()
    gpu = await node.gpu()
    gi_id = await node.driver.create(gpu.uuid, 19, FIRST)
    await node.driver.create(gpu.uuid, 19, Placement(1, 1))
    node.machine.open_client(0, gi_id, "training", listed=True)

    with pytest.raises(InstanceInUse):
        await node.driver.destroy(gpu.uuid, gi_id)

    assert node.machine.calls("nvmlComputeInstanceDestroy") == []
    assert [each.in_use for each in (await node.gpu()).instances] == [True, False]


async def test_a_vgpu_keeps_its_gpu_instance_without_anything_being_tried(node_of: NodeOf) -> None:
    node = node_of(mode=Mode.VGPU_VFIO)
    gpu = await node.gpu()
    gi_id = await node.driver.create(gpu.uuid, 19, FIRST)
    node.machine.start_vgpu(0, gi_id, "NVIDIA H100XM-1-10C")

    with pytest.raises(InstanceInUse):
        await node.driver.destroy(gpu.uuid, gi_id)

    assert node.machine.calls(DESTROY) == []


async def test_a_destruction_cut_short_after_the_compute_instance_is_finished_later(
    node_of: NodeOf,
) -> None:
    node = node_of()
    gpu = await node.gpu()
    gi_id = await node.driver.create(gpu.uuid, 19, FIRST)
    node.machine.fail(DESTROY, 19)

    with pytest.raises(InstanceInUse):
        await node.driver.destroy(gpu.uuid, gi_id)
    await node.driver.destroy(gpu.uuid, gi_id)

    assert node.machine.gpu_instances(0) == []


async def test_while_a_creation_hangs_nothing_else_is_begun_and_in_the_end_it_answers(
    node_of: NodeOf,
) -> None:
    node = node_of(gpus=2, within=0.3)
    first, second = (await node.driver.discover()).gpus
    node.machine.hang(CREATE, 60.0)
    late = asyncio.create_task(node.driver.create(first.uuid, 19, FIRST))
    await until(lambda: node.machine.calls(CREATE))

    with pytest.raises(DriverBusy, match=f"{CREATE} has not returned$"):
        await node.driver.discover()
    with pytest.raises(DriverBusy, match=f"{CREATE} has not returned$"):
        await node.driver.create(second.uuid, 19, FIRST)
    assert len(node.machine.calls(CREATE)) == 1

    node.machine.clear_faults()
    gi_id = await late
    assert [each.gi_id for each in (await node.gpu()).instances] == [gi_id]


async def test_a_look_that_hangs_is_reported_with_the_call_it_hangs_in(node_of: NodeOf) -> None:
    node = node_of(within=0.3)
    await node.driver.discover()
    node.machine.hang("nvmlDeviceGetMigMode", 60.0)

    with pytest.raises(DriverTimeout, match=r"in nvmlDeviceGetMigMode$"):
        await node.driver.discover()

    node.machine.clear_faults()

    async def answers() -> bool:
        try:
            return bool((await node.driver.discover()).gpus)
        except DriverBusy:
            return False

    await until(answers)
