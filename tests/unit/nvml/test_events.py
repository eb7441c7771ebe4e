from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pynvml
import pytest

from nodeagent.api.geometry import Placement
from nodeagent.nvml.events import APPLICATION_XIDS, MASK, Event, strike
from tests.fakes.nvml.machine import GPU_RECOVERY_ACTION, MIG_CONFIG_CHANGE, XID_CRITICAL_ERROR
from tests.unit.nvml.node import Node
from tests.waiting import until

NodeOf = Callable[..., Node]

WAIT = "nvmlEventSetWait_v2"
CREATE_SET = "nvmlEventSetCreate"
REGISTER = "nvmlDeviceRegisterEvents"
NOTHING_NEW = "nothing new before the GPU is reset or the node rebooted"


class Watched:
    """A node whose driver is being watched: how often it called, and whether it listens."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.machine = node.machine
        self.changes = 0
        self.task = asyncio.create_task(node.driver.watch(self._changed))

    def _changed(self) -> None:
        self.changes += 1

    async def listening(self) -> None:
        """Return once a wait for events has begun after this."""
        waits = len(self.machine.calls(WAIT))
        await until(lambda: len(self.machine.calls(WAIT)) > waits)

    async def told(self, befall: Callable[[], object]) -> None:
        """Return once a change was called for after *befall*."""
        before = self.changes
        befall()
        await until(lambda: self.changes > before)

    async def unhealthy(self) -> list[str]:
        return [gpu.unhealthy for gpu in (await self.node.driver.discover()).gpus]


@pytest.fixture
async def watched_of(node_of: NodeOf) -> AsyncIterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(**options: Any) -> Watched:
        made.append(Watched(node_of(**{"listen_every": 0.005, "retry_after": 0.005} | options)))
        return made[-1]

    yield make
    for each in made:
        each.task.cancel()
        await asyncio.gather(each.task, return_exceptions=True)


def test_the_mask_is_nvmls() -> None:
    assert (
        pynvml.nvmlEventTypeXidCriticalError
        | pynvml.nvmlEventMigConfigChange
        | pynvml.nvmlEventTypeDramRetirementEvent
        | pynvml.nvmlEventTypeDramRetirementFailure
        | pynvml.nvmlEventTypeNonFatalPoisonError
        | pynvml.nvmlEventTypeFatalPoisonError
        | pynvml.nvmlEventTypeGpuUnavailableError
        | pynvml.nvmlEventTypeGpuRecoveryAction
    ) == MASK


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event("g", 0x8, 79), f"the driver reported XID 79: {NOTHING_NEW}"),
        (
            Event("g", 0x8, 95, gi_id=3),
            f"the driver reported XID 95 in one of its GPU instances: {NOTHING_NEW}",
        ),
        (Event("g", 0x8, 999), f"the driver reported an unknown XID: {NOTHING_NEW}"),
        (Event("g", 0x800), f"the driver could not retire defective memory: {NOTHING_NEW}"),
        (Event("g", 0x2000), f"the driver reported a fatal use of corrupted memory: {NOTHING_NEW}"),
        (Event("g", 0x4000), f"the driver reported the GPU unavailable: {NOTHING_NEW}"),
        *((Event("g", 0x8, xid), "") for xid in sorted(APPLICATION_XIDS)),
        (Event("g", 0x8, 154), ""),  # the recovery action has changed: it is asked for itself
        *((Event("g", kind), "") for kind in (0x100, 0x400, 0x1000, 0x8000)),
    ],
)
def test_an_event_strikes_its_gpu_or_is_only_news(event: Event, reason: str) -> None:
    assert strike(event) == reason


def test_which_xids_are_benign_may_be_chosen() -> None:
    assert strike(Event("g", 0x8, 94), frozenset((94,))) == ""
    assert strike(Event("g", 0x8, 13), frozenset((94,))) != ""


async def test_a_change_by_somebody_else_is_told_at_once(
    watched_of: Callable[..., Watched],
) -> None:
    watched = watched_of()
    await watched.listening()
    assert watched.changes == 0

    await watched.told(lambda: watched.machine.create_gpu_instance(0, 19, Placement(2, 1)))

    assert len((await watched.node.gpu()).instances) == 1


@pytest.mark.parametrize("listening_since_a_look", [False, True])
async def test_a_critical_xid_closes_its_gpu_alone_until_a_recovery_is_over(
    watched_of: Callable[..., Watched], listening_since_a_look: bool
) -> None:
    watched = watched_of(gpus=2)
    await watched.listening()
    if listening_since_a_look:
        await watched.unhealthy()

    await watched.told(lambda: watched.machine.xid(1, 79))
    reason = f"the driver reported XID 79: {NOTHING_NEW}"
    assert await watched.unhealthy() == ["", reason]
    watched.machine.recovery_action(1, 1)
    assert await watched.unhealthy() == ["", reason]

    watched.machine.reset(1)
    assert await watched.unhealthy() == ["", ""]


async def test_an_xid_just_before_a_look_is_part_of_it(
    watched_of: Callable[..., Watched],
) -> None:
    watched = watched_of(listen_every=3600.0)
    await watched.listening()
    watched.machine.xid(0, 79)

    assert await watched.unhealthy() != [""]


async def test_a_programs_xid_is_no_reason_to_close_a_gpu(
    watched_of: Callable[..., Watched],
) -> None:
    watched = watched_of()
    await watched.listening()

    await watched.told(lambda: watched.machine.xid(0, 31, gi_id=1))

    assert await watched.unhealthy() == [""]


async def test_a_reboot_ends_a_quarantine(watched_of: Callable[..., Watched]) -> None:
    watched = watched_of()
    await watched.listening()
    await watched.unhealthy()
    await watched.told(lambda: watched.machine.xid(0, 79))
    assert await watched.unhealthy() != [""]

    watched.node.reboot()

    assert await watched.unhealthy() == [""]


async def test_a_lost_gpu_does_not_keep_the_others_from_being_heard(
    watched_of: Callable[..., Watched],
) -> None:
    watched = watched_of(gpus=2)
    await watched.listening()
    await watched.unhealthy()

    await watched.told(lambda: watched.machine.lose(0))
    lost, other = await watched.unhealthy()
    assert (lost, other) == ("nvmlDeviceGetHandleByIndex: GPU is lost (NVML error 15)", "")
    await watched.listening()
    await watched.told(lambda: watched.machine.xid(1, 95))
    assert (await watched.unhealthy())[1].startswith("the driver reported XID 95")

    watched.machine.lose(0, False)
    assert (await watched.unhealthy())[0] == ""
    await watched.listening()
    await watched.told(lambda: watched.machine.xid(0, 48))
    assert (await watched.unhealthy())[0].startswith("the driver reported XID 48")


async def test_a_gpu_is_heard_again_after_its_reset(watched_of: Callable[..., Watched]) -> None:
    watched = watched_of()
    await watched.listening()
    await watched.told(lambda: watched.machine.reset(0))
    await watched.unhealthy()  # what the agent does when told

    await watched.told(lambda: watched.machine.xid(0, 79))

    assert await watched.unhealthy() != [""]


async def test_after_nvml_was_shut_down_the_events_are_registered_again(
    watched_of: Callable[..., Watched],
) -> None:
    watched = watched_of()
    await watched.listening()
    async with watched.node.driver.closed():
        pass
    await watched.listening()

    await watched.told(lambda: watched.machine.xid(0, 79))


@pytest.mark.parametrize("code", [3, 4, 13])
@pytest.mark.parametrize("symbol", [CREATE_SET, "nvmlDeviceGetSupportedEventTypes", REGISTER])
async def test_a_driver_without_events_is_left_at_that(
    watched_of: Callable[..., Watched],
    capfd: pytest.CaptureFixture[str],
    symbol: str,
    code: int,
) -> None:
    watched = watched_of()
    watched.machine.always(symbol, code)
    await until(lambda: watched.machine.calls(symbol))
    for _ in range(3):
        await watched.unhealthy()
    await asyncio.sleep(0)

    assert watched.changes == 0
    assert watched.machine.calls(WAIT) == []
    assert not watched.task.done()
    assert capfd.readouterr().out.count("gpu_events_not_told") == 1


async def test_an_event_set_that_fails_is_told_once_and_made_anew(
    watched_of: Callable[..., Watched], capfd: pytest.CaptureFixture[str]
) -> None:
    watched = watched_of()
    await watched.listening()
    before = len(watched.machine.calls(CREATE_SET))
    watched.machine.always(WAIT, 999)
    await until(lambda: len(watched.machine.calls(CREATE_SET)) > before + 3)
    told = watched.changes

    watched.machine.clear_faults()
    await watched.listening()
    await watched.told(lambda: watched.machine.xid(0, 79))

    assert told == 1
    assert capfd.readouterr().out.count("gpu_events_not_heard") == 1


async def test_what_was_told_before_an_error_is_not_forgotten(
    watched_of: Callable[..., Watched],
) -> None:
    watched = watched_of(listen_every=3600.0, retry_after=3600.0)
    await watched.listening()
    watched.machine.xid(0, 79)
    watched.machine.fail(WAIT, 999, after=1)
    assert await watched.unhealthy() == [""]  # the look itself goes on

    (reason,) = await watched.unhealthy()

    assert "XID 79" in reason


async def test_events_that_only_announce_news_are_followed_by_a_look(
    watched_of: Callable[..., Watched],
) -> None:
    watched = watched_of()
    await watched.listening()
    watched.machine.recovery_action(0, 4)

    await watched.told(lambda: watched.machine.event(0, GPU_RECOVERY_ACTION, 4))

    assert await watched.unhealthy() == ["the driver asks to drain and reset the GPU"]
    assert {XID_CRITICAL_ERROR, MIG_CONFIG_CHANGE, GPU_RECOVERY_ACTION} <= {
        1 << bit for bit in range(64) if MASK >> bit & 1
    }


async def test_without_a_watch_nobody_listens(node_of: NodeOf) -> None:
    node = node_of()
    await node.driver.discover()

    assert node.machine.calls(CREATE_SET) == []


async def test_sets_do_not_pile_up(watched_of: Callable[..., Watched]) -> None:
    watched = watched_of(gpus=2)
    await watched.listening()
    for _ in range(5):
        await watched.unhealthy()

    made = len(watched.machine.calls(CREATE_SET))
    freed = len(watched.machine.calls("nvmlEventSetFree"))
    assert made - freed == 1
