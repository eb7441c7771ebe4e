"""Small records for tests, and a judge of who has what that shares no code with what decides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from extender.policy import InForce, PolicyName
from extender.policy.file import parsed
from extender.replay.played import Played
from extender.replay.recorded import (
    Arrival,
    Departure,
    Outcome,
    Place,
    Recorded,
    RecordedGpu,
    RecordedNode,
)
from nodeagent.api import resources
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Mode

HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
H100 = MODELS["H100-80GB"]
SIZES = {profile.name: profile.size for profile in H100.geometry.profiles}
FIRST_FIT = InForce.of(PolicyName.FIRST_FIT)


def policy(text: str) -> InForce:
    """Return the policy of a file, given without its head."""
    return parsed((HEAD + text).encode(), "test").in_force


def node(name: str = "a", gpus: int = 1, **fields: Any) -> RecordedNode:
    """Return a node of H100s, called ``a/0`` and so on."""
    listed = tuple(RecordedGpu(at, f"{name}/{at}", "H100-80GB") for at in range(gpus))
    return RecordedNode(**{"name": name, "gpus": listed, "mode": Mode.CONTAINER, **fields})


def vm(at: float, uid: str, *profiles: str, **fields: Any) -> Arrival:
    """Return a VM that comes, and asks for a profile or several."""
    wanted = tuple(resources.of_profile(name) for name in profiles)
    usual: dict[str, Any] = {"namespace": "n", "name": uid, "wanted": wanted}
    return Arrival(at=at, uid=uid, **(usual | fields))


def stayed(uid: str, since: float, until: float, *places: Place) -> tuple[Outcome, Departure]:
    """Return that a VM was placed at a time and left at another."""
    at = places or (Place("a", "a/0", "1g.10gb", 0),)
    return Outcome(since, uid, at), Departure(until, uid)


def recorded(*arrivals: Arrival, nodes: Sequence[RecordedNode] = (), **fields: Any) -> Recorded:
    """Return a record of VMs that come to nodes; one of one GPU, if no other is given."""
    return Recorded(
        **{
            "recorded": 1,
            "begins": "2026-01-01T00:00:00Z",
            "nodes": tuple(nodes) or (node(),),
            "arrivals": arrivals,
            **fields,
        }
    )


def with_stays(of: Recorded, *stays: tuple[Outcome, Departure]) -> Recorded:
    """Return a record in which some VMs stayed so long."""
    outcomes = sorted((outcome for outcome, _ in stays), key=lambda each: each.at)
    departures = sorted((departure for _, departure in stays), key=lambda each: each.at)
    return msgspec.structs.replace(of, outcomes=tuple(outcomes), departures=tuple(departures))


class Had(msgspec.Struct, frozen=True):
    """A VM's place, and for how long it had it; the end is no part of it."""

    uid: str
    namespace: str
    place: Place
    since: float
    until: float

    @property
    def slices(self) -> set[tuple[str, int]]:
        """The memory slices it had, by their GPUs."""
        size = SIZES[self.place.profile]
        return {(self.place.gpu, at) for at in range(self.place.start, self.place.start + size)}


def had(of: Recorded, played: Played) -> list[Had]:
    """Return every place that was given, or that somebody had from the beginning."""
    left = {each.uid: each.at for each in of.departures}
    found = [
        Had(each.uid, each.namespace, place, 0.0, left.get(each.uid, math.inf))
        for each in of.residents
        for place in each.places
    ]
    for arrival, fate in zip(of.arrivals, played.fates, strict=True):
        until = math.inf if fate.ended_at is None else fate.ended_at
        for place in fate.places:
            assert fate.placed_at is not None
            found.append(Had(arrival.uid, arrival.namespace, place, fate.placed_at, until))
    return found


def moments(places: Iterable[Had]) -> Iterator[list[Had]]:
    """Yield all that is had at once, at each moment at which something is given."""
    listed = list(places)
    for at in sorted({each.since for each in listed}):
        yield [each for each in listed if each.since <= at < each.until]


def faults(of: Recorded, played: Played) -> Iterator[str]:
    """Yield slices that are given twice, and places that no GPU has."""
    for now in moments(had(of, played)):
        slices = Counter(each for place in now for each in place.slices)
        yield from (f"{each} is given {n} times" for each, n in slices.items() if n > 1)
    for each in had(of, played):
        profile = next(p for p in H100.geometry.profiles if p.name == each.place.profile)
        if each.place.start not in profile.starts:
            yield f"{each.place} is no place for it"


def over_cap(of: Recorded, played: Played, cap: int, whose: Mapping[str, str]) -> Iterator[str]:
    """Yield moments at which a tenant has more than *cap* memory slices."""
    for now in moments(had(of, played)):
        used: Counter[str] = Counter()
        for each in now:
            used[whose.get(each.namespace, "")] += SIZES[each.place.profile]
        yield from (
            f"{tenant} has {n} of {cap}" for tenant, n in used.items() if tenant and n > cap
        )


def together(of: Recorded, played: Played, tenant: str, whose: Mapping[str, str]) -> Iterator[str]:
    """Yield GPUs that a *tenant* shares with anybody."""
    for now in moments(had(of, played)):
        on: dict[str, set[str]] = {}
        for each in now:
            on.setdefault(each.place.gpu, set()).add(whose.get(each.namespace, ""))
        yield from (f"{gpu}: {of}" for gpu, of in on.items() if tenant in of and len(of) > 1)
