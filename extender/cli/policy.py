"""``tangram policy``: make, check, try and exchange the files that say how to rank placements."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from extender.cli.check import check
from extender.cli.promotion import promote, rollback
from extender.cli.shadowed import shadow
from extender.policy import Policy, PolicyName, Weights
from extender.policy.file import (
    MalformedPolicy,
    PolicyFile,
    Trained,
    read,
    weights_as_written,
    written,
)
from extender.simulation.experiment import Stage
from extender.simulation.guard import guarded
from extender.simulation.mixes import NAMED, UnknownMix
from extender.simulation.scenario import Scenario, UnknownModel, stage
from extender.simulation.training import Effort
from extender.simulation.training import train as tune

policy = typer.Typer(
    name="policy", help="Make, check, try and exchange policy files.", no_args_is_help=True
)
policy.command()(check)
policy.command()(shadow)
policy.command()(promote)
policy.command()(rollback)


@policy.command()
def train(
    output: Annotated[Path, typer.Argument(help="The policy file to write.")],
    model: Annotated[str, typer.Option(help="GPU model from the catalog.")] = "H100-80GB",
    gpus: Annotated[int, typer.Option(min=1, max=10_000, help="Simulated GPUs.")] = 100,
    mix: Annotated[
        str, typer.Option(help=f"{', '.join(NAMED)}, or profiles: 7g.80gb=.3,1g.10gb=.7.")
    ] = "uniform",
    load: Annotated[
        float, typer.Option(min=0.1, max=2.0, help="Demand at which the result must be better.")
    ] = 0.85,
    generations: Annotated[
        int, typer.Option(min=1, max=1000, help="Rounds of tuning; some 7 s each at 100 GPUs.")
    ] = 35,
    arrivals: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Requests in each demand tuned on.")
    ] = Effort().arrivals,
    start: Annotated[
        Path | None, typer.Option(help="A policy file whose weights the search begins at.")
    ] = None,
    spread: Annotated[
        float, typer.Option(min=0.01, max=10.0, help="How far from there it looks at first.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = 900_000,
) -> None:
    """Tune the learned value for a mix, and write it with what it gained on other seeds.

    The file is used as `--policy FILE`; where the gain is not certain, it decides as default does.
    """
    _check_writable(output)
    on = _stage(Scenario(model=model, gpus=gpus, mix=mix, load=load))
    if len(on.fleet.groups) != 1:
        raise typer.BadParameter("weights are for one model", param_hint="--model")
    effort = Effort(generations=generations, arrivals=arrivals, seed=seed, spread=spread)
    begin = None if start is None else _weights(start)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("best {task.fields[best]:.4f}"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("generations", total=generations, best=0.0)
        tuned = tune(
            on.fleet,
            on.kinds,
            on.shares,
            effort,
            lambda done, best: progress.update(task, completed=done, best=best),
            start=begin,
        )
        progress.update(task, description="judging on other seeds")
        candidate = Policy(PolicyName.LEARNED, weights=tuned)
        judged = guarded(candidate, on.fleet, on.kinds, on.shares, load)
    assert judged.gain.ci95 is not None  # the guard has several seeds
    file = PolicyFile(
        api_version="tangram.dev/v1alpha1",
        kind="PlacementPolicy",
        value=PolicyName.LEARNED,
        demand=dict(on.observed),
        weights=weights_as_written(tuned),
        trained=Trained(
            model=on.fleet.groups[0].model,
            gpus=gpus,
            load=load,
            seed=seed,
            gain=round(judged.gain.mean, 4),
            gain_ci95=round(judged.gain.ci95, 4),
            better=judged.better,
        ),
    )
    try:
        output.write_bytes(written(file))
    except OSError as error:
        typer.echo(f"tangram policy train: cannot write {output}: {error.strerror}", err=True)
        raise typer.Exit(1) from error
    console.print(
        f"{output}: {judged.gain.mean:+.3f} ± {judged.gain.ci95:.3f} percentage points of"
        f" acceptance beyond default: {'used' if judged.better else 'not used'}.",
        highlight=False,
        soft_wrap=True,
    )


def _check_writable(output: Path) -> None:
    """Find out before minutes of tuning whether there is a place for what comes of them."""
    if output.is_dir() or not os.access(output if output.exists() else output.parent, os.W_OK):
        raise typer.BadParameter(f"{output} cannot be written", param_hint="OUTPUT")


def _weights(path: Path) -> Weights:
    try:
        found = read(path).weights
    except MalformedPolicy as error:
        raise typer.BadParameter(str(error), param_hint="--start") from error
    if found is None:
        raise typer.BadParameter(f"{path} has no weights", param_hint="--start")
    return found.weights


def _stage(scenario: Scenario) -> Stage:
    try:
        return stage(scenario)
    except UnknownModel as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error
    except UnknownMix as error:
        raise typer.BadParameter(str(error), param_hint="--mix") from error
