"""A shadow beside the live policy, and the same time once more with its policy promoted instead.

A fleet fills up under one policy. Then a shadow with another begins, on the layout there is, and
the demand drifts: the shadow says how many more VMs its policy would refuse, with an interval. Once
more, with the same demand to the same moment, that policy is promoted there: so many more it does
refuse. Both ways for a seed: two rows that share their demand, and so are not independent.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import msgspec

from benchmarks.shadow.site import Beside, Site
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
    """How many VMs were refused live when they came, and what the shadow said, if there was one."""

    refused: int
    evidence: Evidence | None = None


class Row(msgspec.Struct, frozen=True):
    """What a shadow said of a policy beside another, and what that came to when it was promoted.

    ``predicted`` is how many more VMs than the live policy it was to refuse, of ``vms`` that came;
    ``interval`` is the half-width of what is to hold that, ``wider`` of what is to hold what
    happens live (95 %), both None if the shadow could not tell. ``actual`` is how many more it did
    refuse. ``said`` and ``refused`` are the counts themselves.
    """

    seed: int
    live: str
    shadow: str
    vms: int
    predicted: float
    interval: float | None
    wider: float | None
    actual: int
    said: int
    refused: int

    @property
    def error(self) -> float:
        """By how much the shadow was wrong."""
        return abs(self.predicted - self.actual)

    @property
    def within(self) -> bool | None:
        """Whether the wider interval holds what happened; None without one."""
        return None if self.wider is None else self.error <= self.wider

    @property
    def signed_alike(self) -> bool | None:
        """Whether it said rightly which policy refuses more; None where neither did."""
        return None if not self.actual else self.predicted * self.actual > 0


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
    scenario: Scenario,
    vms: Sequence[Vm],
    live: InForce,
    *,
    begins: int = 0,
    shadow: InForce | None = None,
    promoted: InForce | None = None,
    patience: float,
) -> Lived:
    """Let a policy decide live; who waits so many seconds gives up.

    Before the VM of number *begins* comes, a *shadow* begins beside it, or another policy is
    *promoted*; who comes from there on is counted.
    """
    site = Site(
        live,
        model=scenario.model,
        gpus=scenario.gpus,
        gpus_per_node=scenario.gpus_per_node,
    )
    beside: Beside | None = None
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

    for number, vm in enumerate(vms):
        until(vm.at)
        site.turn_to(vm.at)
        if number == begins:
            beside = None if shadow is None else site.beside(shadow)
            if promoted is not None:
                site.adopt(promoted)
        if site.comes(vm.uid, vm.wanted):
            seated(vm.uid)
        else:
            refused += number >= begins
            heapq.heappush(ends, (vm.at + patience, vm.uid, False))
        if beside is not None:
            beside.catch_up()
    return Lived(refused, None if beside is None else beside.evidence())


def foretold(
    scenario: Scenario,
    policies: tuple[InForce, InForce],
    names: tuple[str, str],
    seed: int,
    *,
    begins: int,
    patience: float,
) -> Row:
    """Return what the second policy was said to come to beside the first, and came to instead."""
    vms, (live, shadow) = demand(scenario, seed), policies
    stays = lived(scenario, vms, live, begins=begins, shadow=shadow, patience=patience)
    changes = lived(scenario, vms, live, begins=begins, promoted=shadow, patience=patience)
    of = stays.evidence
    assert of is not None
    assert of.refusals.live == stays.refused, "the shadow counts what happens live"
    return Row(
        seed=seed,
        live=names[0],
        shadow=names[1],
        vms=of.refusals.asked,
        predicted=of.refusals_more.mean,
        interval=of.refusals_more.ci95,
        wider=of.predicted_within,
        actual=changes.refused - stays.refused,
        said=of.refusals.shadow,
        refused=changes.refused,
    )


def both_ways(
    scenario: Scenario,
    policies: tuple[InForce, InForce],
    names: tuple[str, str],
    seed: int,
    *,
    begins: int,
    patience: float,
) -> tuple[Row, Row]:
    """Return what each of two policies was said to come to beside the other."""
    there = foretold(scenario, policies, names, seed, begins=begins, patience=patience)
    policies, names = (policies[1], policies[0]), (names[1], names[0])
    back = foretold(scenario, policies, names, seed, begins=begins, patience=patience)
    return there, back
