"""``tangram policy``: make and check the files that say how placements are ranked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from extender.cli.against import Effects, look
from extender.policy import Policy, PolicyName, Weights
from extender.policy.file import (
    MalformedPolicy,
    PolicyFile,
    Trained,
    read,
    weights_as_written,
    written,
)
from extender.policy.rules import Rules
from extender.service.ports import ClusterUnavailable
from extender.simulation.experiment import Stage
from extender.simulation.guard import guarded
from extender.simulation.mixes import NAMED, UnknownMix
from extender.simulation.scenario import Scenario, UnknownModel, stage
from extender.simulation.training import Effort
from extender.simulation.training import train as tune
from nodeagent.apiserver.protocol import ApiError

policy = typer.Typer(name="policy", help="Make and check policy files.", no_args_is_help=True)


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


class Against(StrEnum):
    """What a policy is checked against."""

    CLUSTER = "cluster"


@policy.command()
def check(
    file: Annotated[Path, typer.Argument(help="The policy file.")],
    against: Annotated[
        Against | None,
        typer.Option(help="Look what it comes to there: whom it matches, and what is over it."),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="Credentials for --against cluster; in a cluster, the pod's own."),
    ] = None,
) -> None:
    """Say whether a policy file can be used, which policy really decides by it, and its rules."""
    try:
        found = read(file)
    except MalformedPolicy as error:
        for line in str(error).splitlines():
            typer.echo(f"tangram policy check: {line}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{file}: {found.policy.effective.value}{_why(found)}")
    typer.echo(f"  version {found.version}")
    for line in _rules(found.rules):
        typer.echo(f"  {line}")
    if against is Against.CLUSTER:
        try:
            there = look(kubeconfig)
        except (ApiError, ClusterUnavailable) as error:
            typer.echo(f"tangram policy check: cannot use the API server: {error}", err=True)
            raise typer.Exit(1) from error
        typer.echo("In the cluster:")
        for line in Effects(found, there).lines():
            typer.echo(f"  {line}")


def _rules(rules: Rules) -> Iterator[str]:
    """Say in a line each what the rules come to."""
    for pool in rules.pools:
        yield f"pool {pool.name}: {_listed(pool.profiles, 'all profiles')}"
    for tenant in rules.tenants:
        caps = [f"at most {n} x {profile}" for profile, n in tenant.caps.profiles.items()]
        if tenant.caps.memory_slices is not None:
            caps.insert(0, f"at most {tenant.caps.memory_slices} memory slices")
        parts = [
            _listed(tenant.profiles, "all profiles"),
            _listed(tenant.pools, "all pools"),
            *caps,
        ]
        if tenant.dedicated is not None:
            parts.append(f"shares no {tenant.dedicated}".replace("gpu", "GPU"))
        if tenant.priority:
            parts.append(f"priority {tenant.priority:+}")
        yield f"tenant {tenant.name}: {'; '.join(parts)}"
    for room in rules.headroom:
        where = f"in pool {room.pool}" if room.pool else "on all nodes"
        yield f"headroom: {room.keep} x {room.profile} kept free {where}"
    if rules.avoid:
        yield f"avoided nodes: {len(rules.avoid)} {'rule' if len(rules.avoid) == 1 else 'rules'}"


def _listed(names: Sequence[str], without: str) -> str:
    return ", ".join(names) or without


def _why(file: PolicyFile) -> str:
    """Say of weights whether they decide, and on what grounds."""
    if file.weights is None:
        return ""
    if file.trained is None:
        return " (by weights that no simulation has judged)"
    gained = f"{file.trained.gain:+.3f} ± {file.trained.gain_ci95:.3f} percentage points"
    if file.trained.better:
        return f" (its weights gained {gained})"
    return f" (not {file.value.value}: its weights gained {gained}, which is not certain)"


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
