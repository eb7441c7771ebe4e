from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from nodeagent.api.geometry import Placement
from nodeagent.driver import DriverError, GivingWay
from tests.fakes.nvml.machine import Kind
from tests.unit.nvml.node import Node

NodeOf = Callable[..., Node]

INIT, SHUTDOWN = "nvmlInitWithFlags", "nvmlShutdown"


async def test_while_nvml_is_closed_calls_wait_and_then_open_it(node_of: NodeOf) -> None:
    node = node_of()
    await node.driver.discover()

    async with node.driver.closed():
        looking = asyncio.create_task(node.driver.discover())
        await asyncio.sleep(0.01)
        assert node.machine.calls()[-1].symbol == SHUTDOWN
        assert not looking.done()

    assert len((await looking).gpus) == 1
    assert len(node.machine.calls(INIT)) == 2


async def test_nvml_that_was_never_opened_may_be_closed(node_of: NodeOf) -> None:
    node = node_of()

    async with node.driver.closed():
        pass

    assert node.machine.calls() == []


async def test_an_error_within_does_not_keep_nvml_closed(node_of: NodeOf) -> None:
    node = node_of()

    with pytest.raises(OSError, match="sriov-manage"):
        async with node.driver.closed():
            raise OSError("sriov-manage")

    assert len((await node.driver.discover()).gpus) == 1


async def test_what_was_known_before_nvml_was_closed_is_still_known(node_of: NodeOf) -> None:
    node = node_of(gpus=2)
    gpu = await node.gpu()
    gi_id = await node.driver.create(gpu.uuid, 19, Placement(0, 1))
    node.machine.lose(1)

    async with node.driver.closed():
        pass

    await node.driver.destroy(gpu.uuid, gi_id)
    assert len((await node.driver.discover()).gpus) == 2


async def test_nvml_that_does_not_shut_down_is_not_said_to_be(node_of: NodeOf) -> None:
    node = node_of()
    await node.driver.discover()
    node.machine.fail(SHUTDOWN, 999)

    with pytest.raises(DriverError, match=SHUTDOWN):
        async with node.driver.closed():
            pytest.fail("the context was entered")

    assert len((await node.driver.discover()).gpus) == 1
    assert len(node.machine.calls(INIT)) == 1


@pytest.mark.parametrize("code", [1, 9, 18])
async def test_after_an_error_of_the_whole_library_it_is_initialised_again(
    node_of: NodeOf, code: int
) -> None:
    node = node_of()
    await node.driver.discover()
    node.machine.fail("nvmlDeviceGetCount_v2", code)

    with pytest.raises(DriverError) as caught:
        await node.driver.discover()

    assert caught.value.code == code
    assert len((await node.driver.discover()).gpus) == 1
    assert len(node.machine.calls(INIT)) == 2


async def test_a_shutdown_that_only_said_it_failed_is_recovered_from(node_of: NodeOf) -> None:
    node = node_of()
    await node.driver.discover()
    node.machine.fail(SHUTDOWN, 999, kind=Kind.DONE_BUT_ERROR)
    with pytest.raises(DriverError, match=SHUTDOWN):
        async with node.driver.closed():
            pytest.fail("the context was entered")

    with pytest.raises(DriverError, match="NVML is not initialised"):
        await node.driver.discover()
    assert len((await node.driver.discover()).gpus) == 1


async def test_a_driver_can_be_closed_whatever_nvml_says(node_of: NodeOf) -> None:
    node = node_of()
    await node.driver.discover()
    node.machine.fail(SHUTDOWN, 999)

    await node.driver.close()

    assert [call.code for call in node.machine.calls(SHUTDOWN)] == [999]


async def test_a_node_whose_boot_is_not_known_is_not_told_of(node_of: NodeOf) -> None:
    node = node_of()
    (node.root / "proc/sys/kernel/random/boot_id").unlink()

    with pytest.raises(DriverError, match="the node's boot is not known"):
        await node.driver.discover()


async def test_nvml_that_is_shut_is_opened_by_no_call_before_it_may_be(node_of: NodeOf) -> None:
    node = node_of()
    gpu = await node.gpu()
    assert len(node.machine.holders()) == 1

    await node.driver.shut("somebody needs it")

    assert node.machine.holders() == []
    before = len(node.machine.calls())
    for call in (node.driver.discover(), node.driver.create(gpu.uuid, 19, Placement(0, 1))):
        with pytest.raises(GivingWay, match=r"somebody needs it$"):
            await call
    assert len(node.machine.calls()) == before
    node.driver.reopen()
    assert len((await node.driver.discover()).gpus) == 1


async def test_while_it_is_shut_nothing_is_heard_and_nobody_is_told_of_that(
    node_of: NodeOf,
) -> None:
    node = node_of()
    await node.driver.discover()
    await node.driver.shut("somebody needs it")
    before, told = len(node.machine.calls()), 0

    def changed() -> None:
        nonlocal told
        told += 1

    listening = asyncio.create_task(node.driver.watch(changed))
    try:
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(node.machine.calls()), told) == (before, 0)
        node.driver.reopen()
        await node.driver.discover()
    finally:
        listening.cancel()
    assert len(node.machine.holders()) == 1


async def test_nvml_that_could_not_be_shut_down_is_still_shut_for_all_calls(
    node_of: NodeOf,
) -> None:
    node = node_of()
    await node.driver.discover()
    node.machine.fail(SHUTDOWN, 999)

    with pytest.raises(DriverError, match=SHUTDOWN):
        await node.driver.shut("somebody needs it")
    with pytest.raises(GivingWay):
        await node.driver.discover()
    await node.driver.shut("somebody needs it")

    assert node.machine.holders() == []
