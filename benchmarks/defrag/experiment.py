"""Acceptance with so many moves, by mix and load, on the same demands as without any."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.defrag.greedy import greedy
from extender.packing.room import make_room
from extender.policy import PolicyName
from extender.simulation.contenders import Contender, contender
from extender.simulation.demand import Demand
from extender.simulation.experiment import Stage, repacked
from extender.simulation.lineup import lineup
from extender.simulation.mixes import NAMED
from extender.simulation.moving import Moved, Mover, replay_with_moves
from extender.simulation.question import TRIALS, Trials
from extender.simulation.repack import Fits, repack_test
from extender.simulation.replay import NOWHERE, replay
from extender.simulation.scenario import Scenario, stage

MIXES = tuple(NAMED)
MOST_MOVES = (1, 2, 3)
MODEL = "H100-80GB"

Row = dict[str, Any]


class Size(msgspec.Struct, frozen=True):
    """How much is played: seeds, counted arrivals, and how carefully learned weights are tried."""

    seeds: tuple[int, ...]
    arrivals: int
    trials: Trials


SIZES = {
    "full": Size(tuple(range(5000, 5004)), 10_000, TRIALS),
    "quick": Size((5000,), 3_000, Trials(seeds=4, arrivals=6_000)),
}
"""The full one is that of the published reference: 3 to 4 seeds of 8,000 to 10,000 arrivals."""


def cell(mix: str, load: float, size: Size) -> Row:
    """Return what each way of moving came to for one mix and load: means over the seeds."""
    played = stage(Scenario(model=MODEL, mix=mix, load=load, arrivals=size.arrivals))
    fits = repack_test(played.fleet, played.kinds)
    learned = lineup(["learned"], {}, played, load, size.trials).contenders["learned"]
    assert learned is not None
    policies = {"learned": learned, "default": contender("default", played.observed)}
    rows: dict[str, list[Row]] = {}
    for seed in size.seeds:
        demand = played.demand(seed)
        for name in ("mfi", "default"):
            rows.setdefault(name, []).append(_unmoved(played, name, demand, seed))
        accepted = repacked(demand, fits, len(played.kinds))
        rows.setdefault("repack", []).append(_acceptance(played, demand, accepted))
        for most in MOST_MOVES:
            ours = functools.partial(make_room, most_moves=most)
            theirs = functools.partial(greedy, most_moves=most)
            for way, policy, mover in (
                (f"tangram+{most}", "learned", ours),
                (f"tangram-default+{most}", "default", ours),
                (f"greedy+{most}", "default", theirs),
            ):
                row = _moved(played, policies[policy], demand, fits, mover)
                rows.setdefault(way, []).append(row)
    ways = {name: _mean(each) for name, each in rows.items()}
    return {"mix": mix, "load": load, "ways": _closed(ways)}


def _unmoved(played: Stage, name: str, demand: Demand, seed: int) -> Row:
    policy = contender(name, played.observed)
    board = policy.board(played.fleet, played.kinds)
    history = replay(board, policy.picker(board, seed), demand)
    return _acceptance(played, demand, history.gpu != NOWHERE)


def _moved(played: Stage, policy: Contender, demand: Demand, fits: Fits, mover: Mover) -> Row:
    tables = [policy.tables(group.geometry) for group in played.fleet.groups]
    board = policy.board(played.fleet, played.kinds)
    found = replay_with_moves(board, tables, demand, fits, mover)
    return {**_acceptance(played, demand, found.accepted), **_disturbance(demand, found)}


def _acceptance(played: Stage, demand: Demand, accepted: NDArray[np.bool_]) -> Row:
    kinds, accepted = np.array(demand.kinds)[played.warmup :], accepted[played.warmup :]
    sizes = np.array([kind.size for kind in played.kinds])[kinds]
    whole = accepted[kinds == 0]
    return {
        "requests": float(accepted.mean()),
        "slices": float(sizes[accepted].sum() / sizes.sum()),
        "whole_gpus": float(whole.mean()) if len(whole) else 1.0,
    }


def _disturbance(demand: Demand, found: Moved) -> Row:
    moved = found.moved[found.accepted]
    return {
        "moves_per_1000": 1000 * float(found.plans.sum()) / len(demand.times),
        "moves_per_vm": float(moved.mean()),
        "most_moves_of_a_vm": int(moved.max()),
        "admitted_by_moves": int((found.plans > 0).sum()),
        "refused_all_the_same": int((found.plans == 0).sum()),
    }


def _mean(rows: Sequence[Row]) -> Row:
    return {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}


def _closed(ways: Mapping[str, Row]) -> dict[str, Row]:
    """Add how much of the gap between MFI and repacking each way closes, in percent."""
    least, most = ways["mfi"]["slices"], ways["repack"]["slices"]
    return {
        name: {**row, "closed_pct": 100 * (row["slices"] - least) / (most - least)}
        for name, row in ways.items()
    }


def summary(cells: Sequence[Row]) -> Row:
    """Return all of it with the figures that sum it up."""
    at = {
        most: [
            each["ways"][f"tangram+{most}"]["closed_pct"] for each in cells if each["load"] == 0.85
        ]
        for most in MOST_MOVES
    }
    return {
        "model": MODEL,
        "gap_closed_slices_min": round(min(at[2]), 2),
        "gap_closed_slices_mean": {str(most): round(statistics.fmean(at[most]), 2) for most in at},
        "policies": [PolicyName.LEARNED.value, PolicyName.DEFAULT.value],
        "cells": cells,
    }
