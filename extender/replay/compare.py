"""A record under one policy and under others, compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from extender.policy import InForce
from extender.replay.blocks import Paired, paired
from extender.replay.document import (
    About,
    Comparison,
    Difference,
    Fidelity,
    How,
    Kind,
    PolicyOutcome,
    Report,
)
from extender.replay.played import Fate, Played
from extender.replay.recorded import Recorded
from extender.replay.stays import first, stays
from extender.replay.tally import outcome, tenants
from extender.replay.verdict import Chances, verdict
from extender.simulation.paired import holm


def report(recorded: Recorded, policies: Sequence[InForce], replays: Sequence[Played]) -> Report:
    """Return what replays of a record come to; the first is under the recorded policy."""
    whose = tenants(recorded, policies)
    outcomes = tuple(outcome(recorded, each, whose) for each in replays)
    fidelity = _fidelity(recorded, replays[0])
    about = _about(recorded)
    pairs = [paired(replays[0], each) for each in replays[1:]]
    certain = _adjusted(pairs)
    return Report(
        about,
        fidelity,
        outcomes,
        tuple(
            _comparison(recorded, (replays[0], ours), (outcomes[0], of), pair, p, about, fidelity)
            for ours, of, pair, p in zip(replays[1:], outcomes[1:], pairs, certain, strict=True)
        ),
    )


def _adjusted(pairs: Sequence[Paired]) -> list[Chances]:
    """Return how likely differences are by chance, adjusted for how many are asked for."""
    found = {}
    for at, pair in enumerate(pairs):
        asked = {"refused": pair.refused, "waited": pair.waited_hours, "whole": pair.whole}
        for what, of in asked.items():
            if of.p is not None:
                found[f"{what} {at}"] = of.p
    adjusted = holm(found)
    return [
        Chances(*(adjusted.get(f"{what} {at}") for what in ("refused", "waited", "whole")))
        for at in range(len(pairs))
    ]


def _about(recorded: Recorded) -> About:
    return About(
        begins=recorded.begins,
        seconds=recorded.ends,
        policy=recorded.policy.document if len(recorded.policy.document) < 64 else "",
        version=recorded.policy.version,
        nodes=len(recorded.nodes),
        gpus=sum(len(node.gpus) for node in recorded.nodes),
        residents=len(recorded.residents),
        arrivals=len(recorded.arrivals),
        unknown_stays=sum(not each.known for each in stays(recorded)),
        gaps=recorded.gaps,
        unequal_gangs=_unequal_gangs(recorded),
    )


def _unequal_gangs(recorded: Recorded) -> int:
    gangs = {(each.namespace, each.gang) for each in recorded.arrivals if each.gang is not None}
    sizes = Counter((namespace, gang.name) for namespace, gang in gangs)
    return sum(count > 1 for count in sizes.values())


def _comparison(
    recorded: Recorded,
    replays: tuple[Played, Played],
    outcomes: tuple[PolicyOutcome, PolicyOutcome],
    pair: Paired,
    p: Chances,
    about: About,
    fidelity: Fidelity,
) -> Comparison:
    found = tuple(differences(recorded, *replays))
    kinds = Counter(each.kind for each in found)
    return Comparison(
        replays[1].policy,
        pair.refused,
        pair.waited_hours,
        pair.unusable,
        pair.whole,
        p.refused,
        p.waited,
        pair.stretches,
        len(recorded.arrivals) - len(found),
        {kind: kinds[kind] for kind in Kind if kinds[kind]},
        found,
        verdict(outcomes, pair, p, about, fidelity, kinds),
    )


def differences(recorded: Recorded, before: Played, after: Played) -> Iterator[Difference]:
    """Yield each pod that fares otherwise, in the order in which they came."""
    for arrival, was, now in zip(recorded.arrivals, before.fates, after.fates, strict=True):
        kind = _kind(was, now)
        if kind is not None:
            yield Difference(
                kind,
                arrival.uid,
                arrival.namespace,
                arrival.name,
                arrival.wanted,
                arrival.at,
                _how(was),
                _how(now),
            )


def _kind(was: Fate, now: Fate) -> Kind | None:
    if was.placed_at is None or now.placed_at is None:
        if was.placed_at is None and now.placed_at is None:
            return None
        return Kind.NEVER_NOW if now.placed_at is None else Kind.PLACED_NOW
    if bool(was.refused) != bool(now.refused):
        return Kind.REFUSED_NOW if now.refused else Kind.AT_ONCE
    if was.placed_at != now.placed_at:
        return Kind.LATER if now.placed_at > was.placed_at else Kind.SOONER
    return None if was.places == now.places else Kind.ELSEWHERE


def _how(fate: Fate) -> How:
    return How(fate.refused, fate.placed_at, fate.places)


def _fidelity(recorded: Recorded, played: Played) -> Fidelity:
    told = first(recorded.outcomes)
    found: Counter[str] = Counter()
    for arrival, fate in zip(recorded.arrivals, played.fates, strict=True):
        was = told.get(arrival.uid)
        if was is None or fate.asked_at is None:
            continue
        refused = bool(fate.refused), not was.places
        if refused == (True, True) or (refused == (False, False) and was.places == fate.places):
            found["same"] += 1
        elif refused == (False, False):
            found["elsewhere"] += 1
        else:
            found["refused_only" if refused[0] else "placed_only"] += 1
    return Fidelity(
        found.total(),
        found["same"],
        found["elsewhere"],
        found["refused_only"],
        found["placed_only"],
    )


def worst_first(found: Sequence[Difference]) -> list[Difference]:
    """Return differences as they are to be looked at: who fares worse, by how long they wait."""
    order: Mapping[Kind, int] = {kind: at for at, kind in enumerate(Kind)}

    def lost(each: Difference) -> float:
        was, now = each.before.placed_at, each.after.placed_at
        return abs(now - was) if was is not None and now is not None else 0.0

    return sorted(found, key=lambda each: (order[each.kind], -lost(each), each.at))
