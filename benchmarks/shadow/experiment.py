"""Two policies, each live with the other beside it, before the same drifting demand.

A shadow says how many more VMs its policy would refuse than the live one, with an interval. With
their places exchanged, its policy is live: so many more it does refuse. That the interval holds it
is what is asked.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import msgspec

from benchmarks.shadow.site import Site
from extender.policy import InForce
from extender.shadow import Evidence
from extender.simulation.scenario import Scenario, stage
from nodeagent.api import resources

UNIT_SECONDS = 86_400.0
"""A VM's mean lifetime."""


class Vm(msgspec.Struct, frozen=True):
    """A VM that comes ``at`` a time and stays, once it has its place, for ``lasts``; in seconds."""

    at: float
    uid: str
    wanted: tuple[str, ...]
    lasts: float


class Lived(msgspec.Struct, frozen=True):
    """What happened live: how many VMs were refused when they came, and what the shadow said."""

    refused: int
    evidence: Evidence


class Pair(msgspec.Struct, frozen=True):
    """What a seed's shadow said of a policy, and what that one came to live.

    ``predicted`` is how many more VMs than the live policy it was to refuse, with the half-width of
    the ``interval`` that is to hold what happens live, None if the shadow could not tell;
    ``actual`` is how many more it did refuse.
    ``said`` and ``refused`` are the counts themselves.
    """

    seed: int
    live: str
    shadow: str
    vms: int
    predicted: float
    interval: float | None
    actual: int
    said: int
    refused: int

    @property
    def within(self) -> bool | None:
        """Whether the interval holds what happened; None without one."""
        if self.interval is None:
            return None
        return abs(self.predicted - self.actual) <= self.interval


def demand(scenario: Scenario, seed: int) -> list[Vm]:
    """Return the VMs of a scenario, in the order in which they come."""
    on = stage(scenario)
    drawn = on.demand(seed)
    names = [profile.name for kind in on.kinds if (profile := kind.profiles[0]) is not None]
    wanted = [(resources.of_profile(name),) for name in names]
    return [
        Vm(at * UNIT_SECONDS, f"vm-{number}", wanted[kind], lasts * UNIT_SECONDS)
        for number, (at, kind, lasts) in enumerate(
            zip(drawn.times, drawn.kinds, drawn.lifetimes, strict=True)
        )
    ]


def lived(
    scenario: Scenario, vms: Sequence[Vm], live: InForce, shadow: InForce, *, patience: float
) -> Lived:
    """Let a policy decide live with another beside it; who waits so many seconds gives up."""
    site = Site(
        live,
        model=scenario.model,
        gpus=scenario.gpus,
        gpus_per_node=scenario.gpus_per_node,
    )
    beside = site.beside(shadow)
    by_uid = {vm.uid: vm for vm in vms}
    ends: list[tuple[float, str, bool]] = []
    there: set[str] = set()
    refused = 0

    def seated(uid: str) -> None:
        there.add(uid)
        heapq.heappush(ends, (site.now + by_uid[uid].lasts, uid, True))

    def until(at: float) -> None:
        while ends and ends[0][0] <= at:
            moment, uid, stayed = heapq.heappop(ends)
            if stayed is not (uid in there):
                continue  # who was to give up has its place by now
            site.turn_to(moment)
            there.discard(uid)
            for each in site.leaves(uid):
                seated(each)

    for vm in vms:
        until(vm.at)
        site.turn_to(vm.at)
        if site.comes(vm.uid, vm.wanted):
            seated(vm.uid)
        else:
            refused += 1
            heapq.heappush(ends, (vm.at + patience, vm.uid, False))
        beside.catch_up()
    return Lived(refused, beside.evidence())


def swapped(
    scenario: Scenario,
    policies: tuple[InForce, InForce],
    names: tuple[str, str],
    seed: int,
    *,
    patience: float,
) -> tuple[Pair, Pair]:
    """Return what each of two policies was said to come to beside the other, and came to live."""
    vms = demand(scenario, seed)
    one = lived(scenario, vms, policies[0], policies[1], patience=patience)
    other = lived(scenario, vms, policies[1], policies[0], patience=patience)
    return (
        _pair(seed, names, one, other),
        _pair(seed, (names[1], names[0]), other, one),
    )


def _pair(seed: int, names: tuple[str, str], live: Lived, then: Lived) -> Pair:
    of = live.evidence
    assert of.refusals.live == live.refused, "the shadow counts what happens live"
    return Pair(
        seed=seed,
        live=names[0],
        shadow=names[1],
        vms=of.refusals.asked,
        predicted=of.refusals_more.mean,
        interval=of.predicted_within,
        actual=then.refused - live.refused,
        said=of.refusals.shadow,
        refused=then.refused,
    )
