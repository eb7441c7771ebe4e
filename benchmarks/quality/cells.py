"""What is run: a scenario, the seeds, and who takes part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from extender.simulation.mixes import NAMED
from extender.simulation.scenario import Scenario

OURS = ("default", "learned")
BASELINES = (
    "mfi",
    "mfi-v2",
    "fgd",
    "demand-weighted",
    "capability",
    "capability-loss",
    "expected-capability-loss",
    "best-fit",
    "worst-fit",
    "first-fit",
    "round-robin",
    "random",
    "hami-binpack",
    "hami-spread",
    "hami-binpack-bigger",
    "hami-2855-binpack",
    "instaslice",
    "kubernetes-default",
    "repack",
)
RIVALS = ("mfi", "best-fit")
"""Whom the default policy must nowhere be significantly below."""

TODAY = "kubernetes-default"
"""What happens without any of this."""

LOADS = (0.85, 1.0)
SEEDS = tuple(range(5000, 5020))
"""Those of the published reference; tuning and its guard use others."""


class Cell(msgspec.Struct, frozen=True):
    """One scenario with its contenders; ``group`` is the question it belongs to.

    A scenario names its trace by the file's name alone; ``trace`` is where that lies, and
    ``sha256`` what tells it from others of the name.
    """

    group: str
    scenario: Scenario
    contenders: tuple[str, ...]
    seeds: tuple[int, ...] = SEEDS
    trace: Path | None = None
    sha256: str = ""

    @property
    def name(self) -> str:
        """What tells the cell from all others, and names its file."""
        s = self.scenario
        if s.trace:
            pods = f"{Path(s.trace).stem}-{s.rule}" + ("-shared" if s.shared_only else "")
            how = f"{s.load:g}" if s.resampled else "in-order"
            return f"{self.group}-{s.model}-{s.gpus}-{pods}-{how}".lower()
        mix = f"{s.mix}-then-{s.then}" if s.then else s.mix
        life = s.lifetime.replace(":", "-")
        model = s.model.replace("=", "-").replace(",", "-")
        return f"{self.group}-{model}-{s.gpus}-{mix}-{s.load:g}-{life}".lower()

    @property
    def bounded(self) -> bool:
        """Whether its results are to stand beside what no policy without migration can exceed."""
        return self.group == "main"

    @property
    def played(self) -> Scenario:
        """The scenario with its trace where that lies."""
        if self.trace is None:
            return self.scenario
        return msgspec.structs.replace(self.scenario, trace=str(self.trace))


def full() -> Iterator[Cell]:
    """Yield all cells: the comparison, then what the default policy must stand up to."""
    for load in LOADS:
        for mix in NAMED:
            yield Cell("main", Scenario(mix=mix, load=load), (*OURS, *BASELINES))
    for load in LOADS:
        for mix in NAMED:
            yield from _elsewhere(mix, load)
        for mix, then in DRIFTS:
            yield Cell("drift", Scenario(mix=mix, then=then, load=load), (*OURS, *RIVALS))
    yield from _smaller()


OTHER_MODELS = ("A30-24GB", "RTX-PRO-6000-Blackwell-96GB")
"""Those with other placements; all models with eight memory slices share one table."""

OTHER_SIZES = (8, 25, 400)
OTHER_LIFETIMES = ("uniform", "lognormal:1.5")
DRIFTS = (
    ("skew-small", "skew-big"),
    ("skew-big", "skew-small"),
    ("very-small", "bimodal"),
    ("bimodal", "very-small"),
)


def _elsewhere(mix: str, load: float) -> Iterator[Cell]:
    for model in OTHER_MODELS:
        yield Cell("model", Scenario(model=model, mix=mix, load=load), (*OURS, *RIVALS))
    for gpus in OTHER_SIZES:
        yield Cell("size", Scenario(gpus=gpus, mix=mix, load=load), (*OURS, *RIVALS))
    for lifetime in OTHER_LIFETIMES:
        yield Cell("lifetime", Scenario(lifetime=lifetime, mix=mix, load=load), (*OURS, *RIVALS))


MIXED_MODELS = "H100-80GB=60,A30-24GB=40"
PUBLISHED_MIXES = ("uniform", "skew-small", "skew-big", "bimodal")
QUEUED_LOADS = (0.85, 0.95)
"""At a load of 1 a queue grows for as long as one looks."""

FEWER_SEEDS, FEWER_ARRIVALS = SEEDS[:10], 10_000


def _smaller() -> Iterator[Cell]:
    """Yield what is tried at half the seeds and requests: two models at once, and a queue."""
    for mix in PUBLISHED_MIXES:
        for load in LOADS:
            both = Scenario(model=MIXED_MODELS, mix=mix, load=load, arrivals=FEWER_ARRIVALS)
            yield Cell("models", both, ("default", *RIVALS), FEWER_SEEDS)
        for load in QUEUED_LOADS:
            queue = Scenario(mix=mix, load=load, queueing=True, arrivals=FEWER_ARRIVALS)
            yield Cell("queue", queue, ("default", *RIVALS, TODAY), FEWER_SEEDS)


def small() -> Iterator[Cell]:
    """Yield a few cells that take seconds, for tests."""
    for load in LOADS:
        scenario = Scenario(load=load, gpus=8, arrivals=400, warmup=100)
        yield Cell("main", scenario, ("default", *BASELINES), SEEDS[:3])
    scenario = Scenario(
        mix="skew-small", then="skew-big", load=1.0, gpus=8, arrivals=400, warmup=100
    )
    yield Cell("drift", scenario, ("default", *RIVALS), SEEDS[:3])
    both = Scenario(model="H100-80GB=4,A30-24GB=4", load=0.95, arrivals=400, warmup=100)
    yield Cell("models", both, ("default", *RIVALS), SEEDS[:3])
    queue = Scenario(gpus=8, load=0.95, queueing=True, arrivals=400, warmup=100)
    yield Cell("queue", queue, ("default", *RIVALS, TODAY), SEEDS[:3])


def shard(cells: list[Cell], part: int, parts: int) -> list[Cell]:
    """Return every *parts*-th cell, from the *part*-th (counted from 1) on."""
    return cells[part - 1 :: parts]
