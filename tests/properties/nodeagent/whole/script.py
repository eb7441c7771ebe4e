"""What may happen to a node, as values that a script is drawn of, and how each is made to happen.

The values say nothing of what is there when their turn comes, for that depends on how far the agent
has got: one of several is named by a number, of which there may be fewer. So the same script can be
played again, and means the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, assert_never

import msgspec
from hypothesis import strategies as st

from tests.properties.nodeagent.whole.pods import OVER, PLANNED, RUNNING, Population
from tests.properties.nodeagent.whole.site import FOREIGN, HALF, SMALL, Profile

_T = TypeVar("_T")

NOTHING = "nothing"
MOST = 64
"""Numbers are below this: more than there ever is of anything."""
EXCHANGES = (
    ("GetPreferredAllocation", "before"),
    ("GetPreferredAllocation", "after"),
    ("Allocate", "before"),
    ("Allocate", "after"),
)


class Planned(msgspec.Struct, frozen=True):
    """A pod is planned, at one place or two; *init* is what its init containers ask for."""

    half: bool
    places: tuple[int, ...]
    init: tuple[int, ...]
    apart: bool


SIMPLE = Planned(half=False, places=(0,), init=(), apart=False)


class Withdrawn(msgspec.Struct, frozen=True):
    """A pod that does not run leaves the plan."""

    which: int


class Served(msgspec.Struct, frozen=True):
    """A planned pod is bound: the first that may be, or a certain one if it may be just now.

    It may be *rejected* for another reason, once it has its devices; or the agent may end at one of
    the kubelet's exchanges with it.
    """

    which: int | None
    rejected: bool
    struck: tuple[str, str] | None


class Ended(msgspec.Struct, frozen=True):
    """A running pod ends, and perhaps is deleted; the extender hears of it, or not yet."""

    which: int
    deleted: bool
    withdrawn: bool


class Intruded(msgspec.Struct, frozen=True):
    """All comes to rest, and then a pod comes that nobody has planned."""

    half: bool


class AgentRestarted(msgspec.Struct, frozen=True):
    """The agent ends, and another begins."""


class KubeletRestarted(msgspec.Struct, frozen=True):
    """The kubelet ends, and another begins."""


class Appeared(msgspec.Struct, frozen=True):
    """Somebody makes a GPU instance, or destroys the one he has."""

    where: int


class Rested(msgspec.Struct, frozen=True):
    """All comes to rest: every planned pod runs."""


Operation = (
    Planned
    | Withdrawn
    | Served
    | Ended
    | Intruded
    | AgentRestarted
    | KubeletRestarted
    | Appeared
    | Rested
)


class Step(msgspec.Struct, frozen=True):
    """An operation, and for how long (in seconds) everybody may go on after it."""

    operation: Operation
    pause: float


_numbers = st.integers(0, MOST - 1)
_WEIGHTS: Sequence[tuple[st.SearchStrategy[Operation], int]] = (
    (
        st.builds(
            Planned,
            half=st.sampled_from([False, False, False, True]),
            places=st.lists(_numbers, min_size=1, max_size=2).map(tuple),
            init=st.lists(st.integers(0, 2), max_size=2).map(tuple),
            apart=st.booleans(),
        ),
        8,
    ),
    (
        st.builds(
            Served,
            which=st.sampled_from([None, None, None, *range(3)]),
            rejected=st.sampled_from([False, False, False, False, True]),
            struck=st.sampled_from([None] * 12 + [*EXCHANGES]),
        ),
        10,
    ),
    (st.builds(Ended, which=_numbers, deleted=st.booleans(), withdrawn=st.booleans()), 7),
    (st.builds(Withdrawn, which=_numbers), 2),
    (st.builds(AgentRestarted), 3),
    (st.builds(KubeletRestarted), 3),
    (st.builds(Appeared, where=_numbers), 2),
    (st.builds(Intruded, half=st.booleans()), 1),
    (st.builds(Rested), 1),
)
_operations = st.sampled_from([each for each, weight in _WEIGHTS for _ in range(weight)])
_pauses = st.sampled_from([0.0, 0.0, 0.0, 0.002, 0.01, 0.03])


def scripts(length: int) -> st.SearchStrategy[list[Step]]:
    """Draw so many operations with their pauses."""
    step = st.builds(Step, operation=_operations.flatmap(lambda drawn: drawn), pause=_pauses)
    return st.lists(step, min_size=length, max_size=length)


async def perform(population: Population, step: Step) -> None:
    """Make an operation happen; where it cannot, what has to happen before it does instead."""
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
            await population.settle()
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
            await population.settle()
            happened = "rested"
        case _:
            assert_never(operation)
    population.counts[happened] += 1
    await site.pause(step.pause)
    population.check()


async def _plan(population: Population, planned: Planned) -> str:
    profile: Profile = HALF if planned.half else SMALL
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
        name = await population.first_ready(waiting)
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
        return await _serve(population, Served(None, rejected=False, struck=None))
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
