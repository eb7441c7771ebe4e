"""Explanations for people, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from extender.explain.explanation import (
    Alternative,
    Cap,
    Cleared,
    Explanation,
    Here,
    Lack,
    Means,
    Missing,
    Move,
    Moves,
    NoMoves,
    Rights,
    Spot,
    State,
    Then,
)

MOST_CHARACTERS = 900
"""Of a brief account; an Event's message may have 1,024."""


def brief(explanation: Explanation) -> str:
    """Return what is missing and what would help, as one paragraph; "" where nothing is missing."""
    if explanation.missing is None or explanation.state is not State.REFUSED:
        return ""
    sentences = [_missing(explanation, explanation.missing), *_helps(explanation)]
    text = ""
    for sentence in sentences:
        if len(text) + 1 + len(sentence) > MOST_CHARACTERS:
            break
        text = f"{text} {sentence}".strip()
    return text


def told(explanation: Explanation) -> Explanation:
    """Return an explanation with its sentences, for whoever may know all that is in it."""
    return msgspec.structs.replace(explanation, sentences=tuple(sentences(explanation)))


def sentences(explanation: Explanation) -> Iterator[str]:
    """Yield all there is to say, one sentence a line, but for the counts of nodes."""
    yield from _asked(explanation)
    if explanation.here is not None:
        yield from _here(explanation.here)
    if explanation.missing is not None:
        yield _missing(explanation, explanation.missing)
    elif explanation.reason:
        yield f"{explanation.reason[:1].upper()}{explanation.reason[1:]}."
    if explanation.cleared is not None:
        yield _cleared(explanation.cleared)
    yield from _helps(explanation)
    for each in explanation.staying:
        yield f"Not moved: {each.instances} x {each.why}."
    if explanation.rights is not None:
        yield from _rights(explanation.rights)


def _asked(explanation: Explanation) -> Iterator[str]:
    asked = explanation.asked
    if asked is None:
        return
    parts = []
    for each in asked.amounts:
        served = f" ({' or '.join(each.profiles)})" if each.profiles else " (which no GPU serves)"
        if each.nearest:
            served = f" (which no GPU serves; did you mean {_listed(each.nearest)}?)"
        parts.append(f"{each.count} x {each.resource}{served}")
    whose = f" for {asked.owner}" if asked.owner else ""
    gang = f", in gang {asked.gang}" if asked.gang else ""
    slices = f": {_slices(asked.slices)}" if asked.slices else ""
    yield f"It asks{whose} for {' and '.join(parts)}{slices}{gang}."


def _here(here: Here) -> Iterator[str]:
    places = [f"{name} on {_spot(spot)}" for name, spot in zip(here.profiles, here.on, strict=True)]
    state = "It has"
    if here.failure:
        state = f"The node's agent cannot make its GPU instance ({here.failure}). It is to have"
    elif not here.realized:
        state = "The node's agent is making its GPU instance. It is to have"
    yield f"{state} {', '.join(places)}."
    if here.then is not None:
        yield _then(here.then)
    if not here.rank:
        yield "What its place costs cannot be told: the node takes nothing new, or keeps devices."
        return
    elsewhere = here.runner_up
    if elsewhere is None:
        yield f"Now it costs {here.cost}; it would fit on no other node."
        return
    there = ", ".join(map(_spot, elsewhere.on))
    if here.rank == 1 and elsewhere.cost == here.cost:
        yield (
            f"Now it costs {here.cost}, least of the {here.nodes} nodes where it would fit,"
            f" and no less on the next best, {there}: such ties go to the fuller GPU, the one with"
            " more instances, the fuller node, the first by name."
        )
    elif here.rank == 1:
        yield (
            f"Now it costs {here.cost}, least of the {here.nodes} nodes where it would fit;"
            f" the next best, {there}, would cost {elsewhere.cost}."
        )
    else:
        yield (
            f"Now it costs {here.cost}, and would cost less on"
            f" {_nodes(here.rank - 1)}, least on {there}: {elsewhere.cost}."
        )
    yield "A place costs what its GPU loses in worth for what may come, as the policy values that."


def _then(then: Then) -> str:
    chosen = (
        f"When its node was chosen, by policy version {then.policy_version}, its place there cost"
        f" {then.cost}"
    )
    if not then.next_best:
        return f"{chosen}, and it fitted on no other node."
    return f"{chosen}; on the next best, {then.next_best}, it would have cost {then.next_cost}."


