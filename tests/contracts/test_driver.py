"""The exam of every GPU driver: what the agent relies on, whoever implements it.

A driver joins by adding a :class:`Subject` to ``SUBJECTS``. The NVML driver is examined on the fake
library, and skipped where there is no gcc to compile that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.driver import (
    Driver,
    DriverError,
    GpuLost,
    InstanceInUse,
    InvalidPlacement,
    LiveGpu,
    MigDisabled,
    NoSuchInstance,
    PlacementUnavailable,
    Purpose,
)
from nodeagent.simulated.driver import SimulatedDriver
from nodeagent.simulated.hardware import Hardware
from tests.unit.nvml.subject import EXAMINED, NvmlSubject
from tests.unit.vgpu import subject as vgpu

GPUS = 2


class Subject(Protocol):
    """A node with two empty MIG GPUs of one model, their driver, and what befalls them."""

    model: str
    driver: Driver

    def open(self, gpu: str, gi_id: int) -> None:
        """Let some client use a GPU instance."""

    def close(self, gpu: str, gi_id: int) -> None:
        """End that."""

    def lose(self, gpu: str) -> None:
        """Let a GPU fall off the bus."""

    def disable_mig(self, gpu: str) -> None:
        """Turn MIG mode off."""

    def reboot(self) -> None:
        """Reboot the node."""

    async def aclose(self) -> None:
        """Let go of it."""


class Simulated:
    def __init__(self, model: str) -> None:
        self.model = model
        self.hardware = Hardware("n1", [MODELS[model]] * GPUS, Mode.VGPU_VFIO)
        self.driver: Driver = SimulatedDriver(self.hardware)

    def open(self, gpu: str, gi_id: int) -> None:
        self.hardware.open(gpu, gi_id, "client")

    def close(self, gpu: str, gi_id: int) -> None:
        self.hardware.close("client")

    def lose(self, gpu: str) -> None:
        self.hardware.gpu(gpu).lost = True

    def disable_mig(self, gpu: str) -> None:
        self.hardware.gpu(gpu).mig_enabled = False

    def reboot(self) -> None:
        self.hardware.reboot()

    async def aclose(self) -> None:
        pass


SUBJECTS: dict[str, Callable[[Path], Subject]] = (
    {f"simulated {name}": lambda _, name=name: Simulated(name) for name in MODELS}
    | {
        f"NVML {name}": lambda directory, name=name: NvmlSubject(name, GPUS, directory)
        for name in EXAMINED
    }
    | {
        f"NVML for containers {name}": lambda directory, name=name: NvmlSubject(
            name, GPUS, directory, Mode.CONTAINER
        )
        for name in ("A30-24GB", "H100-80GB")
    }
    | {
        f"{mode} {name}": lambda directory, name=name, mode=mode: vgpu.VgpuSubject(  # type: ignore[misc]
            name, GPUS, directory, mode
        )
        for mode in (Mode.VGPU_MDEV, Mode.VGPU_VFIO)
        for name in vgpu.EXAMINED
    }
)


@pytest.fixture(params=SUBJECTS)
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    subject = SUBJECTS[request.param](tmp_path)
    yield subject
    await subject.aclose()


async def gpu(subject: Subject, index: int = 0) -> LiveGpu:
    return (await subject.driver.discover()).gpus[index]


async def test_every_gpu_is_found_with_its_geometry(subject: Subject) -> None:
    host = await subject.driver.discover()

    assert len({each.uuid for each in host.gpus}) == GPUS
    assert len({each.pci_address for each in host.gpus}) == GPUS
    for each in host.gpus:
        assert each.uuid.startswith("GPU-")
        assert each.geometry == MODELS[subject.model].geometry
        assert (each.instances, each.unhealthy) == ((), "")


async def test_every_profile_can_be_created_at_every_placement_and_found_there(
    subject: Subject,
) -> None:
    first = await gpu(subject)
    for profile in first.geometry.profiles:
        for placement in profile.placements:
            gi_id = await subject.driver.create(first.uuid, profile.id, placement)

            (found,) = (await gpu(subject)).instances
            assert (found.gi_id, found.profile_id, found.placement) == (
                gi_id,
                profile.id,
                placement,
            )
            assert not found.in_use
            await subject.driver.destroy(first.uuid, gi_id)
            assert (await gpu(subject)).instances == ()


async def test_gpus_do_not_touch_each_other(subject: Subject) -> None:
    first, second = await gpu(subject, 0), await gpu(subject, 1)
    whole = first.geometry.by_id[0]

    await subject.driver.create(first.uuid, whole.id, whole.placements[0])
    await subject.driver.create(second.uuid, whole.id, whole.placements[0])

    assert len((await gpu(subject, 1)).instances) == 1


async def test_overlap_is_refused_whatever_the_profiles(subject: Subject) -> None:
    first = await gpu(subject)
    whole = first.geometry.by_id[0]
    await subject.driver.create(first.uuid, whole.id, whole.placements[0])

    for profile in first.geometry.profiles:
        for placement in profile.placements:
            with pytest.raises(PlacementUnavailable):
                await subject.driver.create(first.uuid, profile.id, placement)


async def test_no_more_instances_than_the_profile_allows(subject: Subject) -> None:
    first = await gpu(subject)
    for profile in first.geometry.profiles:
        if not profile.limited:
            continue
        made = [
            await subject.driver.create(first.uuid, profile.id, place)
            for place in profile.placements[: profile.max_instances]
        ]
        with pytest.raises(PlacementUnavailable):
            await subject.driver.create(
                first.uuid, profile.id, profile.placements[profile.max_instances]
            )
        for gi_id in made:
            await subject.driver.destroy(first.uuid, gi_id)


async def test_a_profile_or_start_the_gpu_does_not_have_is_refused(subject: Subject) -> None:
    first = await gpu(subject)
    profile = first.geometry.profiles[-1]

    with pytest.raises(InvalidPlacement):
        await subject.driver.create(first.uuid, 999, Placement(0, 1))
    with pytest.raises(InvalidPlacement):
        await subject.driver.create(
            first.uuid, profile.id, Placement(first.geometry.memory_slices, profile.size)
        )


async def test_with_a_purpose_comes_a_device_of_its_own_and_goes_with_it(subject: Subject) -> None:
    first, mode = await gpu(subject), (await subject.driver.discover()).mode
    if isinstance(subject, NvmlSubject) and mode is not Mode.CONTAINER:
        pytest.skip("vGPUs are not NVML's to make")
    if not first.served(mode):
        pytest.skip("no vGPU type of this model is known")
    resource, profile_id = next(iter(first.served(mode).items()))
    places = first.geometry.by_id[profile_id].placements[:2]

    made = [
        await subject.driver.create(first.uuid, profile_id, place, Purpose(f"a{n}", resource))
        for n, place in enumerate(places)
    ]

    found = (await gpu(subject)).instances
    assert [each.gi_id for each in found] == made
    devices = {each.device.id for each in found if each.device}
    assert len(devices) == len(places)
    for gi_id in made:
        await subject.driver.destroy(first.uuid, gi_id)
    assert (await gpu(subject)).instances == ()


async def test_an_instance_in_use_is_seen_so_and_cannot_be_destroyed(subject: Subject) -> None:
    first = await gpu(subject)
    backing = {each.profile_id for each in first.vgpu_types}  # what a VM can hold, if any
    profile = next(p for p in first.geometry.profiles if not backing or p.id in backing)
    gi_id = await subject.driver.create(first.uuid, profile.id, profile.placements[0])
    subject.open(first.uuid, gi_id)

    with pytest.raises(InstanceInUse):
        await subject.driver.destroy(first.uuid, gi_id)
    assert (await gpu(subject)).instances[0].in_use

    subject.close(first.uuid, gi_id)
    await subject.driver.destroy(first.uuid, gi_id)


async def test_what_does_not_exist_cannot_be_destroyed(subject: Subject) -> None:
    first = await gpu(subject)

    with pytest.raises(NoSuchInstance):
        await subject.driver.destroy(first.uuid, 42)


async def test_ids_come_again_and_tell_nothing(subject: Subject) -> None:
    first = await gpu(subject)
    profile = first.geometry.profiles[0]
    one = await subject.driver.create(first.uuid, profile.id, profile.placements[0])
    await subject.driver.destroy(first.uuid, one)
    two = await subject.driver.create(first.uuid, profile.id, profile.placements[0])

    assert one == two


async def test_without_mig_mode_nothing_is_created(subject: Subject) -> None:
    first = await gpu(subject)
    subject.disable_mig(first.uuid)
    profile = first.geometry.profiles[0]

    with pytest.raises(MigDisabled):
        await subject.driver.create(first.uuid, profile.id, profile.placements[0])
    assert not (await gpu(subject)).mig_enabled


async def test_a_lost_gpu_is_listed_as_unhealthy_beside_the_others(subject: Subject) -> None:
    first = await gpu(subject)
    subject.lose(first.uuid)
    profile = first.geometry.profiles[0]

    with pytest.raises(GpuLost):
        await subject.driver.create(first.uuid, profile.id, profile.placements[0])
    with pytest.raises(GpuLost):
        await subject.driver.destroy(first.uuid, 1)
    lost, healthy = (await subject.driver.discover()).gpus
    assert (lost.uuid, bool(lost.unhealthy), lost.listed) == (first.uuid, True, False)
    assert lost.geometry == first.geometry
    assert healthy.listed
    assert not healthy.unhealthy


async def test_an_unknown_gpu_is_a_lost_one(subject: Subject) -> None:
    with pytest.raises(GpuLost):
        await subject.driver.destroy("GPU-nowhere", 1)


async def test_a_reboot_ends_every_instance_and_is_told(subject: Subject) -> None:
    first = await gpu(subject)
    profile = first.geometry.profiles[0]
    await subject.driver.create(first.uuid, profile.id, profile.placements[0])
    before = await subject.driver.discover()

    subject.reboot()

    after = await subject.driver.discover()
    assert after.boot_id != before.boot_id
    assert [each.uuid for each in after.gpus] == [each.uuid for each in before.gpus]
    assert after.gpus[0].instances == ()


def test_errors_tell_the_call_the_meaning_and_the_code() -> None:
    assert str(InstanceInUse("nvmlGpuInstanceDestroy")) == (
        "nvmlGpuInstanceDestroy: in use by a client (NVML error 19)"
    )
    assert issubclass(InstanceInUse, DriverError)
