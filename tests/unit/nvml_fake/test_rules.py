"""The rules that the fake enforces, asked through the real pynvml."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from ctypes import byref, c_uint
from types import ModuleType

import pytest

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.simulated.hardware import Hardware
from tests.fakes.nvml.machine import Machine, Privilege
from tests.unit.nvml_fake.asking import (
    Refusal,
    create,
    full_profile,
    gpu_instances,
    placements,
    profiles,
)


@pytest.mark.parametrize("name", MODELS)
def test_each_model_of_the_catalog_reports_its_geometry(
    make: Callable[..., Machine], name: str
) -> None:
    model = MODELS[name]
    with make(name).in_this_process() as nvml:
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(0)
        seen = profiles(nvml, device)

        assert nvml.nvmlDeviceGetName(device) == model.nvml_names[0]
        assert {info.id for info in seen.values()} == set(model.geometry.by_id)
        for info in seen.values():
            profile = model.geometry.by_id[info.id]
            assert info.name == f"MIG {profile.name}"
            assert info.sliceCount == profile.compute_slices
            assert info.instanceCount == profile.max_instances
            assert tuple(placements(nvml, device, info.id)) == profile.placements
            if profile.memory_mib is not None:
                assert info.memorySizeMB == profile.memory_mib


def test_the_same_node_has_the_same_gpus_as_in_simulation(
    machine: Machine, nvml: ModuleType
) -> None:
    simulated = Hardware("node", [MODELS["H100-80GB"]] * 2, Mode.CONTAINER)

    for index, gpu in enumerate(simulated.gpus):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        assert nvml.nvmlDeviceGetUUID(device) == gpu.uuid == machine.uuids[index]
        assert nvml.nvmlDeviceGetPciInfo(device).busId == f"0000{gpu.pci_address}".upper()
        assert nvml.nvmlDeviceGetMemoryAffinity(device, 1, 0)[0] == 1 << gpu.numa_node


def test_a_device_is_found_by_uuid_and_by_pci_address(machine: Machine, nvml: ModuleType) -> None:
    by_uuid = nvml.nvmlDeviceGetHandleByUUID(machine.uuids[1].encode())
    by_address = nvml.nvmlDeviceGetHandleByPciBusId(b"0000:11:00.0")

    assert nvml.nvmlDeviceGetIndex(by_uuid) == nvml.nvmlDeviceGetIndex(by_address) == 1
    with Refusal(nvml, nvml.NVML_ERROR_NOT_FOUND):
        nvml.nvmlDeviceGetHandleByUUID(b"GPU-nobody")
    with Refusal(nvml, nvml.NVML_ERROR_INVALID_ARGUMENT):
        nvml.nvmlDeviceGetHandleByIndex(2)


def test_a_gpu_instance_is_created_exactly_where_asked(nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(1)

    info = nvml.nvmlGpuInstanceGetInfo(create(nvml, device, 9, 4, 4))

    assert (info.profileId, info.placement.start, info.placement.size) == (9, 4, 4)
    assert list(gpu_instances(nvml, device)) == [info.id]
    assert gpu_instances(nvml, nvml.nvmlDeviceGetHandleByIndex(0)) == {}


@pytest.mark.parametrize(("profile_id", "start", "size"), [(9, 2, 4), (9, 0, 3), (77, 0, 1)])
def test_what_the_model_has_not_is_an_invalid_argument(
    nvml: ModuleType, profile_id: int, start: int, size: int
) -> None:
    with Refusal(nvml, nvml.NVML_ERROR_INVALID_ARGUMENT):
        create(nvml, nvml.nvmlDeviceGetHandleByIndex(0), profile_id, start, size)


def test_what_is_taken_or_used_up_is_insufficient_resources(nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    create(nvml, device, 20, 0, 1)

    with Refusal(nvml, nvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
        create(nvml, device, 9, 0, 4)  # overlaps
    with Refusal(nvml, nvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
        create(nvml, device, 20, 1, 1)  # free, but only one +me may be
    assert nvml.nvmlDeviceGetGpuInstanceRemainingCapacity(device, 20) == 0
    assert nvml.nvmlDeviceGetGpuInstanceRemainingCapacity(device, 19) == 6
    assert nvml.nvmlDeviceGetGpuInstanceRemainingCapacity(device, 9) == 1


def test_gpu_instance_ids_come_again_and_old_handles_do_not(nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    first = create(nvml, device, 19, 0, 1)
    old = nvml.nvmlGpuInstanceGetInfo(first).id
    nvml.nvmlGpuInstanceDestroy(first)

    second = create(nvml, device, 19, 3, 1)

    assert nvml.nvmlGpuInstanceGetInfo(second).id == old
    with Refusal(nvml, nvml.NVML_ERROR_INVALID_ARGUMENT):
        nvml.nvmlGpuInstanceGetInfo(first)
    with Refusal(nvml, nvml.NVML_ERROR_NOT_FOUND):
        nvml.nvmlDeviceGetGpuInstanceById(device, old + 1)


def test_a_compute_instance_and_a_client_each_keep_a_gpu_instance(
    machine: Machine, nvml: ModuleType
) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    gpu_instance = create(nvml, device, 9, 0, 4)
    compute_instance = nvml.nvmlGpuInstanceCreateComputeInstance(gpu_instance, 2)
    gi_id = nvml.nvmlGpuInstanceGetInfo(gpu_instance).id
    machine.open_client(0, gi_id, "vm")

    for destroy, handle in (
        (nvml.nvmlGpuInstanceDestroy, gpu_instance),
        (nvml.nvmlComputeInstanceDestroy, compute_instance),
    ):
        with Refusal(nvml, nvml.NVML_ERROR_IN_USE):
            destroy(handle)
    machine.close_client("vm")
    with Refusal(nvml, nvml.NVML_ERROR_IN_USE):
        nvml.nvmlGpuInstanceDestroy(gpu_instance)
    nvml.nvmlComputeInstanceDestroy(compute_instance)
    nvml.nvmlGpuInstanceDestroy(gpu_instance)
    assert machine.gpu_instances(0) == []


def test_the_whole_1g_20gb_of_an_h100_is_the_rev1_compute_instance(nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    gpu_instance = create(nvml, device, 15, 2, 2)

    full = full_profile(nvml, gpu_instance, compute_slices=1)

    assert (full.id, full.multiprocessorCount) == (7, 26)
    small = nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(gpu_instance, 0, 0)
    assert small.multiprocessorCount == 16


def test_compute_instances_share_their_gpu_instance(nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    gpu_instance = create(nvml, device, 9, 0, 4)
    assert full_profile(nvml, gpu_instance, compute_slices=3).id == 2

    made = [nvml.nvmlGpuInstanceCreateComputeInstance(gpu_instance, 0) for _ in range(3)]

    infos = [nvml.nvmlComputeInstanceGetInfo(each) for each in made]
    assert [info.id for info in infos] == [0, 1, 2]
    assert [info.placement.start for info in infos] == [0, 1, 2]
    with Refusal(nvml, nvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
        nvml.nvmlGpuInstanceCreateComputeInstance(gpu_instance, 0)
    with Refusal(nvml, nvml.NVML_ERROR_NOT_SUPPORTED):
        nvml.nvmlGpuInstanceCreateComputeInstance(gpu_instance, 4)


def test_a_mig_device_is_named_by_where_it_is_and_leaves_a_hole(nvml: ModuleType) -> None:
    devices = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(2)]
    handles, uuids = [], []
    for device in devices:
        for start in (0, 1):
            handles.append(
                nvml.nvmlGpuInstanceCreateComputeInstance(create(nvml, device, 19, start, 1), 0)
            )
            mig = nvml.nvmlComputeInstanceGetInfo(handles[-1]).device
            uuids.append(nvml.nvmlDeviceGetUUID(mig))
            found = nvml.nvmlDeviceGetHandleByUUID(uuids[-1].encode())
            assert nvml.nvmlDeviceGetGpuInstanceId(found) == start + 1
            assert nvml.nvmlDeviceGetComputeInstanceId(found) == 0
            assert bool(nvml.nvmlDeviceIsMigDeviceHandle(found))
            parent = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(found)
            assert nvml.nvmlDeviceGetUUID(parent) == nvml.nvmlDeviceGetUUID(device)

    assert len(set(uuids)) == 4
    assert all(uuid.UUID(each.removeprefix("MIG-")).version == 5 for each in uuids)
    nvml.nvmlComputeInstanceDestroy(handles[0])
    with Refusal(nvml, nvml.NVML_ERROR_NOT_FOUND):
        nvml.nvmlDeviceGetMigDeviceHandleByIndex(devices[0], 0)
    assert (
        nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(devices[0], 1))
        == (uuids[1])
    )
    assert nvml.nvmlDeviceGetMaxMigDeviceCount(devices[0]) == 7


def test_with_mig_off_only_the_first_form_of_profile_info_answers(
    make: Callable[..., Machine],
) -> None:
    with make("H100-80GB", mig=False).in_this_process() as nvml:
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(0)

        assert nvml.nvmlDeviceGetMigMode(device) == [0, 0]
        assert profiles(nvml, device) == {}
        assert len(profiles(nvml, device, version=1)) == 7
        assert len(placements(nvml, device, 9)) == 2
        with Refusal(nvml, nvml.NVML_ERROR_NOT_SUPPORTED):
            create(nvml, device, 9, 0, 4)


def test_a_hopper_changes_its_mode_at_once_and_only_when_idle(
    machine: Machine, nvml: ModuleType
) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    machine.open_client(0, 0, "dcgm")

    assert nvml.nvmlDeviceSetMigMode(device, 0) == nvml.NVML_ERROR_IN_USE  # returned, not raised
    assert nvml.nvmlDeviceGetMigMode(device) == [1, 0]
    machine.close_client("dcgm")
    assert nvml.nvmlDeviceSetMigMode(device, 0) == nvml.NVML_SUCCESS
    with Refusal(nvml, nvml.NVML_ERROR_INVALID_ARGUMENT):
        nvml.nvmlDeviceGetMigMode(device)  # every handle is to be fetched again
    assert machine.mig_mode(0) == (False, False)


def test_an_ampere_waits_for_a_reset(make: Callable[..., Machine]) -> None:
    machine = make("A100-80GB", mig=False)
    with machine.in_this_process() as nvml:
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(0)

        assert nvml.nvmlDeviceSetMigMode(device, 1) == nvml.NVML_ERROR_RESET_REQUIRED
        assert nvml.nvmlDeviceGetMigMode(device) == [0, 1]
        machine.reset(0)
        assert nvml.nvmlDeviceGetMigMode(nvml.nvmlDeviceGetHandleByIndex(0)) == [1, 1]


def test_a_gpu_without_mig_supports_none_of_it(make: Callable[..., Machine]) -> None:
    with make("H100-80GB", mig=None).in_this_process() as nvml:
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(0)
        with Refusal(nvml, nvml.NVML_ERROR_NOT_SUPPORTED):
            nvml.nvmlDeviceGetMigMode(device)
        assert profiles(nvml, device, version=1) == {}


def test_without_permission_one_may_look_and_not_touch(machine: Machine, nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    handle = create(nvml, device, 19, 0, 1)
    machine.privilege(Privilege.MONITOR)

    touches: list[Callable[[], object]] = [
        lambda: create(nvml, device, 19, 1, 1),
        lambda: nvml.nvmlGpuInstanceDestroy(handle),
        lambda: nvml.nvmlGpuInstanceCreateComputeInstance(handle, 0),
        lambda: nvml.nvmlDeviceSetMigMode(device, 0),
        lambda: nvml.nvmlDeviceGetGpuInstanceRemainingCapacity(device, 19),
    ]
    for touch in touches:
        with Refusal(nvml, nvml.NVML_ERROR_NO_PERMISSION):
            touch()
    assert len(gpu_instances(nvml, device)) == 1
    machine.privilege(Privilege.NONE)
    with Refusal(nvml, nvml.NVML_ERROR_NO_PERMISSION):
        gpu_instances(nvml, device)


def test_a_lost_gpu_answers_nothing_and_the_other_one_everything(
    machine: Machine, nvml: ModuleType
) -> None:
    device, other = (nvml.nvmlDeviceGetHandleByIndex(index) for index in range(2))
    handle = create(nvml, device, 19, 0, 1)
    machine.lose(0)

    for ask in (
        lambda: nvml.nvmlDeviceGetHandleByIndex(0),
        lambda: nvml.nvmlDeviceGetUUID(device),
        lambda: gpu_instances(nvml, device),
        lambda: nvml.nvmlGpuInstanceDestroy(handle),
    ):
        with Refusal(nvml, nvml.NVML_ERROR_GPU_IS_LOST):
            ask()
    assert nvml.nvmlDeviceGetCount() == 2
    assert gpu_instances(nvml, other) == {}


def test_health_is_what_the_test_says(machine: Machine, nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    machine.remapped_rows(0, 1, 2, pending=True, failed=False)
    machine.ecc_errors(0, corrected=5, uncorrected=6)
    machine.retired_pages_pending(0)
    machine.recovery_action(0, nvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET)

    assert nvml.nvmlDeviceGetRemappedRows(device) == (1, 2, 1, 0)
    assert nvml.nvmlDeviceGetTotalEccErrors(device, 1, 0) == 6
    assert nvml.nvmlDeviceGetRetiredPagesPendingStatus(device) == 1
    recovery, resetless, unknown = nvml.nvmlDeviceGetFieldValues(
        device, [nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, 184, 4711]
    )
    assert (recovery.nvmlReturn, recovery.value.uiVal) == (0, 4)
    assert resetless.value.uiVal == 1
    assert unknown.nvmlReturn == nvml.NVML_ERROR_NOT_SUPPORTED
    machine.reset(0)
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    assert nvml.nvmlDeviceGetRemappedRows(device) == (1, 2, 0, 0)


def test_events_reach_whoever_registered_before_them(machine: Machine, nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    machine.xid(0, 63)
    events = nvml.nvmlEventSetCreate()
    wanted = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventMigConfigChange
    assert nvml.nvmlDeviceGetSupportedEventTypes(device) & wanted == wanted
    nvml.nvmlDeviceRegisterEvents(device, wanted, events)

    with Refusal(nvml, nvml.NVML_ERROR_TIMEOUT):
        nvml.nvmlEventSetWait(events, 5)
    machine.xid(1, 74)  # not registered
    machine.xid(0, 79)
    gi_id = machine.create_gpu_instance(0, 19, Placement(6, 1))
    xid, change = (nvml.nvmlEventSetWait(events, 1000) for _ in range(2))

    assert (xid.eventType, xid.eventData) == (nvml.nvmlEventTypeXidCriticalError, 79)
    assert xid.gpuInstanceId == 0xFFFFFFFF
    assert nvml.nvmlDeviceGetIndex(xid.device) == 0
    assert (change.eventType, change.gpuInstanceId) == (nvml.nvmlEventMigConfigChange, gi_id)
    machine.lose(0)
    with Refusal(nvml, nvml.NVML_ERROR_GPU_IS_LOST):
        nvml.nvmlEventSetWait(events, 1000)
    nvml.nvmlEventSetFree(events)


def test_a_reset_ends_a_registration_after_its_own_event(
    machine: Machine, nvml: ModuleType
) -> None:
    events = nvml.nvmlEventSetCreate()
    for index in range(2):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        nvml.nvmlDeviceRegisterEvents(device, nvml.nvmlEventMigConfigChange, events)

    machine.reset(0)
    machine.create_gpu_instance(0, 19, Placement(0, 1))
    machine.create_gpu_instance(1, 19, Placement(0, 1))
    told = [nvml.nvmlEventSetWait(events, 1000) for _ in range(2)]

    assert [nvml.nvmlDeviceGetIndex(each.device) for each in told] == [0, 1]
    with Refusal(nvml, nvml.NVML_ERROR_TIMEOUT):
        nvml.nvmlEventSetWait(events, 0)


def test_remapped_rows_are_not_told_beside_gpu_instances(
    machine: Machine, nvml: ModuleType
) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    gi_id = machine.create_gpu_instance(0, 19, Placement(0, 1))

    with Refusal(nvml, nvml.NVML_ERROR_NOT_SUPPORTED):
        nvml.nvmlDeviceGetRemappedRows(device)
    machine.destroy_gpu_instance(0, gi_id)
    assert nvml.nvmlDeviceGetRemappedRows(device) == (0, 0, 0, 0)


def test_only_listed_clients_are_processes(machine: Machine, nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    gi_id = machine.create_gpu_instance(0, 19, Placement(0, 1))
    machine.open_client(0, gi_id, "DCGM")
    assert nvml.nvmlDeviceGetComputeRunningProcesses(device) == []
    machine.open_client(0, gi_id, "training", listed=True)
    machine.open_client(0, 0, "profiler", listed=True)
    machine.open_client(1, 0, "elsewhere", listed=True)

    seen = nvml.nvmlDeviceGetComputeRunningProcesses(device)

    assert [each.gpuInstanceId for each in seen] == [gi_id, 0xFFFFFFFF]
    assert len({each.pid for each in seen}) == 2
    assert nvml.nvmlDeviceGetGraphicsRunningProcesses(device) == []


def test_a_mig_devices_uuid_is_what_the_machine_says(machine: Machine, nvml: ModuleType) -> None:
    gi_id = machine.create_gpu_instance(0, 9, Placement(4, 4))
    ci_id = machine.create_compute_instance(0, gi_id, 2)
    device = nvml.nvmlDeviceGetHandleByIndex(0)

    mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, 0)

    assert nvml.nvmlDeviceGetUUID(mig) == machine.mig_uuid(0, gi_id, ci_id)


def test_a_vgpu_host_says_which_types_it_has_and_which_run(make: Callable[..., Machine]) -> None:
    machine = make("A30-24GB", vgpu_host=True)
    with machine.in_this_process() as nvml:
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(0)
        types = nvml.nvmlDeviceGetSupportedVgpus(device)
        seen = {
            nvml.nvmlVgpuTypeGetName(each): nvml.nvmlVgpuTypeGetGpuInstanceProfileId(each)
            for each in types
        }

        assert seen == {each.name: each.profile_id for each in MODELS["A30-24GB"].vgpu_types}
        assert nvml.nvmlDeviceGetVirtualizationMode(device) == 3
        assert nvml.nvmlDeviceGetHostVgpuMode(device) == 1
        assert [nvml.nvmlVgpuTypeGetMaxInstances(device, each) for each in types[:2]] == [1, 2]
        assert nvml.nvmlVgpuTypeGetMaxInstancesPerGpuInstance(types[0]) == 1
        assert nvml.nvmlDeviceGetCreatableVgpus(device) == []
        gpu_instance = create(nvml, device, 5, 2, 2)
        gi_id = nvml.nvmlGpuInstanceGetInfo(gpu_instance).id
        assert nvml.nvmlDeviceGetCreatableVgpus(device) == [types[1]]
        vgpu = machine.start_vgpu(0, gi_id, "NVIDIA A30-2-12C", "0d5a")
        assert nvml.nvmlDeviceGetActiveVgpus(device) == [vgpu]
        assert nvml.nvmlVgpuInstanceGetGpuInstanceId(vgpu) == gi_id
        assert nvml.nvmlVgpuInstanceGetUUID(vgpu) == "0d5a"
        assert nvml.nvmlDeviceGetCreatableVgpus(device) == []
        with Refusal(nvml, nvml.NVML_ERROR_IN_USE):
            nvml.nvmlGpuInstanceDestroy(gpu_instance)
        count = c_uint(1)
        fill = nvml._nvmlGetFunctionPointer("nvmlDeviceGetSupportedVgpus")
        assert fill(device, byref(count), (c_uint * 1)()) == nvml.NVML_ERROR_INSUFFICIENT_SIZE
        assert count.value == len(types)


def test_elsewhere_vgpu_calls_are_not_supported(nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    with Refusal(nvml, nvml.NVML_ERROR_NOT_SUPPORTED):
        nvml.nvmlDeviceGetSupportedVgpus(device)


def test_a_reboot_keeps_the_mode_and_nothing_else(machine: Machine, nvml: ModuleType) -> None:
    handle = create(nvml, nvml.nvmlDeviceGetHandleByIndex(0), 19, 0, 1)
    machine.open_client(0, 1, "vm")
    machine.reboot()

    with Refusal(nvml, nvml.NVML_ERROR_INVALID_ARGUMENT):
        nvml.nvmlGpuInstanceDestroy(handle)
    assert machine.gpu_instances(0) == []
    assert machine.mig_mode(0) == (True, True)


def test_errors_have_a_text_even_where_pynvml_has_none(nvml: ModuleType) -> None:
    assert nvml.nvmlErrorString(19) == "In use by another client"
    assert str(nvml.NVMLError(nvml.NVML_ERROR_INSUFFICIENT_RESOURCES)) == "Insufficient resources"
