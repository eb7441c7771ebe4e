"""What no policy without migration can exceed, however many GPUs there are.

A linear program over the layouts of one GPU: how often it is in each, and at which rates placements
lead from one to another, with exponential lifetimes. Loose for small fleets.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from extender.packing.states import Key, Layout, added, empty
from extender.simulation.experiment import Stage
from extender.simulation.scenario import Scenario
from extender.simulation.solver import Move, best_flow
from nodeagent.api.geometry import Geometry, Occupancy


class Bound(msgspec.Struct, frozen=True):
    """The shares of requests and of demanded slices that can be accepted at best."""

    requests: float
    slices: float


def known_bound(scenario: Scenario, stage: Stage) -> Bound | None:
    """Return the bound of a scenario, None where there is none that we know.

    There is for one model and one mix, memoryless VMs, and requests that do not wait.
    """
    if len(stage.fleet.groups) > 1 or scenario.lifetime != "exponential" or scenario.queueing:
        return None
    if scenario.then or scenario.trace:
        return None
    pairs = zip(stage.kinds, stage.shares, strict=True)
    shares = {p.id: share for kind, share in pairs if (p := kind.profiles[0]) is not None}
    return bound(stage.fleet.groups[0].geometry, shares, scenario.load)


def bound(geometry: Geometry, mix: Mapping[int, float], load: float) -> Bound:
    """Return the bound for a fleet of one geometry, given the share of each profile id."""
    profiles = [geometry.by_id[profile_id] for profile_id in mix]
    states, moves = _reached(geometry, tuple(mix))
    index = {_contents(state): at for at, state in enumerate(states)}
    departures = [
        (at, index[_contents(state) - {placement}])
        for at, state in enumerate(states)
        for placement in state.placements
    ]
    mean = sum(profile.size * share for profile, share in zip(profiles, mix.values(), strict=True))
    rate = load * geometry.memory_slices / mean
    arriving = [rate * share for share in mix.values()]
    instances = [len(state.placements) for state in states]
    admitted = best_flow(instances, departures, moves, arriving, [1.0] * len(profiles))
    held = best_flow(instances, departures, moves, arriving, [float(p.size) for p in profiles])
    return Bound(requests=admitted / rate, slices=held / (rate * mean))


def _reached(geometry: Geometry, served: tuple[int, ...]) -> tuple[list[Layout], list[Move]]:
    """Return the layouts that *served* profiles lead to, and how."""
    start = empty(geometry, Key.LAYOUT)
    index: dict[Occupancy, int] = {start: 0}
    states, moves = [start], []
    for state in states:  # grows as it goes
        for kind, profile_id in enumerate(served):
            for placement in geometry.legal(state, geometry.by_id[profile_id]):
                then = added(geometry, state, profile_id, placement)
                if then not in index:
                    index[then] = len(states)
                    states.append(then)
                moves.append(Move(kind, index[state], index[then]))
    return [state for state in states if isinstance(state, Layout)], moves


def _contents(state: Layout) -> frozenset[object]:
    return frozenset(state.placements)
