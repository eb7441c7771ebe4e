"""How the fleet stood when a log ended is what its extender would have told of it then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from extender.decision_log import DecisionLog, LogUnreadable, Run, runs, survey
from extender.decision_log.layout import End, Entry, Gap, Why
from extender.decision_log.reading import Item
from extender.policy import InForce, PolicyName
from extender.service import Service
from extender.simulation.baseline import Baseline
from extender.simulation.history import DAY
from tests.decisions import Notebook
from tests.fakes.world import QUICK, World
from tests.unit.decision_log.test_demand import two_come_and_one_leaves
from tests.unit.decision_log.test_reproduction import NODES, scheduled, story, uid

NEW_YEAR = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) // DAY  # when a notebook begins


class Lines:
    """Stands for a file of a log that has these *items*."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def items(self) -> Iterator[Item]:
        yield from self._items


def run(notebook: Notebook, change: Callable[[list[Item]], Sequence[Item]] = list) -> Run:
    part: Any = Lines(change(list(notebook.items())))
    return Run(notebook.header, (part,))


async def lived(folder: Path, world: World, *, more: Sequence[str] = ()) -> Baseline:
    """Have an extender live and keep a log, and return what it tells of the fleet in the end."""
    with DecisionLog(folder, policy=InForce.of(PolicyName.DEFAULT), settings=QUICK) as log:
        async with world.extender(QUICK, witness=log) as service:
            log.follow(service.knowledge)
            if more:
                async with world.obedient(*NODES):
                    for name in more:
                        await bound(service, await world.add_pod(name, "1-10C"))
            else:
                await story(world, service)
            return await service.surveyor.baseline()


async def bound(service: Service, pod: dict[str, Any]) -> None:
    """Ask until a pod is bound: while those that wait are placed together, it waits with them."""
    async with asyncio.timeout(20):
        while uid(pod) not in service.knowledge.assigned:
            await scheduled(service, pod)
            await asyncio.sleep(0.002)


async def fleet() -> World:
    world = World()
    await world.add_namespace("default", team="red")
    for name in NODES:
        await world.add_node(name, gpus=2, rack="a")
    return world


async def test_a_log_tells_of_the_fleet_what_its_extender_would_have_told(tmp_path: Path) -> None:
    told = await lived(tmp_path, await fleet())

    found = survey(runs([tmp_path]))

    assert (found.nodes, found.kin, found.policy) == (told.nodes, told.kin, told.policy)
    assert found.requests.waiting == told.requests.waiting
    assert found.requests.waiting
    assert found.requests.lately == pytest.approx(told.requests.lately, abs=0.002)
    (today,) = found.requests.history.periods
    assert today == int(datetime.fromisoformat(found.at).timestamp()) // DAY


async def test_of_several_runs_the_last_tells_of_the_fleet_and_all_of_requests(
    tmp_path: Path,
) -> None:
    world = await fleet()
    first = await lived(tmp_path, world)
    second = await lived(tmp_path, world, more=["late"])

    found = survey(runs([tmp_path]))

    assert found.nodes == second.nodes != first.nodes
    both = {
        name: first.requests.lately.get(name, 0.0) + second.requests.lately.get(name, 0.0)
        for name in first.requests.lately.keys() | second.requests.lately.keys()
    }
    assert found.requests.lately == pytest.approx(both, abs=0.01)


async def test_what_was_wanted_is_counted_as_each_day_ends() -> None:
    notebook, _ = await two_come_and_one_leaves()

    history = survey([run(notebook, two_days_pass)]).requests.history

    assert history.periods == (NEW_YEAR, NEW_YEAR + 2)
    # One was there, one came and left; whoever finds no room waits to the end.
    assert history.wanted == {"3g.40gb": (2, 1), "7g.80gb": (1, 1)}


async def test_a_run_that_began_before_takes_no_days_away_from_one_that_led_meanwhile() -> None:
    notebook, _ = await two_come_and_one_leaves()
    later = msgspec.structs.replace(notebook.header, began="2026-01-02T00:00:00Z")
    meanwhile = msgspec.structs.replace(run(notebook), header=later)

    history = survey([run(notebook, two_days_pass), meanwhile]).requests.history

    assert history.periods == (NEW_YEAR, NEW_YEAR + 1, NEW_YEAR + 2)
    assert survey([meanwhile]).requests.history.periods == (NEW_YEAR + 1,)


async def test_a_log_whose_calls_are_missing_tells_of_no_fleet() -> None:
    notebook, _ = await two_come_and_one_leaves()

    def with_a_gap(items: list[Item]) -> Sequence[Item]:
        return [*items[:5], Gap(2, Why.DISK), *items[7:]]

    def cut_short(items: list[Item]) -> Sequence[Item]:
        return [*items[:-1], End(len(items))]

    def just_begun(items: list[Item]) -> Sequence[Item]:
        return []

    later = msgspec.structs.replace(notebook.header, file=2)
    begun = msgspec.structs.replace(run(notebook, just_begun), header=later)
    for lacking in (run(notebook, with_a_gap), run(notebook, cut_short), begun):
        with pytest.raises(LogUnreadable, match="calls are missing"):
            survey([lacking])
    found = survey([run(notebook), run(notebook, with_a_gap)])
    assert found.nodes == survey([run(notebook)]).nodes


@pytest.mark.parametrize("began", ["yesterday", "2026-13-01T00:00:00Z"])
async def test_a_header_that_makes_no_sense_is_told(began: str) -> None:
    notebook, _ = await two_come_and_one_leaves()
    senseless = msgspec.structs.replace(notebook.header, began=began)

    with pytest.raises(LogUnreadable, match="its header makes no sense"):
        survey([msgspec.structs.replace(run(notebook), header=senseless)])


async def test_a_clock_that_makes_no_sense_is_told() -> None:
    notebook, _ = await two_come_and_one_leaves()

    def for_ages(items: list[Item]) -> Sequence[Item]:
        call = next(each for each in reversed(items) if isinstance(each, Entry) and each.at)
        return [msgspec.structs.replace(e, at=(1e18,)) if e is call else e for e in items]

    with pytest.raises(LogUnreadable, match="the clock has read"):
        survey([run(notebook, for_ages)])


def two_days_pass(items: list[Item]) -> Sequence[Item]:
    """Have two days go by before a pod is seen to be gone."""
    gone = next(
        at
        for at, item in enumerate(items)
        if isinstance(item, Entry) and item.call == "Knowledge.pod_gone"
    )
    return [
        msgspec.structs.replace(item, at=tuple(each + 2 * DAY for each in item.at))
        if isinstance(item, Entry) and at >= gone
        else item
        for at, item in enumerate(items)
    ]
