"""What is tried, in the words of a command line: models, a mix, a load, a law of lifetimes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from extender.simulation.demand import Demand, Mixed, poisson
from extender.simulation.experiment import WARMUP, Stage
from extender.simulation.fleet import Fleet, Kind, fleet, kinds
from extender.simulation.lifetimes import lifetime
from extender.simulation.mixes import KINDS, NAMED, UnknownMix, by_kind, terms
from nodeagent.api.catalog import MODELS


class UnknownModel(Exception):
    """The catalog has no such model."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One stage in words; the same words and seed are the same demand, everywhere.

    ``model`` is a name from the catalog, or such as ``H100-80GB=60,A30-24GB=40``. ``mix`` is a
    name, or such as ``7g.80gb=.3,1g.10gb=.7``; with ``then`` it changes after half of the counted
    ``arrivals``. Before these, ``warmup`` requests are not counted.
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


def stage(scenario: Scenario) -> Stage:
    """Return the stage that a scenario describes.

    Raises:
        UnknownModel, UnknownMix, UnknownLifetime: saying which there are.
    """
    on = fleet_of(scenario)
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

    In a named mix a kind is what plays the same part in every model, such as the whole GPU.

    Raises:
        UnknownMix: saying which names there are.
    """
    if text in NAMED:
        wanted = dict(zip(KINDS, NAMED[text], strict=True))
        parts = [{kind: p.id for p, kind in by_kind(g.geometry)} for g in on.groups]
    else:
        parts = [{p.name: p.id for p in g.geometry.profiles} for g in on.groups]
        wanted = dict.fromkeys(_names(parts), 0.0)
        for name, weight in terms(text, tuple(wanted)):
            wanted[name] += weight
    asked = {
        name: w for name, w in wanted.items() if name in _names(parts) and (w or text in NAMED)
    }
    total = sum(asked.values())
    if total <= 0:
        raise UnknownMix(f"mix {text!r} asks for nothing that {_models(on)} can serve")
    if text in NAMED and len(on.groups) == 1:  # then a profile's own name says more
        by_id = on.groups[0].geometry.by_id
        own = {name: by_id[parts[0][name]].name for name in asked}
        asked = {own[name]: weight for name, weight in asked.items()}
        parts = [{own[name]: parts[0][name] for name in own}]
    found = kinds([{name: part[name] for name in asked if name in part} for part in parts], on)
    return found, tuple(asked[kind.name] / total for kind in found)


def _names(parts: Iterable[dict[str, int]]) -> dict[str, None]:
    return dict.fromkeys(name for part in parts for name in part)


def _models(on: Fleet) -> str:
    return " and ".join(group.model for group in on.groups)