def _missing(explanation: Explanation, missing: Missing) -> str:
    free, needed = _slices(missing.free), missing.needed
    match missing.lack:
        case Lack.NOTHING:
            fits = sum(each.fits for each in explanation.groups)
            return f"Nothing is missing: it fits on {_nodes(fits)}, and waits to be scheduled."
        case Lack.WAITING:
            return f"It would fit, and waits: {explanation.reason}."
        case Lack.OFFER:
            return "No usable GPU serves what it asks for: look at the resource's name."
        case Lack.NODES:
            return "Of the nodes that might serve it, none takes anything new at the moment."
        case Lack.RULES:
            return "The policy's rules keep it from every node where it might be."
        case Lack.CAP:
            return "Its tenant is at its cap, whatever room there is."
        case Lack.HEADROOM:
            return "What is free is kept free by the policy's headroom."
        case Lack.CAPACITY:
            return (
                f"There is no room for it: where it may be, {free} {_are(missing.free)} free,"
                f" and it needs {needed}."
            )
        case Lack.FRAGMENTATION:
            return (
                f"There is no room for it in one piece: where it may be, {free}"
                f" {_are(missing.free)} free and it needs {needed}, but {_scattered(missing)}."
            )


def _cleared(place: Cleared) -> str:
    if not place.pods:
        return f"The place that was cleared for it on node {place.node} is about to be its own."
    count, leave = ("pod", "leaves") if place.pods == 1 else ("pods", "leave")
    alone = "" if place.moved else ": nobody else is evicted for it meanwhile"
    return (
        f"A place on node {place.node} is its own once {place.pods} {count} {leave} it, of which"
        f" {place.ending} {_are(place.ending)} ending{alone}."
    )


def _scattered(missing: Missing) -> str:
    if missing.most_free < missing.needed:
        return f"at most {missing.most_free} on one GPU"
    return "nowhere so that its profiles may sit there"


def _helps(explanation: Explanation) -> Iterator[str]:
    match explanation.room:
        case Moves(moves=moves, on=on, fewest=fewest):
            told = "; then ".join(map(_move, moves))
            yield f"It would fit on {', '.join(map(_spot, on))} if {told}. Nothing else changes."
            if moves:
                yield _at_what_price(moves)
            if not fewest:
                yield "Fewer moves may do: not every plan was looked at."
        case NoMoves(most=most, proven=True):
            yield f"No {most} moves of VMs or fewer would make room for it."
        case NoMoves(most=most, proven=False):
            yield f"No way was found to make room for it by {most} moves of VMs or fewer."
        case None:
            pass
    if explanation.alternatives:
        yield f"As it is, it would fit as {_listed(map(_alternative, explanation.alternatives))}."


def _at_what_price(moves: Iterable[Move]) -> str:
    """Say what moving means to those who move, and what was not looked at."""
    means = {each.means for each in moves}
    what = "; ".join(text for each, text in _MEANING.items() if each in means)
    return f"{what}. Eviction strategies and PodDisruptionBudgets were not looked at."


_MEANING = {
    Means.RESTART: "Moving a VM restarts it: vGPUs do not migrate live before KubeVirt 1.9",
    Means.RECREATION: "Moving a pod ends it, for its controller to make another",
}


def _move(move: Move) -> str:
    who = f"{move.kind} {move.namespace}/{move.name}" if move.name else "a VM you may not see"
    about = f"{move.profile} on {_spot(move.source)}"
    about += f", priority {move.priority}" if move.priority else ""
    about += "" if move.evictable else ", annotated as not safe to evict"
    return f"{who} ({about}) moved to {_spot(move.target, besides=move.source)}"


def _alternative(each: Alternative) -> str:
    return f"{each.profile} on {_nodes(each.nodes)}"


def _rights(rights: Rights) -> Iterator[str]:
    whose = f"Tenant {rights.tenant}" if rights.tenant else "A pod of no tenant"
    for cap in rights.caps:
        yield f"{whose} has {_cap(cap)}{'' if cap.within else ': this pod is beyond it'}."
    if rights.profiles:
        yield f"{whose} may use {_listed(rights.profiles)} only."
    if rights.pools:
        yield f"{whose} may use pool {_listed(rights.pools)} only."
    if rights.dedicated:
        unit = {"gpu": "GPU"}.get(rights.dedicated, rights.dedicated)
        yield f"{whose} shares no {unit} with others."
    for kept in rights.headroom:
        where = f" in pool {kept.pool}" if kept.pool else ""
        yield f"Of {kept.free} places for {kept.profile} free{where}, {kept.keep} are kept free."


def _cap(cap: Cap) -> str:
    what = f"x {cap.profile}" if cap.profile else "memory slices"
    return f"{cap.used} of {cap.most} {what}"


def _spot(spot: Spot, *, besides: Spot | None = None) -> str:
    slices = (
        f"slice {spot.start}"
        if spot.size == 1
        else f"slices {spot.start}-{spot.start + spot.size - 1}"
    )
    same_node = besides is not None and besides.node == spot.node
    if same_node and besides is not None and besides.uuid == spot.uuid:
        return f"{slices} of that GPU"
    gpu = f"GPU {spot.gpu}" if spot.gpu >= 0 else f"GPU {spot.uuid}"
    return f"{gpu}, {slices}" if same_node else f"node {spot.node}, {gpu}, {slices}"


def _slices(count: int) -> str:
    return f"{count} memory slice{'' if count == 1 else 's'}"


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
