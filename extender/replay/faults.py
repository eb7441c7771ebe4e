"""What in a record cannot be: found before it is played, and told by the field it is in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from extender.replay.recorded import (
    MOST_WAYS,
    Arrival,
    Departure,
    Outcome,
    Place,
    Recorded,
    RecordedGpu,
)
from extender.replay.views import named

Fault = tuple[str, str]
"""The path of a field, and what is wrong with it."""


def faults(recorded: Recorded) -> Iterator[Fault]:
    """Yield what is wrong with a record; nothing if it can be played."""
    if not _is_time(recorded.begins):
        yield "$.begins", "is no time with its zone, such as 2026-01-31T08:00:00Z"
    for name, model in recorded.models.items():
        for problem in model.geometry.malformations():
            yield f"$.models[{name!r}].geometry", problem
        if not model.geometry.profiles:
            yield f"$.models[{name!r}].geometry.profiles", "has no profile"
    broken = False
    for fault in _of_nodes(recorded):
        broken = True
        yield fault
    if not broken:  # or places could not be looked up
        yield from _of_residents(recorded)
        yield from _of_outcomes(recorded)
    yield from _of_pods(recorded)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _of_nodes(recorded: Recorded) -> Iterator[Fault]:
    if not recorded.nodes:
        yield "$.nodes", "has no node"
    names, uuids = set[str](), set[str]()
    for at, node in enumerate(recorded.nodes):
        path = f"$.nodes[{at}]"
        if node.name in names:
            yield f"{path}.name", f"{node.name} is another node's, too"
        names.add(node.name)
        if node.until is not None and node.until <= node.since:
            yield f"{path}.until", f"{node.until:g} is not after since {node.since:g}"
        for number, gpu in enumerate(node.gpus):
            if gpu.uuid in uuids:
                yield f"{path}.gpus[{number}].uuid", f"{gpu.uuid} is another GPU's, too"
            uuids.add(gpu.uuid)
            yield from _of_gpu(recorded, gpu, f"{path}.gpus[{number}]")


def _of_gpu(recorded: Recorded, gpu: RecordedGpu, path: str) -> Iterator[Fault]:
    model = recorded.model(gpu.model)
    if model is None:
        yield f"{path}.model", f"{gpu.model} is neither in $.models nor in the catalog"
        return
    taken = 0
    for at, each in enumerate(gpu.occupied):
        mask = ((1 << each.size) - 1) << each.start
        if each.start + each.size > model.geometry.memory_slices:
            yield f"{path}.occupied[{at}]", f"{gpu.model} has {model.geometry.memory_slices} slices"
        elif mask & taken:
            yield f"{path}.occupied[{at}]", "overlaps another"
        taken |= mask


def _of_residents(recorded: Recorded) -> Iterator[Fault]:
    gpus = {gpu.uuid: (node, gpu) for node in recorded.nodes for gpu in node.gpus}
    taken = {
        gpu.uuid: sum(((1 << each.size) - 1) << each.start for each in gpu.occupied)
        for _, gpu in gpus.values()
    }
    for at, resident in enumerate(recorded.residents):
        for number, place in enumerate(resident.places):
            path = f"$.residents[{at}].places[{number}]"
            there = gpus.get(place.gpu)
            if there is None or there[0].name != place.node or there[0].since:
                yield f"{path}.gpu", f"{place.node} has no GPU {place.gpu} at the beginning"
                continue
            mask = _mask(recorded, there[1], place)
            if mask is None:
                yield path, f"{there[1].model} has no {place.profile} at slice {place.start}"
            elif mask & taken[place.gpu]:
                yield path, "overlaps what is on the GPU already"
            else:
                taken[place.gpu] |= mask


def _of_outcomes(recorded: Recorded) -> Iterator[Fault]:
    """Yield the places that no GPU of the fleet has; who else was there at the time is not told."""
    gpus = {gpu.uuid: (node.name, gpu) for node in recorded.nodes for gpu in node.gpus}
    known: dict[tuple[str, str, int], bool] = {}
    for at, outcome in enumerate(recorded.outcomes):
        for number, place in enumerate(outcome.places):
            path = f"$.outcomes[{at}].places[{number}]"
            node, gpu = gpus.get(place.gpu, ("", None))
            if gpu is None or node != place.node:
                yield f"{path}.gpu", f"{place.node} has no GPU {place.gpu}"
                continue
            where = gpu.model, place.profile, place.start
            if where not in known:
                known[where] = _mask(recorded, gpu, place) is not None
            if not known[where]:
                yield path, f"{gpu.model} has no {place.profile} at slice {place.start}"


def _mask(recorded: Recorded, gpu: RecordedGpu, place: Place) -> int | None:
    """Return the slices of a place, None if its GPU has no such placement."""
    model = recorded.model(gpu.model)
    profile = None if model is None else named(model.geometry, place.profile)
    if profile is None:
        return None
    return next((each.mask for each in profile.placements if each.start == place.start), None)


def _of_pods(recorded: Recorded) -> Iterator[Fault]:
    came = dict.fromkeys((each.uid for each in recorded.residents), 0.0)
    if len(came) < len(recorded.residents):
        yield "$.residents", "have a uid twice"
    for at, arrival in enumerate(recorded.arrivals):
        if math.prod(1 + each for each in Counter(arrival.wanted).values()) > MOST_WAYS:
            yield f"$.arrivals[{at}].wanted", "can be placed one after the other in too many ways"
        if arrival.uid in came:
            yield f"$.arrivals[{at}].uid", f"{arrival.uid} has come already"
        came[arrival.uid] = arrival.at
    yield from _in_order(recorded.arrivals, "arrivals")
    yield from _in_order(recorded.outcomes, "outcomes")
    yield from _in_order(recorded.departures, "departures")
    arrived = {each.uid: each.at for each in recorded.arrivals}
    yield from _after(recorded.outcomes, "outcomes", arrived)
    placed: dict[str, float] = {}
    for at, outcome in enumerate(recorded.outcomes):
        if bool(outcome.places) is bool(outcome.refused):
            yield f"$.outcomes[{at}]", "has either places or why it was refused"
        if outcome.places and outcome.uid in arrived:
            placed.setdefault(outcome.uid, max(arrived[outcome.uid], outcome.at))
    yield from _after(recorded.departures, "departures", came | placed)
    left = set[str]()
    for at, departure in enumerate(recorded.departures):
        if departure.uid in left:
            yield f"$.departures[{at}].uid", f"{departure.uid} has left already"
        left.add(departure.uid)
        if departure.freed is not None and departure.freed < departure.at:
            yield f"$.departures[{at}].freed", f"{departure.freed:g} is before {departure.uid} left"


_Happened = Sequence[Arrival | Outcome | Departure]


def _in_order(happened: _Happened, name: str) -> Iterator[Fault]:
    last = 0.0
    for at, each in enumerate(happened):
        if each.at < last:
            yield f"$.{name}[{at}].at", f"{each.at:g} is before the one ahead of it, {last:g}"
        last = each.at


def _after(
    happened: Sequence[Outcome | Departure], name: str, since: Mapping[str, float]
) -> Iterator[Fault]:
    for at, each in enumerate(happened):
        came = since.get(each.uid)
        if came is None:
            yield f"$.{name}[{at}].uid", f"no {each.uid} has come"
        elif each.at < came:
            yield f"$.{name}[{at}].at", f"{each.at:g} is before {each.uid} came, {came:g}"
