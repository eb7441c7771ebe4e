"""How each operation of a script is made to happen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, assert_never

from tests.properties.nodeagent.whole.population import Population
from tests.properties.nodeagent.whole.rest import first_ready, settle
from tests.properties.nodeagent.whole.script import (
    AgentRestarted,
    Appeared,
    Ended,
    Intruded,
    KubeletRestarted,
    Planned,
    Rested,
    Served,
    Step,
    Withdrawn,
)
from tests.properties.nodeagent.whole.site import FOREIGN, HALF, SMALL
from tests.properties.nodeagent.whole.vm import OVER, PLANNED, RUNNING

_T = TypeVar("_T")

NOTHING = "nothing"
"""How the operations are counted that could not happen, nor anything instead."""
SIMPLE = Planned(half=False, places=(0,), init=(), apart=False)
FIRST = Served(which=None, rejected=False, struck=None)


async def perform(population: Population, step: Step) -> None:
    """Make an operation happen, or else what it lacks; check and count what has happened."""
    operation, site = step.operation, population.site
    match operation:
        case Planned():
            happened = await _plan(population, operation)
        case Withdrawn(which):
            happened = await _withdraw(population, which)
        case Served():
            happened = await _serve(population, operation)
        case Ended():
            happened = await _end(population, operation)
        case Intruded(half):
            await settle(population)
            await population.intrude(HALF if half else SMALL)
            happened = "intruded"
        case AgentRestarted():
            await site.restart_agent()
            happened = "agent restarted"
        case KubeletRestarted():
            await site.kubelet.restart()
            happened = "kubelet restarted"
        case Appeared(where):
            happened = _appear(population, where)
        case Rested():
            await settle(population)
            happened = "rested"
        case _:
            assert_never(operation)
    population.counts[happened] += 1
    await site.pause(step.pause)
    population.check()


async def _plan(population: Population, planned: Planned) -> str:
    profile = HALF if planned.half else SMALL
    free = population.free(profile)
    if not free and population.names(RUNNING):
        return await _end(population, Ended(planned.places[0], deleted=False, withdrawn=True))
    if not free:
        return await _withdraw(population, planned.places[0])
    places = sorted({_chosen(free, each) for each in planned.places})
    init = [min(each, len(places)) for each in planned.init]
    await population.plan(profile, places, init, planned.apart)
    return "planned"


async def _withdraw(population: Population, which: int) -> str:
    names = population.names(PLANNED, OVER)
    if not names:
        return NOTHING
    await population.withdraw(_chosen(names, which))
    return "withdrawn"


async def _serve(population: Population, served: Served) -> str:
    waiting = population.names(PLANNED)
    if not waiting:
        return await _plan(population, SIMPLE)
    if served.which is None:
        for name in population.names(OVER):  # it may be one of these that all others wait for
            await population.withdraw(name)
        name = await first_ready(population, waiting)
    elif not await population.ready(name := _chosen(waiting, served.which)):
        return NOTHING
    site, exchange = population.site, served.struck

    def strike(method: str, when: str) -> None:
        if (method, when) == exchange:
            site.strike_agent()

    site.kubelet.at_step = strike
    refusal = await population.serve(name, rejected=served.rejected)
    site.kubelet.at_step = lambda method, when: None
    if exchange:
        await site.restart_agent()
    return ("refused" if refusal else "served") + (", struck" if exchange else "")


async def _end(population: Population, ended: Ended) -> str:
    names = population.names(RUNNING)
    if not names:
        return await _serve(population, FIRST)
    name = _chosen(names, ended.which)
    await population.end(name, deleted=ended.deleted)
    if ended.withdrawn:
        await population.withdraw(name)
    return "ended"


def _appear(population: Population, where: int) -> str:
    if population.foreign and where % 2:
        population.disappear(_chosen(sorted(population.foreign), where // 2))
        return "disappeared"
    if free := population.free(FOREIGN):
        population.appear(_chosen(free, where // 2))
        return "appeared"
    return NOTHING


def _chosen(some: Sequence[_T], number: int) -> _T:
    return some[number % len(some)]
