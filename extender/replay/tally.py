"""How pods fared in a replay, counted: in all, by profile and by tenant, and over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from extender.policy import InForce, PolicyName
from extender.replay.document import PolicyOutcome, Stretch, Tally, Waits
from extender.replay.played import Fate, Played
from extender.replay.recorded import Arrival, Recorded
from extender.replay.views import profiles, view_of

HOUR = 3600.0
STRETCHES = 120
"""Parts of the time in which what changes over it is told and drawn."""

OF_NO_TENANT = "(no tenant)"


def tenants(recorded: Recorded, policies: Iterable[InForce]) -> Mapping[str, str]:
    """Return whose each namespace is: by the first policy that has tenants, if one has.

    Else each namespace is a tenant.
    """
    rules = next((each.rules for each in policies if each.rules.tenants), None)
    names = dict.fromkeys(each.namespace for each in recorded.arrivals)
    if rules is None:
        return {name: name for name in names}
    found = {name: rules.tenant_of(recorded.namespaces.get(name, {})) for name in names}
    return {name: OF_NO_TENANT if of is None else of.name for name, of in found.items()}


def waited(fate: Fate, until: float) -> float:
    """Return how long a pod waited for its places, up to the record's end."""
    if fate.asked_at is None:
        return 0.0
    if fate.placed_at is not None:
        return fate.placed_at - fate.asked_at
    return (until if fate.ended_at is None else fate.ended_at) - fate.asked_at


def tally(fates: Sequence[Fate], until: float) -> Tally:
    """Count pods."""
    asked = [fate for fate in fates if fate.asked_at is not None]
    return Tally(
        len(asked),
        sum(bool(fate.refused) for fate in asked),
        sum(fate.placed_at is None for fate in asked),
        sum(waited(fate, until) for fate in asked) / HOUR,
    )


def outcome(recorded: Recorded, played: Played, tenant: Mapping[str, str]) -> PolicyOutcome:
    """Return what a replay came to; *tenant* has the tenant of each namespace."""
    until, arrivals = played.until, recorded.arrivals
    profile_of = wanted_profiles(recorded)
    waits = [waited(fate, until) for fate in played.fates if fate.refused]
    edges = np.linspace(0.0, until, STRETCHES + 1).tolist() if until else []
    return PolicyOutcome(
        played.policy,
        played.version,
        tally(played.fates, until),
        dict(Counter(fate.refused for fate in played.fates if fate.refused).most_common()),
        _waits(waits),
        played.meter.between((0.0, until) if until else (0.0, 1.0))[0],
        _by(arrivals, played, lambda each: profile_of[each.wanted]),
        _by(arrivals, played, lambda each: tenant[each.namespace]),
        tuple(_over_time(arrivals, played, edges)) if edges else (),
    )


def wanted_profiles(recorded: Recorded) -> Mapping[tuple[str, ...], str]:
    """Return by what each arrival wants the profiles that it comes to, in words.

    A resource that no node has is called by its own name.
    """
    bare = InForce.of(PolicyName.DEFAULT)
    known = profiles(view_of(recorded, node, bare) for node in recorded.nodes)

    def words(wanted: tuple[str, ...]) -> str:
        counts = Counter(known.get(each, each) for each in wanted)
        return " + ".join(
            name if count == 1 else f"{count} x {name}" for name, count in sorted(counts.items())
        )

    return {wanted: words(wanted) for wanted in {each.wanted for each in recorded.arrivals}}


def _by(
    arrivals: Sequence[Arrival], played: Played, of: Callable[[Arrival], str]
) -> dict[str, Tally]:
    groups: dict[str, list[Fate]] = {}
    for arrival, fate in zip(arrivals, played.fates, strict=True):
        groups.setdefault(of(arrival), []).append(fate)
    return {name: tally(groups[name], played.until) for name in sorted(groups)}


def _waits(seconds: Sequence[float]) -> Waits | None:
    if not seconds:
        return None
    median, p99, longest = np.quantile(seconds, (0.5, 0.99, 1.0)).tolist()
    return Waits(median, p99, longest)


def _over_time(
    arrivals: Sequence[Arrival], played: Played, edges: Sequence[float]
) -> Iterator[Stretch]:
    asked = counted(edges, [f.asked_at for f in played.fates if f.asked_at is not None])
    came = [f for f in played.fates if f.refused]
    refused = counted(edges, [f.asked_at for f in came if f.asked_at is not None])
    waiting = _waiting(edges, played)
    for at, gpus in enumerate(played.meter.between(edges)):
        yield Stretch(edges[at], gpus, int(asked[at]), int(refused[at]), float(waiting[at]))


def counted(
    edges: Sequence[float], times: Sequence[float], amounts: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Return how many of the *times* are in each stretch between *edges*, or what they amount to.

    The end of the last stretch is part of it.
    """
    found, _ = np.histogram(np.asarray(times, np.float64), np.asarray(edges), weights=amounts)
    return np.asarray(found, np.float64)


def _waiting(edges: Sequence[float], played: Played) -> NDArray[np.float64]:
    """Return how many pods waited in each stretch, in the mean."""
    spans = [
        (fate.asked_at, fate.asked_at + waited(fate, played.until))
        for fate in played.fates
        if fate.refused and fate.asked_at is not None
    ]
    at = np.asarray(edges)
    if not spans:
        return np.zeros(len(at) - 1)
    since, until = np.sort(np.array(spans), axis=0).T
    # The time waited up to each edge: of all that have begun, less what has ended since.
    total = np.array([(edge - since[since < edge]).sum() for edge in at])
    total -= np.array([(edge - until[until < edge]).sum() for edge in at])
    return np.asarray(np.diff(total) / np.diff(at), np.float64)
