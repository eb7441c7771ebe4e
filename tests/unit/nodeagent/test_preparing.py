"""MIG mode is turned on where that was asked for, and nowhere else."""

from __future__ import annotations

from nodeagent.api.geometry import Placement
from nodeagent.driver import InstanceInUse, LiveGpu
from nodeagent.settings import Settings
from tests.unit.nodeagent.builders import ONE, assignment, hardware
from tests.unit.nodeagent.station import EAGER, Station, conditions, reasons

AT_ONCE = Settings(rescan_seconds=0.001, first_retry_seconds=0.001, longest_retry_seconds=0.01)


class Administrator:
    """Turns MIG mode on, or says what is still needed."""

    def __init__(self, station: Station, needed: str = "") -> None:
        self.station = station
        self.needed = needed
        self.asked: list[str] = []
        self.in_use = False

    async def prepare(self, gpu: LiveGpu) -> str:
        self.asked.append(gpu.uuid)
        if self.in_use:
            raise InstanceInUse("nvmlDeviceSetMigMode")
        if not self.needed:
            self.station.hardware.gpu(gpu.uuid).mig_enabled = True
        return self.needed


async def without_mig(gpus: int = 1) -> Station:
    station = Station(hardware(gpus))
    await station.install()
    for gpu in station.hardware.gpus:
        gpu.mig_enabled = False
    return station


async def test_nobody_turns_mig_on_unasked() -> None:
    station = await without_mig()
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: "a" in reasons(s))

    assert reasons(status) == {"a": "MIG mode is off"}
    assert not station.hardware.gpus[0].mig_enabled
    assert list(conditions(status)) == ["Ready"]


async def test_mig_is_turned_on_before_anything_is_made() -> None:
    station = await without_mig()
    administrator = Administrator(station)
    async with station.serving(prepare=administrator.prepare):
        await station.plan(assignment("a", station.gpu))
        await station.until_realized("a")

    assert administrator.asked == [station.gpu]


async def test_a_gpu_that_is_ready_is_not_prepared_again_unless_it_may_have_lost_it() -> None:
    station = await without_mig()
    administrator = Administrator(station)
    async with station.serving(AT_ONCE, prepare=administrator.prepare):
        await station.until(lambda s: bool(s.gpus) and s.gpus[0].mig_enabled)
        await station.settle()
        assert administrator.asked == [station.gpu]

        station.hardware.gpus[0].lost = True
        await station.until(lambda s: bool(s.gpus[0].unhealthy))
        station.hardware.gpus[0].lost = False
        await station.until(lambda s: not s.gpus[0].unhealthy)

    assert administrator.asked == [station.gpu, station.gpu]


async def test_a_gpu_that_is_not_ours_or_not_idle_or_not_well_is_let_be() -> None:
    station = await without_mig(4)
    first, second, third, fourth = station.hardware.gpus
    second.mig_enabled = True
    second.create(ONE, Placement(0, 1))
    second.mig_enabled = False
    third.unhealthy = "XID 79"
    administrator = Administrator(station)
    await station.choose_gpus(",".join([second.uuid, third.uuid, fourth.uuid]))
    async with station.serving(prepare=administrator.prepare):
        await station.until(lambda s: bool(s.gpus) and s.gpus[3].mig_enabled)

    assert set(administrator.asked) == {fourth.uuid}
    assert not first.mig_enabled


async def test_what_is_still_needed_is_a_condition() -> None:
    station = await without_mig()
    administrator = Administrator(station, "MIG mode is pending: reset the GPU")
    async with station.serving(AT_ONCE, prepare=administrator.prepare):
        status = await station.until(lambda s: "GpusPrepared" in conditions(s))
        assert conditions(status)["GpusPrepared"] == (
            f"{station.gpu}: MIG mode is pending: reset the GPU"
        )
        writes = station.status_writes
        while len(administrator.asked) < 3:
            await station.settle()
        assert station.status_writes == writes  # however often it is tried

        administrator.needed = ""
        await station.until(lambda s: s.gpus[0].mig_enabled and "GpusPrepared" not in conditions(s))


async def test_a_gpu_in_use_is_tried_again_but_not_at_every_pass() -> None:
    station = await without_mig()
    administrator = Administrator(station)
    administrator.in_use = True
    async with station.serving(EAGER, prepare=administrator.prepare):
        status = await station.until(lambda s: "GpusPrepared" in conditions(s))
        for n in range(3):
            await station.plan(assignment(f"{n}", station.gpu))
            await station.settle()

    assert "NVML error 19" in conditions(status)["GpusPrepared"]
    assert administrator.asked == [station.gpu]
