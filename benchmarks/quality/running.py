"""Run what is not stored yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import msgspec

from benchmarks.quality import store
from benchmarks.quality.cells import Cell
from extender.simulation.bound import known_bound
from extender.simulation.experiment import play
from extender.simulation.lineup import lineup
from extender.simulation.measures import Measures
from extender.simulation.scenario import stage


def run(
    cells: Iterable[Cell],
    folder: Path,
    *,
    besides: Collection[str] = (),
    report: Callable[[str], None],
) -> None:
    """Run the contenders that a cell's file lacks, except those *besides*, and store them.

    With them the bound of a cell that is to have one.
    """
    for cell in cells:
        stored = store.load(cell, folder)
        known = {} if stored is None else stored.series
        missing = [name for name in cell.contenders if name not in known and name not in besides]
        on = stage(cell.played)
        bound = stored.bound if stored is not None else None
        if bound is None and cell.bounded:
            bound = known_bound(cell.scenario, on)
            if bound is not None and stored is not None and not missing:
                report(f"{cell.name}: bound")
                store.save(cell, folder, msgspec.structs.replace(stored, bound=bound))
        if not missing:
            continue
        report(f"{cell.name}: {', '.join(missing)}")
        entered = lineup(missing, {}, on, cell.scenario.load)
        measured: dict[str, list[Measures]] = {name: [] for name in missing}
        for _, name, each in play(on, entered.contenders, cell.seeds):
            measured[name].append(each)
        first = measured[missing[0]]
        made = {
            name: store.series(
                each,
                entered.deciding.get(name, ""),
                entered.gains.get(name),
                queueing=cell.scenario.queueing,
            )
            for name, each in measured.items()
        }
        together = {**known, **made}
        store.save(
            cell,
            folder,
            store.Result(
                cell.group,
                cell.scenario,
                cell.seeds,
                {kind.name: kind.size for kind in on.kinds},
                {kind.name: [each.kinds[kind.name].asked for each in first] for kind in on.kinds},
                {name: together[name] for name in cell.contenders if name in together},
                cell.sha256,
                bound,
            ),
        )
