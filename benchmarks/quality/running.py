"""Run what is not stored yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from benchmarks.quality import store
from benchmarks.quality.cells import Cell
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
    """Run the contenders that a cell's file lacks, except those *besides*, and store them."""
    for cell in cells:
        stored = store.load(cell, folder)
        known = {} if stored is None else stored.series
        missing = [name for name in cell.contenders if name not in known and name not in besides]
        if not missing:
            continue
        report(f"{cell.name}: {', '.join(missing)}")
        on = stage(cell.played)
        entered = lineup(missing, {}, on, cell.scenario.load)
        measured: dict[str, list[Measures]] = {name: [] for name in missing}
        for _, name, each in play(on, entered.contenders, cell.seeds):
            measured[name].append(each)
        first = measured[missing[0]]
        made = {
            name: store.series(each, entered.deciding.get(name, ""), entered.gains.get(name))
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
            ),
        )
