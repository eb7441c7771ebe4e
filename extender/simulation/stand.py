"""A baseline as replays look at fleets: its GPUs as numbers of states on a policy's board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.packing.tables import Tables
from extender.simulation.baseline import Baseline, Gpu
from extender.simulation.board import Board, board
from extender.simulation.contenders import Contender
from extender.simulation.fleet import Fleet, Group, Kind, largest_first
from nodeagent.api.geometry import Placement


class Stand(msgspec.Struct, frozen=True):
    """The GPUs that take something new, in the order of ``board.fleet``; kinds are by number.

    ``states`` is (GPUs). ``loose`` is (GPUs): where everything could be moved; ``held`` is what
    these hold, by kind. ``aside`` are GPUs that take nothing new: their node does not, or what
    stands there is at no legal place.
    """

    board: Board
    tables: tuple[Tables, ...]
    states: NDArray[np.intp]
    loose: NDArray[np.bool_]
    held: tuple[int, ...]
    aside: int

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What can be asked for, or is held."""
        return self.board.kinds

    @property
    def loose_groups(self) -> tuple[Group, ...]:
        """The GPUs on which everything could be moved, by group."""
        groups = self.board.fleet.groups
        of = np.repeat(np.arange(len(groups)), [group.gpus for group in groups])
        counts = np.bincount(of[self.loose], minlength=len(groups)).tolist()
        return tuple(
            msgspec.structs.replace(group, gpus=count)
            for group, count in zip(groups, counts, strict=True)
        )

    def numbers(self, by_name: Mapping[str, int]) -> tuple[tuple[int, ...], Counter[str]]:
        """Return instances by kind, and those whose profile no GPU here has, by name."""
        found, unknown = [0] * len(self.kinds), Counter[str]()
        index: dict[str, int] = {}
        for at, kind in enumerate(self.kinds):
            index.setdefault(kind.name, at)  # those of a mix come last
        for name, count in by_name.items():
            if name in index:
                found[index[name]] += count
            elif count:
                unknown[name] += count
        return tuple(found), unknown


def fleet_of(baseline: Baseline) -> tuple[Fleet, tuple[Gpu, ...]]:
    """Return the GPUs that take something new, as a fleet and in its order; groups are the kin."""
    ready = [gpu for node in baseline.nodes if not node.why for gpu in node.gpus]
    ordered = sorted(ready, key=lambda gpu: gpu.kin)
    counts = Counter(gpu.kin for gpu in ordered)
    groups = tuple(
        Group(kin.model, kin.geometry, counts[at]) for at, kin in enumerate(baseline.kin)
    )
    return Fleet(groups), tuple(ordered)


def named_kinds(baseline: Baseline) -> tuple[Kind, ...]:
    """Return a kind for each profile that is offered or held, the largest first.

    What a GPU holds it can hold again, even where it is not offered any more.
    """
    there: list[set[int]] = [set(kin.serves) for kin in baseline.kin]
    for node in baseline.nodes:
        for gpu in node.gpus:
            there[gpu.kin].update(each.profile_id for each in gpu.held if not each.fixed)
    of = [
        {
            kin.geometry.by_id[id].name: kin.geometry.by_id[id]
            for id in ids
            if id in kin.geometry.by_id
        }
        for kin, ids in zip(baseline.kin, there, strict=True)
    ]
    names = dict.fromkeys(name for group in of for name in group)
    found = [Kind(name, tuple(group.get(name) for group in of)) for name in names]
    return tuple(sorted(found, key=largest_first))


def stand(baseline: Baseline, kinds: Sequence[Kind], contender: Contender) -> Stand:
    """Return the fleet of a baseline on a policy's board."""
    fleet, gpus = fleet_of(baseline)
    tables = tuple(contender.tables(group.geometry) for group in fleet.groups)
    index = {(at, state): number for number, (at, state) in enumerate(_states(tables))}
    states: list[int] = []
    kept = [0] * len(fleet.groups)
    loose: list[bool] = []
    held: Counter[int] = Counter()
    for gpu in gpus:
        taken = _taken(baseline, gpu)
        number = index.get((gpu.kin, tables[gpu.kin].holding(taken)))
        if number is None:
            continue
        states.append(number)
        kept[gpu.kin] += 1
        loose.append(not any(each.fixed for each in gpu.held))
        if loose[-1]:
            held.update(_kinds_of(kinds, gpu))
    groups = tuple(
        msgspec.structs.replace(group, gpus=count)
        for group, count in zip(fleet.groups, kept, strict=True)
    )
    every = sum(len(node.gpus) for node in baseline.nodes)
    return Stand(
        board(Fleet(groups), kinds, tables),
        tables,
        np.array(states, np.intp),
        np.array(loose, np.bool_),
        tuple(held[at] for at in range(len(kinds))),
        every - len(states),
    )


def _states(tables: Sequence[Tables]) -> Iterator[tuple[int, object]]:
    for at, each in enumerate(tables):
        for state in each.arrays.states:
            yield at, state


def _taken(baseline: Baseline, gpu: Gpu) -> set[tuple[int, Placement]]:
    by_id = baseline.kin[gpu.kin].geometry.by_id
    return {
        (each.profile_id, Placement(each.start, by_id[each.profile_id].size)) for each in gpu.held
    }


def _kinds_of(kinds: Sequence[Kind], gpu: Gpu) -> Iterator[int]:
    for each in gpu.held:
        for at, kind in enumerate(kinds):
            profile = kind.profiles[gpu.kin]
            if profile is not None and profile.id == each.profile_id:
                yield at
                break
