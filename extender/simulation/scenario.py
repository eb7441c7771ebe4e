"""What is tried, in the words of a command line: models, a mix, a load, a law of lifetimes."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from extender.simulation.demand import Demand, Mixed, poisson, recurring
from extender.simulation.experiment import WARMUP, Stage
from extender.simulation.fleet import Fleet, Kind, fleet, kinds, largest_first
from extender.simulation.lifetimes import lifetime
from extender.simulation.mixes import KINDS, NAMED, UnknownMix, by_kind, terms
from extender.simulation.traces import MalformedTrace, Rule, in_order, kind_for, recorded
from nodeagent.api.catalog import MODELS


class UnknownModel(Exception):
    """The catalog has no such model."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One stage in words; the same words and seed are the same demand, everywhere.

    ``model`` is a name from the catalog, or such as ``H100-80GB=60,A30-24GB=40``. ``mix`` is a
    name, or such as ``7g.80gb=.3,1g.10gb=.7``; with ``then`` it changes after half of the counted
    ``arrivals``. Before these, ``warmup`` requests are not counted.

    With a ``trace`` (a path) its pods take the mix's place, each mapped to a kind by ``rule``:
    just as they came, or drawn as (kind, lifetime) at ``load`` if ``resampled``, which begins,
    before the warm-up, with who would be there already.
    """

    model: str = "H100-80GB"
    gpus: int = 100
    gpus_per_node: int = 8
    mix: str = "uniform"
    then: str = ""
    load: float = 0.85
    lifetime: str = "exponential"
    arrivals: int = 20_000
    warmup: int = WARMUP
    queueing: bool = False
    trace: str = ""
    rule: Rule = Rule.CEIL
    shared_only: bool = False
    resampled: bool = False


def stage(scenario: Scenario) -> Stage:
    """Return the stage that a scenario describes.

    Raises:
        UnknownModel, UnknownMix, UnknownLifetime: saying which there are.
        MalformedTrace: if there is one and it cannot be read.
    """
    on = fleet_of(scenario)
    if scenario.trace:
        return _traced(scenario, on)
    asked, shares = mixed(scenario.mix, on)
    mixes = [Mixed(shares)]
    if scenario.then:
        later, then = mixed(scenario.then, on)
        if later != asked:
            raise UnknownMix(f"mixes {scenario.mix!r} and {scenario.then!r} ask for other profiles")
        mixes.append(Mixed(then, since=scenario.warmup + scenario.arrivals // 2))
    law = lifetime(scenario.lifetime)

    def demand(seed: int) -> Demand:
        return poisson(
            asked,
            mixes,
            law,
            arrivals=scenario.warmup + scenario.arrivals,
            slices=on.memory_slices,
            load=scenario.load,
            seed=seed,
        )

    return Stage(on, asked, shares, demand, scenario.warmup, scenario.queueing)


def _traced(scenario: Scenario, on: Fleet) -> Stage:
    """Return the stage of a trace; played in order it starts empty, and all of it counts."""
    pods = recorded(Path(scenario.trace), shared_only=scenario.shared_only)
    parts = part_kinds(on)
    asked = tuple(parts.values())
    # What no model here has becomes the next bigger part; the whole GPU is in every model.
    bigger: dict[str, int] = {}
    for part in KINDS:
        bigger[part] = (
            asked.index(parts[part]) if part in parts else next(reversed(bigger.values()))
        )
    wanted = [bigger[kind_for(pod.share, scenario.rule)] for pod in pods]
    shares = tuple(wanted.count(kind) / len(wanted) for kind in range(len(asked)))
    if not scenario.resampled:
        return Stage(on, asked, shares, lambda _: in_order(pods, wanted), 0, scenario.queueing)
    pairs = [(kind, pod.lifetime) for kind, pod in zip(wanted, pods, strict=True)]
    ended = [(kind, lifetime) for kind, lifetime in pairs if math.isfinite(lifetime)]
    if not any(lifetime for _, lifetime in ended):
        raise MalformedTrace(
            f"{scenario.trace}: no pod in it was there for a time and then deleted:"
            " there are no lifetimes to draw from"
        )

    drawn = recurring(ended, asked, slices=on.memory_slices, load=scenario.load)

    def demand(seed: int) -> Demand:
        return drawn.demand(scenario.warmup + scenario.arrivals, seed)

    warmup = drawn.settled + scenario.warmup
    return Stage(on, asked, shares, demand, warmup, scenario.queueing)


def fleet_of(scenario: Scenario) -> Fleet:
    """Return the GPUs of a scenario.

    Raises:
        UnknownModel: saying which models there are.
    """
    groups = []
    for term in scenario.model.split(","):
        name, given, number = term.partition("=")
        if name not in MODELS or (given and not (number.isdigit() and int(number))):
            raise UnknownModel(
                f"model {term!r} is neither one of {', '.join(MODELS)} nor like H100-80GB=60"
            )
        groups.append((MODELS[name], int(number) if given else scenario.gpus))
    return fleet(groups, gpus_per_node=scenario.gpus_per_node)


def mixed(text: str, on: Fleet) -> tuple[tuple[Kind, ...], tuple[float, ...]]:
    """Return the kinds that a mix asks for, and the share of each.

    Raises:
        UnknownMix: saying which names there are.
    """
    if text in NAMED:
        parts = part_kinds(on)
        weights = {
            parts[part]: w for part, w in zip(KINDS, NAMED[text], strict=True) if part in parts
        }
    else:
        ids = [{p.name: p.id for p in group.geometry.profiles} for group in on.groups]
        found = {kind.name: kind for kind in kinds(ids, on)}
        weights = {}
        for name, weight in terms(text, tuple(found)):
            weights[found[name]] = weights.get(found[name], 0.0) + weight
    total = sum(weights.values())
    if total <= 0:
        models = " and ".join(group.model for group in on.groups)
        raise UnknownMix(f"mix {text!r} asks for nothing that {models} can serve")
    asked = tuple(sorted(weights, key=largest_first))
    return asked, tuple(weights[kind] / total for kind in asked)


def part_kinds(on: Fleet) -> dict[str, Kind]:
    """Return, the largest first, the kind for each part of a GPU that a model of the fleet has.

    A kind is what plays the same part in every model, such as the whole GPU; with one model it is
    called as its profile is.
    """
    parts = [{part: profile for profile, part in by_kind(g.geometry)} for g in on.groups]
    found = {}
    for part in KINDS:
        served = tuple(group.get(part) for group in parts)
        if any(served):
            (*_, only) = served
            found[part] = Kind(only.name if only and len(served) == 1 else part, served)
    return found
