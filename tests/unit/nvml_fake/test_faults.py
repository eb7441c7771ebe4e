"""What a test can make go wrong, and the log of what was called."""

from __future__ import annotations

import threading
import time
from types import ModuleType

import pytest

from nodeagent.api.geometry import Placement
from tests.fakes.nvml.machine import (
    GPU_IS_LOST,
    IN_USE,
    UNKNOWN,
    Call,
    Kind,
    Machine,
    Refused,
)
from tests.unit.nvml_fake.asking import Refusal, create

CREATE = "nvmlDeviceCreateGpuInstanceWithPlacement"
DESTROY = "nvmlGpuInstanceDestroy"


def test_the_next_calls_fail_with_the_code_and_then_no_more(
    machine: Machine, nvml: ModuleType
) -> None:
    handle = create(nvml, nvml.nvmlDeviceGetHandleByIndex(0), 19, 0, 1)
    machine.fail(DESTROY, IN_USE, times=2)

    for _ in range(2):
        with Refusal(nvml, IN_USE):
            nvml.nvmlGpuInstanceDestroy(handle)
    nvml.nvmlGpuInstanceDestroy(handle)
    assert machine.gpu_instances(0) == []


def test_a_fault_may_wait_and_may_be_of_one_gpu(machine: Machine, nvml: ModuleType) -> None:
    machine.fail("nvmlDeviceGetUUID", GPU_IS_LOST, after=1, gpu=1)
    first, second = (nvml.nvmlDeviceGetHandleByIndex(index) for index in range(2))

    for device in (first, second, first):
        nvml.nvmlDeviceGetUUID(device)
    with Refusal(nvml, GPU_IS_LOST):
        nvml.nvmlDeviceGetUUID(second)


def test_done_but_error_is_done(machine: Machine, nvml: ModuleType) -> None:
    machine.fail(CREATE, UNKNOWN, kind=Kind.DONE_BUT_ERROR)

    with Refusal(nvml, UNKNOWN):
        create(nvml, nvml.nvmlDeviceGetHandleByIndex(0), 9, 4, 4)
    assert [each.placement for each in machine.gpu_instances(0)] == [Placement(4, 4)]


def test_success_but_not_done_leaves_a_handle_to_nothing(
    machine: Machine, nvml: ModuleType
) -> None:
    machine.pretend(CREATE)
    device = nvml.nvmlDeviceGetHandleByIndex(0)

    handle = create(nvml, device, 9, 4, 4)

    assert machine.gpu_instances(0) == []
    with Refusal(nvml, nvml.NVML_ERROR_INVALID_ARGUMENT):
        nvml.nvmlGpuInstanceGetInfo(handle)
    handle = create(nvml, device, 9, 4, 4)
    machine.pretend(DESTROY)
    nvml.nvmlGpuInstanceDestroy(handle)
    assert len(machine.gpu_instances(0)) == 1


def test_a_hanging_call_hangs_alone_until_let_go(machine: Machine, nvml: ModuleType) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    machine.hang(CREATE, seconds=60)
    hanging = threading.Thread(target=create, args=(nvml, device, 9, 0, 4))
    hanging.start()
    while not machine.calls(CREATE):
        time.sleep(0.001)

    assert nvml.nvmlDeviceGetCount() == 2
    assert machine.gpu_instances(0) == []
    assert machine.calls(CREATE)[0].code is None
    machine.clear_faults()
    hanging.join(timeout=5)
    assert len(machine.gpu_instances(0)) == 1


def test_the_library_itself_may_refuse(machine: Machine) -> None:
    with machine.in_this_process() as nvml:
        machine.always("nvmlInitWithFlags", nvml_code := 18)
        for _ in range(2):
            with Refusal(nvml, nvml_code):
                nvml.nvmlInit()
        machine.clear_faults()
        with Refusal(nvml, nvml.NVML_ERROR_UNINITIALIZED):
            nvml.nvmlDeviceGetCount()
        nvml.nvmlInit()
        nvml.nvmlInit()
        nvml.nvmlShutdown()
        assert nvml.nvmlDeviceGetCount() == 2  # counted: one is left


def test_every_call_is_logged_with_its_arguments_and_its_code(
    machine: Machine, nvml: ModuleType
) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(1)
    machine.forget_calls()
    create(nvml, device, 9, 4, 4)
    with Refusal(nvml, nvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
        create(nvml, device, 9, 4, 4)

    done, refused = machine.calls()
    assert isinstance(done, Call)
    assert (done.symbol, done.code, refused.code) == (CREATE, 0, 23)
    assert done.arguments == {"gpu": "1", "profile": "9", "start": "4", "size": "4"}


def test_what_the_test_does_itself_keeps_to_the_rules(machine: Machine) -> None:
    machine.create_gpu_instance(0, 9, Placement(0, 4))

    with pytest.raises(Refused, match="23"):
        machine.create_gpu_instance(0, 19, Placement(3, 1))
    machine.create_compute_instance(0, 1, profile=2)
    with pytest.raises(Refused, match="19"):
        machine.destroy_gpu_instance(0, 1)
    (instance,) = machine.gpu_instances(0)
    assert [each.ci_id for each in instance.compute_instances] == [0]
    machine.destroy_compute_instance(0, 1, 0)
    machine.destroy_gpu_instance(0, 1)
    assert machine.calls() == []
