"""Results as they are kept: a compact JSON file for each cell, numbers as lists over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from benchmarks.quality.cells import Cell
from extender.simulation.bound import Bound
from extender.simulation.measures import Measures, Tally, Waiting
from extender.simulation.paired import Estimate
from extender.simulation.scenario import Scenario

RESULTS = Path(__file__).parent.parent / "results" / "quality"


class Series(msgspec.Struct, frozen=True, omit_defaults=True):
    """One contender's results, a value for each seed; the lists of a reference may be empty.

    ``accepted`` by profile. ``active``, ``used``, ``unusable``, ``blocked``: means over time, see
    :class:`extender.simulation.measures.Averages`. ``decides``: the policy that really decided.
    ``waiting``: who had to wait, with queueing, in mean lifetimes. ``gain``: what learned weights
    gained on the guard's demands.
    """

    accepted: dict[str, list[int]]
    capacity: list[float] = []
    fragmentation: list[float] = []
    active: list[float] = []
    used: list[float] = []
    unusable: list[float] = []
    blocked: list[float] = []
    waiting: list[Waiting] = []
    decides: str = ""
    gain: Estimate | None = None


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """All results of a cell; ``sizes`` and ``asked`` by profile, ``sha256`` that of a trace.

    ``bound`` is what no policy without migration can exceed on ever more GPUs, where it is known.
    """

    group: str
    scenario: Scenario
    seeds: tuple[int, ...]
    sizes: dict[str, int]
    asked: dict[str, list[int]]
    series: dict[str, Series]
    sha256: str = ""
    bound: Bound | None = None

    def measures(self, contender: str) -> list[Measures]:
        """Return what can be computed with again, seed by seed."""
        accepted = self.series[contender].accepted
        return [
            Measures(
                {p: Tally(self.asked[p][at], accepted[p][at]) for p in self.asked},
                tuple(self.sizes.values()),
            )
            for at in range(len(self.seeds))
        ]


NOBODY_WAITED = Waiting(0.0, 0.0, 0.0)


def series(
    measured: list[Measures], decides: str, gain: Estimate | None, *, queueing: bool
) -> Series:
    """Return the measures of one contender as they are kept."""
    waits = [each.waiting or NOBODY_WAITED for each in measured if queueing]
    profiles = measured[0].kinds
    averages = [each.averages for each in measured if each.averages is not None]
    return Series(
        accepted={name: [each.kinds[name].accepted for each in measured] for name in profiles},
        capacity=[round(each.capacity, 1) for each in measured if each.capacity is not None],
        fragmentation=[
            round(each.fragmentation, 1) for each in measured if each.fragmentation is not None
        ],
        active=[round(each.active_gpus, 3) for each in averages],
        used=[round(each.used, 5) for each in averages],
        unusable=[round(each.unusable, 4) for each in averages],
        blocked=[round(each.blocked, 4) for each in averages],
        waiting=[Waiting(*(round(n, 6) for n in msgspec.structs.astuple(w))) for w in waits],
        decides=decides,
        gain=gain,
    )


def load(cell: Cell, folder: Path) -> Result | None:
    """Return what is stored for a cell.

    None if nothing is, or if it is of another scenario, of other seeds or of another trace.
    """
    path = folder / f"{cell.name}.json"
    if not path.exists():
        return None
    result = msgspec.json.decode(path.read_bytes(), type=Result)
    stored = (result.scenario, result.seeds, result.sha256)
    return result if stored == (cell.scenario, cell.seeds, cell.sha256) else None


def save(cell: Cell, folder: Path, result: Result) -> None:
    """Store a cell's results, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{cell.name}.json"
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(msgspec.json.encode(result) + b"\n")
    unfinished.replace(path)


def load_all(folder: Path) -> Mapping[str, Result]:
    """Return all stored results by the name of their cell."""
    return {
        path.stem: msgspec.json.decode(path.read_bytes(), type=Result)
        for path in sorted(folder.glob("*.json"))
    }


def apart(results: Mapping[str, Result]) -> tuple[Mapping[str, Result], Mapping[str, Result]]:
    """Return the results of generated demand, and those of traces: by trace and rule, then size."""

    def order(result: Result) -> tuple[str, bool, str, float, int]:
        s = result.scenario
        return s.trace, s.shared_only, s.rule.value, s.load, s.gpus

    traces = {name: each for name, each in results.items() if each.scenario.trace}
    return (
        {name: each for name, each in results.items() if name not in traces},
        dict(sorted(traces.items(), key=lambda item: order(item[1]))),
    )
