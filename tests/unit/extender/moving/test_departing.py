"""For how long an eviction that is refused is asked for, and when that time begins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

import msgspec
import pytest

from extender.moving import Departure, Kind, Leg
from extender.moving.order import Seat
from extender.service import Service
from extender.service.departing import CANCELLED_SECONDS, LONGEST_PAUSE_SECONDS, Departing
from extender.service.ports import Budget, EvictionRefused
from extender.service.relocation import Leaving, Relocator
from nodeagent.api.gpunode import OwnerRef, PodRef

POD = PodRef("default", "vm-1", "uid-1")
SEAT = Seat("node-1", "GPU-0", 19, 0, 1)
LEG = Leg(OwnerRef("VirtualMachine", "default", "vm"), POD, "1-10C", SEAT, SEAT)
EVICTED = Departure(POD, Kind.EVICTION)


class Strict:
    """Lets nobody be evicted."""

    async def budgets(self, namespaces: Collection[str]) -> Sequence[Budget]:
        return ()

    async def rehearse(self, pod: PodRef) -> None:
        await self.evict(pod)

    async def evict(self, pod: PodRef) -> None:
        raise EvictionRefused("its budget allows no more")


class Keepers:
    """Owners that always make another pod; what *leaves* goes on for ever."""

    def __init__(self, leaves: Leaving = Leaving.NOT) -> None:
        self._leaves = leaves
        self.cancelled: list[str] = []

    async def leaves(self, owner: OwnerRef, pod: PodRef, name: str) -> Leaving:
        return self._leaves

    async def cancel(self, owner: OwnerRef, name: str) -> None:
        self.cancelled.append(name)

    async def movable(self, owner: OwnerRef) -> bool:
        return True

    async def comes_back(self, owner: OwnerRef) -> bool:
        return True


class Asking:
    """Asks by turns for an eviction, as the mover does, on a clock of its own."""

    def __init__(self, service: Service) -> None:
        self.patience = service.settings.eviction_patience_seconds
        self.now = 0.0
        service.knowledge.clock = lambda: self.now
        self._departing = Departing(service.knowledge, Strict(), cast(Relocator, Keepers()))

    async def until_given_up(self, name: str = "move-1", *, most: float = 1000.0) -> float:
        """Return for how many seconds it was asked for, *most* where it still is."""
        began = self.now
        while not await self._departing.leave(LEG, EVICTED, name, lambda: True):
            if self.now - began >= most:
                break
            self.now += 1.0
        return self.now - began


@pytest.fixture
def asking(service: Service) -> Asking:
    return Asking(service)


async def test_a_refused_eviction_is_asked_for_until_patience_ends(asking: Asking) -> None:
    assert asking.patience <= await asking.until_given_up() <= asking.patience + 10.0


async def test_the_policy_may_have_more_patience_with_moves(
    asking: Asking, service: Service
) -> None:
    rules = msgspec.structs.replace(service.knowledge.in_force.moving, patience=600)
    service.knowledge.adopt(msgspec.structs.replace(service.knowledge.in_force, moving=rules))

    assert 600.0 <= await asking.until_given_up() <= 610.0


async def test_the_eviction_of_another_order_has_its_own_time(asking: Asking) -> None:
    await asking.until_given_up("move-1")

    assert await asking.until_given_up("move-2") >= asking.patience


async def test_the_time_of_a_refused_eviction_begins_anew_after_a_pause(asking: Asking) -> None:
    await asking.until_given_up(most=3.0)
    asking.now += asking.patience + 2 * LONGEST_PAUSE_SECONDS  # moves are paused

    assert await asking.until_given_up() >= asking.patience


def departing(service: Service, keepers: Keepers) -> Departing:
    return Departing(service.knowledge, Strict(), cast(Relocator, keepers))


MIGRATED = Departure(POD, Kind.LIVE)


async def test_a_migration_goes_on_unless_whoever_asks_cancels_it(service: Service) -> None:
    keepers = Keepers(Leaving.MIGRATING)
    leaving = departing(service, keepers)

    assert not await leaving.stays(LEG, MIGRATED, "move-1", cancels=False, overdue=False)
    assert keepers.cancelled == []
    assert not await leaving.stays(LEG, MIGRATED, "move-1", cancels=True, overdue=False)
    assert keepers.cancelled == ["move-1"]


async def test_a_migration_that_cannot_be_taken_back_holds_its_order_for_so_long_and_no_longer(
    service: Service,
) -> None:
    now = 0.0
    service.knowledge.clock = lambda: now
    leaving = departing(service, Keepers(Leaving.MIGRATING))
    while not await leaving.stays(LEG, MIGRATED, "move-1", cancels=True, overdue=False):
        now += 1.0

    assert now == CANCELLED_SECONDS
    another = await leaving.stays(LEG, MIGRATED, "move-2", cancels=True, overdue=False)
    assert not another


async def test_a_vm_that_is_being_stopped_is_waited_for_until_it_is_overdue(
    service: Service,
) -> None:
    leaving = departing(service, Keepers(Leaving.STOPPING))
    stopped = Departure(POD, Kind.RESTART)

    assert not await leaving.stays(LEG, stopped, "move-1", cancels=True, overdue=False)
    assert await leaving.stays(LEG, stopped, "move-1", cancels=True, overdue=True)
