"""NVML is shut while Harvester needs a GPU with nobody at it, and open again after that."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from nodeagent.apiserver.protocol import PatchType
from tests.fakes.pcidevices.log import BLOCKED, SRIOV, WRITE, traps
from tests.fakes.pcidevices.names import MIG_CONFIGURATIONS, SRIOV_GPUS
from tests.unit.harvester.station import Station
from tests.unit.kubevirt_fake.house import GPU


def functions(station: Station) -> int:
    return station.site.host.kernel.functions(0)


def done(station: Station) -> list[str]:
    """Return how often which of Harvester's commands was run, or could not be."""
    return [each.action for each in station.cluster.log.entries if each.action in (SRIOV, BLOCKED)]


async def told(station: Station, text: str) -> None:
    """Wait until the node says, as not ready, that *text*."""
    await station.until_told(lambda it: any(text in each.message for each in it.conditions))


async def enable(station: Station, *, enabled: bool) -> None:
    """Do as an administrator does in Harvester's UI, and let nobody act upon it yet."""
    patch = {"spec": {"enabled": enabled}}
    await station.user.patch(SRIOV_GPUS, GPU, patch, patch_type=PatchType.MERGE)


async def sriov(station: Station) -> dict[str, Any]:
    return dict(msgspec.json.decode(await station.cluster.api.get(SRIOV_GPUS, GPU)))


async def test_a_gpu_that_somebody_has_open_gets_no_functions(station: Station) -> None:
    with station.machine.in_this_process() as pynvml:
        pynvml.nvmlInit()
        await enable(station, enabled=True)
        await station.site.pass_(60)
        assert functions(station) == 0
        assert set(done(station)) == {BLOCKED}

        pynvml.nvmlShutdown()
        await station.site.pass_(120)
    assert functions(station) == 8
    assert done(station)[-1] == SRIOV


async def test_the_agent_has_let_go_before_it_has_functions_enabled(station: Station) -> None:
    async with station.agent():
        await station.ready()
        opened = station.machine.holders()

    assert done(station) == [SRIOV]
    assert opened  # it looks again since then
    assert list(traps(station.cluster.log.entries)) == []


async def test_it_keeps_away_for_as_long_as_sriov_manage_has_not_done(station: Station) -> None:
    station.site.step = fail_at("sriov-manage")
    station.ending = NotYet
    async with station.agent():
        await told(station, "about to enable its virtual functions")
        assert station.machine.holders() == []
        calls = len(station.machine.calls())
        for _ in range(20):
            await station.turn()
            await asyncio.sleep(0.002)
        assert len(station.machine.calls()) == calls

        station.site.step = lambda name: None
        station.site.restart()
        await station.ready()
        assert station.machine.holders()


async def test_an_administrators_change_is_given_way_to(station: Station) -> None:
    async with station.agent(all_gpus=False):
        await station.until_told(lambda it: bool(it.gpus))
        assert station.machine.holders()

        await enable(station, enabled=True)
        await station.until(lambda: functions(station) == 8)
        await station.until_told(lambda it: bool(it.gpus and it.gpus[0].mig_enabled))
        await enable(station, enabled=False)
        await station.until(lambda: functions(station) == 0)
        await station.until_told(lambda it: "SR-IOV" in it.gpus[0].unhealthy)

    assert done(station).count(SRIOV) == 2


async def test_after_a_reboot_nobody_looks_before_harvester_has_the_functions_back(
    station: Station,
) -> None:
    async with station.agent():
        await station.ready()
    await station.reboot()
    before = len(done(station))
    async with station.agent():
        await station.until(lambda: functions(station) == 8)
        await ready_again(station)

    assert done(station)[before:] == [SRIOV]
    assert list(traps(station.cluster.log.entries)) == []


async def test_when_it_has_let_go_harvester_is_told_for_it_waits_longer_and_longer(
    station: Station,
) -> None:
    await enable(station, enabled=True)
    with station.machine.in_this_process() as pynvml:
        pynvml.nvmlInit()  # somebody else has the GPU open: Harvester tries in vain, many times
        await station.site.pass_(600)
        pynvml.nvmlShutdown()
    before = len(done(station))
    assert set(done(station)) == {BLOCKED}
    async with station.agent():
        await station.until(lambda: functions(station) == 8)

    assert done(station)[before:] == [SRIOV]
    touches = [
        each
        for each in station.cluster.log.of(WRITE)
        if each.actor == "agent" and each.subject.startswith("sriovgpudevices")
    ]
    assert len(touches) == 1
    assert "tangram.dev/left-alone" in touches[0].detail
    assert (await sriov(station))["spec"]["enabled"]


async def test_mig_mode_that_a_reboot_has_turned_off_is_left_to_harvester(
    station: Station,
) -> None:
    async with station.agent():
        await station.ready()
    await station.reboot()
    station.machine.switch_mig(0, on=False)  # which Hopper does not keep
    async with station.agent():
        await ready_again(station)
        assert station.machine.mig_mode(0) == (True, True)

    names = [msgspec.json.decode(raw)["metadata"]["name"] for raw in await migs(station)]
    assert names == [GPU]
    assert list(traps(station.cluster.log.entries)) == []


async def ready_again(station: Station) -> None:
    """Wait until the GPU takes GPU instances after the reboot."""
    await station.until_told(
        lambda it: it.boot_id == "boot-2" and not any(gpu.unhealthy for gpu in it.gpus)
    )


async def migs(station: Station) -> Any:
    return (await station.cluster.api.list(MIG_CONFIGURATIONS)).items


class NotYet(Exception):
    """The command has not ended."""


def fail_at(step: str) -> Any:
    def stepped(name: str) -> None:
        if name == step:
            raise NotYet(name)

    return stepped
