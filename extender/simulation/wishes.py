"""What is asked for: a mix in words, or what was asked for lately, as shares of kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from extender.simulation.baseline import Baseline
from extender.simulation.fleet import Kind
from extender.simulation.growth import FEWEST_REQUESTS, TooLittle
from extender.simulation.scenario import mixed
from extender.simulation.stand import fleet_of, named_kinds


def shares(baseline: Baseline, mix: str) -> Mapping[Kind, float] | TooLittle:
    """Return the share of each kind: of a mix in words, or of what was asked for lately."""
    fleet, _ = fleet_of(baseline)
    offered = [set(kin.serves) for kin in baseline.kin]
    if mix:
        asked, shares = mixed(mix, fleet)
        found = {_served(kind, offered): share for kind, share in zip(asked, shares, strict=True)}
    else:
        lately = baseline.requests.lately
        weight = sum(lately.values())
        if weight < FEWEST_REQUESTS:
            return TooLittle(
                f"{weight:.0f} requests seen of late, and {FEWEST_REQUESTS:.0f} are needed to tell"
                " what is asked for: say it with --mix"
            )
        by_name = {kind.name: kind for kind in named_kinds(baseline)}
        found = {
            _served(by_name[name], offered): count
            for name, count in lately.items()
            if name in by_name
        }
    found = {kind: share for kind, share in found.items() if any(kind.profiles) and share}
    total = sum(found.values())
    if not total:
        return TooLittle("nothing of what is asked for is offered by any GPU here")
    return {kind: share / total for kind, share in found.items()}


def _served(kind: Kind, offered: Sequence[set[int]]) -> Kind:
    """Return a kind without the profiles that are not offered."""
    profiles = tuple(
        profile if profile is not None and profile.id in ids else None
        for profile, ids in zip(kind.profiles, offered, strict=True)
    )
    return Kind(kind.name, profiles)
