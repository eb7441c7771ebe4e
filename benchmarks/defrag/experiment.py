"""Acceptance with so many moves, by mix and load, on the same demands as without any."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence
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
LOADS = (0.85, 1.0)
MOST_MOVES = (1, 2)
"""Moves for one request: a third is worth a few points more, and takes most of the time."""

MODEL = "H100-80GB"

Row = dict[str, Any]


class Size(msgspec.Struct, frozen=True):
    """How much is played: seeds, counted arrivals, and how carefully learned weights are tried."""

    seeds: tuple[int, ...]
    arrivals: int
    trials: Trials = TRIALS


SIZES = {
    "full": Size(tuple(range(5000, 5004)), 10_000),
    "quick": Size((5000,), 3_000, Trials(seeds=4, arrivals=6_000)),
}
"""The full one is that of the published reference: 3 to 4 seeds of 8,000 to 10,000 arrivals."""


class Cell(msgspec.Struct, frozen=True):
    """What each way of moving came to for one mix and load, seed by seed.

    ``decides``: the policy that places for ``tangram``, as the guard of learned weights has it.
    """

    mix: str
    load: float
    size: Size
    decides: str
    ways: dict[str, list[Row]]

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.mix}-{self.load:g}"

    def means(self) -> dict[str, Row]:
        """Return each way's means over the seeds, with how much of the gap it closes in percent.

        The gap is between MFI and repacking, in accepted memory slices.
        """
        ways = {name: _mean(rows) for name, rows in self.ways.items()}
        least, most = ways["mfi"]["slices"], ways["repack"]["slices"]
        return {
            name: {**row, "closed_pct": 100 * (row["slices"] - least) / (most - least)}
            for name, row in ways.items()
        }


def cell(mix: str, load: float, size: Size) -> Cell:
    """Play one mix at one load, each way of moving on the same demands."""
    played = stage(Scenario(model=MODEL, mix=mix, load=load, arrivals=size.arrivals))
    fits = repack_test(played.fleet, played.kinds)
    entered = lineup(["learned"], {}, played, load, size.trials)
    learned = entered.contenders["learned"]
    assert learned is not None
    policies = {"learned": learned, "default": contender("default", played.observed)}
    decides = entered.deciding["learned"]
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
            ways = [
                (f"tangram-default+{most}", "default", ours),
                (f"greedy+{most}", "default", theirs),
            ]
            if decides is not PolicyName.DEFAULT:
                ways.append((f"tangram+{most}", "learned", ours))
            for way, policy, mover in ways:
                row = _moved(played, policies[policy], demand, fits, mover)
                rows.setdefault(way, []).append(row)
            if decides is PolicyName.DEFAULT:
                rows[f"tangram+{most}"] = rows[f"tangram-default+{most}"]
    return Cell(mix, load, size, decides.value, rows)


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


def summary(cells: Sequence[Cell]) -> Row:
    """Return all of it with the figures that sum it up."""
    means = [each.means() for each in cells]
    at = {
        most: [
            ways[f"tangram+{most}"]["closed_pct"]
            for each, ways in zip(cells, means, strict=True)
            if each.load == LOADS[0]
        ]
        for most in MOST_MOVES
    }
    known = all(at.values())
    return {
        "model": MODEL,
        "gap_closed_slices_min": round(min(at[2]), 2) if known else None,
        "gap_closed_slices_mean": {
            str(most): round(statistics.fmean(each), 2) if each else None
            for most, each in at.items()
        },
        "cells": [
            {
                "mix": each.mix,
                "load": each.load,
                "decides": each.decides,
                "seeds": len(each.size.seeds),
                "arrivals": each.size.arrivals,
                "ways": ways,
            }
            for each, ways in zip(cells, means, strict=True)
        ],
    }
