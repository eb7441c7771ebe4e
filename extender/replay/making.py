"""Records of simulated demand, decided by what plays them: for trying, and to test replays with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from extender.policy import InForce
from extender.replay.play import play
from extender.replay.played import departures, outcomes
from extender.replay.recorded import (
    Arrival,
    Labels,
    Recorded,
    RecordedGpu,
    RecordedNode,
    RecordedPolicy,
)
from extender.replay.stays import lasting
from extender.simulation.demand import Demand
from extender.simulation.fleet import Fleet, Kind
from nodeagent.api import resources
from nodeagent.api.gpunode import Mode

MEAN_LIFETIME_SECONDS = 86_400.0
"""Of demand that is told in mean lifetimes: a VM stays a day."""


class NotRecordable(Exception):
    """The demand cannot be written as a record; the message says why, and what to do."""


def made(
    fleet: Fleet,
    kinds: Sequence[Kind],
    demand: Demand,
    policy: InForce,
    document: str,
    *,
    begins: str,
    gpus_per_node: int,
    unit_seconds: float = 1.0,
) -> Recorded:
    """Return what a policy, written as *document*, makes of a demand on empty nodes.

    Times of the demand are in units of so many seconds; it begins at *begins* (RFC 3339 UTC).

    Raises:
        NotRecordable: the GPUs are of several models, whose profiles no one resource asks for.
    """
    if len(fleet.groups) != 1:
        raise NotRecordable("GPUs of several models: give --model one")
    (group,) = fleet.groups
    wanted = [profile.name for kind in kinds if (profile := kind.profiles[0]) is not None]
    first = demand.times[0] if demand.times else 0.0
    arrivals = tuple(
        Arrival(
            (at - first) * unit_seconds,
            f"vm-{number}",
            "default",
            f"vm-{number}",
            (resources.of_profile(wanted[kind]),),
        )
        for number, (at, kind) in enumerate(zip(demand.times, demand.kinds, strict=True))
    )
    recorded = Recorded(
        recorded=1,
        begins=begins,
        policy=RecordedPolicy(policy.version, document),
        nodes=tuple(nodes(group.model, group.gpus, gpus_per_node)),
        arrivals=arrivals,
    )
    return decided(recorded, policy, [each * unit_seconds for each in demand.lifetimes])


def decided(recorded: Recorded, policy: InForce, lifetimes: Sequence[float]) -> Recorded:
    """Return a record with what a policy makes of it, its pods staying so many seconds each."""
    played = play(recorded, policy, lasting=lasting(lifetimes))
    uids = tuple(each.uid for each in recorded.arrivals)
    return msgspec.structs.replace(
        recorded,
        outcomes=outcomes(played, uids),
        departures=departures(played, uids),
    )


def nodes(
    model: str, gpus: int, gpus_per_node: int, labels: Mapping[str, Labels] | None = None
) -> Iterator[RecordedNode]:
    """Yield nodes with so many GPUs of a model in all, the last with what is left."""
    for number, first in enumerate(range(0, gpus, gpus_per_node)):
        name = f"node-{number}"
        yield RecordedNode(
            name,
            tuple(
                RecordedGpu(index, f"GPU-{number}-{index}", model)
                for index in range(min(gpus_per_node, gpus - first))
            ),
            labels=(labels or {}).get(name, {}),
            mode=Mode.CONTAINER,
        )
