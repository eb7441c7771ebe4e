"""What if: how much of which profile still fits, how many GPUs are needed, how long they last.

On a fleet as it stands or with nodes added and removed, under a policy that may be another than
the cluster's. Rules of pools, tenants and headroom are not kept: this is about room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from extender.simulation.at_best import AtBest
from extender.simulation.baseline import Baseline
from extender.simulation.changes import Added, changed, held_on
from extender.simulation.contenders import Contender
from extender.simulation.growth import TooLittle
from extender.simulation.more import More, more, seated
from extender.simulation.outlook import Growing, outlook
from extender.simulation.rooms import Room, fitting, needed, rooms
from extender.simulation.stand import Stand, fleet_of, named_kinds, stand
from extender.simulation.wishes import shares


class Asked(msgspec.Struct, frozen=True):
    """What is to be found out; ``mix`` is in words, "" for what was asked for lately."""

    adding: tuple[Added, ...] = ()
    removing: tuple[str, ...] = ()
    mix: str = ""
    seeds: tuple[int, ...] = tuple(range(31_000, 31_020))


class Totals(msgspec.Struct, frozen=True):
    """A fleet in sums; ``gpus`` and slices are of nodes that take something new."""

    nodes: int
    ready_nodes: int
    gpus: int
    slices: int
    used_slices: int
    gpus_aside: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out.

    By profile name: ``wanted``, what pods have or wait for (``waiting``: of these, who waits);
    ``displaced``, what pods have on removed nodes, and ``homeless``, those of them that fit nowhere
    without moving others; ``unserved``, what is wanted and no GPU here has. ``gpus_needed``: how
    many GPUs of a model alone hold what is wanted, at best; None if it lacks a profile.
    """

    at: str
    policy: str
    adding: tuple[Added, ...]
    removing: tuple[str, ...]
    before: Totals
    fleet: Totals
    wanted: Mapping[str, int]
    waiting: Mapping[str, int]
    displaced: Mapping[str, int]
    homeless: Mapping[str, int]
    unserved: Mapping[str, int]
    profiles: Mapping[str, Room]
    mix: More | TooLittle
    gpus_needed: Mapping[str, int | None]
    growing: Growing | TooLittle


def what_if(
    baseline: Baseline, asked: Asked, contender: Callable[[Baseline], Contender], policy: str
) -> Answer:
    """Find out what was asked.

    *contender* is the policy for a fleet, and *policy* its name.

    Raises:
        Unchangeable: a node to be removed is not there.
        UnknownMix: the mix asks for what the fleet has not.
    """
    change = changed(baseline, asked.adding, asked.removing)
    after = change.baseline
    wishes, kinds = shares(after, asked.mix), named_kinds(after)
    if not isinstance(wishes, TooLittle):
        kinds = (*kinds, *(kind for kind in wishes if kind not in kinds))
    there = stand(after, kinds, contender(after))
    parked = _parked(after, there)
    displaced, _ = there.numbers(change.displaced)
    there, homeless = seated(there, displaced)
    wanted = _wanted(baseline)
    numbers, unserved = there.numbers(wanted)
    at_best = AtBest(there.loose_groups, kinds)
    earlier = fitting(stand(baseline, named_kinds(baseline), contender(baseline)))
    return Answer(
        at=baseline.at,
        policy=policy,
        adding=asked.adding,
        removing=asked.removing,
        before=totals(baseline),
        fleet=totals(after),
        wanted=dict(wanted),
        waiting=baseline.requests.waiting,
        displaced=change.displaced,
        homeless={kinds[at].name: count for at, count in enumerate(homeless) if count},
        unserved=dict(unserved),
        profiles=dict(rooms(after, there, at_best, homeless, earlier)),
        mix=wishes
        if isinstance(wishes, TooLittle)
        else more(there, at_best, homeless, [wishes.get(kind, 0.0) for kind in kinds], asked.seeds),
        gpus_needed=needed(there, numbers),
        growing=outlook(baseline, kinds, numbers, parked, at_best),
    )


def totals(baseline: Baseline) -> Totals:
    """Sum a fleet up."""
    fleet, gpus = fleet_of(baseline)
    used = 0
    for gpu in gpus:
        by_id = baseline.kin[gpu.kin].geometry.by_id
        used += sum(by_id[held.profile_id].size for held in gpu.held)
    return Totals(
        len(baseline.nodes),
        sum(not node.why for node in baseline.nodes),
        fleet.gpus,
        fleet.memory_slices,
        used,
        sum(len(node.gpus) for node in baseline.nodes if node.why),
    )


def _wanted(baseline: Baseline) -> Counter[str]:
    found = Counter(baseline.requests.waiting)
    for node in baseline.nodes:
        found.update(held_on(baseline, node))
    return found


def _parked(baseline: Baseline, there: Stand) -> tuple[int, ...]:
    """Return what pods have where not everything may be moved, by kind: it stays there."""
    every: Counter[str] = Counter()
    for node in baseline.nodes:
        every.update(held_on(baseline, node))
    numbers, _ = there.numbers(every)
    return tuple(total - loose for total, loose in zip(numbers, there.held, strict=True))
