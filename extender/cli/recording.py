"""``tangram simulate --record``: a simulated demand as a file that ``tangram replay`` takes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import typer
from rich.console import Console

from extender.cli import policies
from extender.replay.making import MEAN_LIFETIME_SECONDS, NotRecordable, made
from extender.simulation.lifetimes import UnknownLifetime
from extender.simulation.mixes import UnknownMix
from extender.simulation.scenario import Scenario, UnknownModel, stage
from extender.simulation.traces import MalformedTrace

BEGINS = "2026-01-01T00:00:00Z"
"""Of every record that is made: simulated demand has no date, and a trace tells none."""

OPTION = {
    UnknownModel: "--model",
    UnknownMix: "--mix",
    UnknownLifetime: "--lifetime",
    MalformedTrace: "--trace",
    NotRecordable: "--model",
}
"""The option that is wrong when a scenario cannot be set up."""


def written(path: Path, scenario: Scenario, policy: str, seed: int) -> None:
    """Write the demand of a *seed* as a *policy* (a name or a file) decides about it.

    Raises:
        typer.BadParameter: an option makes no sense, or the file cannot be written.
    """
    by, source = policies.in_force(policy)
    document = policy if source is None else source.seen.decode()
    try:
        on = stage(scenario)
        with Console(stderr=True).status("Recording …"):
            recorded = made(
                on.fleet,
                on.kinds,
                on.demand(seed),
                by,
                document,
                begins=BEGINS,
                gpus_per_node=scenario.gpus_per_node,
                unit_seconds=1.0 if scenario.trace else MEAN_LIFETIME_SECONDS,
            )
    except tuple(OPTION) as error:
        raise typer.BadParameter(str(error), param_hint=OPTION[type(error)]) from error
    try:
        path.write_bytes(msgspec.json.encode(recorded))
    except OSError as error:
        raise typer.BadParameter(
            f"{path}: cannot be written: {error.strerror}", param_hint="--record"
        ) from error
    typer.echo(f"{path}: {len(recorded.arrivals)} VMs", err=True)
