"""``tangram simulate``: policies side by side on the same simulated demand."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from extender.cli import policies
from extender.cli.desk import Ca, DeskUrl, Kubeconfig, Token, Where
from extender.cli.recording import OPTION, written
from extender.cli.simulated import show
from extender.cli.whatif import CLUSTER, answered, source
from extender.cli.whatif_shown import shown
from extender.policy import Policy, PolicyName
from extender.simulation.bound import known_bound
from extender.simulation.contenders import IMITATIONS, REPACK, UnknownContender
from extender.simulation.experiment import WARMUP, play
from extender.simulation.lifetimes import UnknownLifetime
from extender.simulation.lineup import lineup
from extender.simulation.measures import Measures
from extender.simulation.mixes import NAMED, UnknownMix
from extender.simulation.outcome import Outcome, outcome
from extender.simulation.scenario import Scenario, UnknownModel, stage
from extender.simulation.traces import MalformedTrace, Rule

FIRST_SEED = 31_000


class Output(StrEnum):
    """How the outcome is printed."""

    TEXT = "text"
    JSON = "json"


DESCRIBING = (
    "compare",
    "model",
    "gpus",
    "gpus_per_node",
    "then",
    "load",
    "lifetime",
    "arrivals",
    "warmup",
    "queue",
    "trace",
    "rule",
    "shared_only",
    "resample",
    "record",
)
"""Options that describe simulated GPUs and their demand: with ``--from`` these are there."""

NOT_RECORDED = {
    "compare": "--record writes what one policy decides",
    "seeds": "--record writes the demand of one seed, --first-seed",
    "queue": "--record lets everybody wait who finds no room",
    "output": "--record writes a file, and prints nothing",
}
"""Options that say nothing with ``--record``, and why."""

ABOUT_WHAT_IS = ("add_node", "remove_node", "save", "desk", "token", "ca", "kubeconfig")
"""Options that say something only of a fleet that is there."""


def simulate(
    context: typer.Context,
    policy: Annotated[
        str, typer.Option(metavar="NAME|FILE", help=policies.HELP)
    ] = PolicyName.DEFAULT.value,
    compare: Annotated[
        str,
        typer.Option(
            help="Others on the same demand, separated by commas: policies, policy files,"
            f" imitations ({', '.join(IMITATIONS)}), or {REPACK}: free migration."
        ),
    ] = "mfi,first-fit",
    model: Annotated[
        str, typer.Option(help="GPU model, or several: H100-80GB=60,A30-24GB=40.")
    ] = "H100-80GB",
    gpus: Annotated[int, typer.Option(min=1, max=100_000, help="GPUs of the model.")] = 100,
    gpus_per_node: Annotated[
        int, typer.Option(min=1, max=16, help="For imitations that look at nodes.")
    ] = 8,
    mix: Annotated[
        str, typer.Option(help=f"{', '.join(NAMED)}, or profiles: 7g.80gb=.3,1g.10gb=.7.")
    ] = "uniform",
    then: Annotated[
        str, typer.Option(help="Another mix, from half of the counted arrivals on.")
    ] = "",
    load: Annotated[
        float, typer.Option(min=0.01, max=10.0, help="Demand as a share of all memory slices.")
    ] = 0.85,
    lifetime: Annotated[
        str, typer.Option(help="exponential, uniform, lognormal:SIGMA; all of mean 1.")
    ] = "exponential",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Paired repetitions.")] = 20,
    first_seed: Annotated[int, typer.Option(help="The seeds count up from here.")] = FIRST_SEED,
    arrivals: Annotated[
        int, typer.Option(min=100, max=10_000_000, help="Requests counted for each seed.")
    ] = 20_000,
    warmup: Annotated[
        int, typer.Option(min=0, max=10_000_000, help="Requests before these, not counted.")
    ] = WARMUP,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Instead of comparing: write the demand of the first seed, as --policy decides"
            " about it, for `tangram replay`. Who finds no room waits.",
        ),
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Who finds no room waits, instead of being lost.")
    ] = False,
    trace: Annotated[
        str, typer.Option(metavar="FILE", help="A CSV of pods (openb's columns), not a mix.")
    ] = "",
    rule: Annotated[
        Rule, typer.Option(help="Share of a GPU to profile: A covers it, B and C are nearest.")
    ] = Rule.CEIL,
    shared_only: Annotated[
        bool, typer.Option("--shared-only", help="Of the trace, only who shares a GPU.")
    ] = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="Draw from the trace at --load, not in its order.")
    ] = False,
    origin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar=f"{CLUSTER}|LOG|FILE",
            help="What if, instead: how much still fits the fleet that is there (or was, when a"
            " decision log ended, or as --save has written it), how many GPUs its demand needs,"
            " when it runs out.",
        ),
    ] = "",
    add_node: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL:GPUSxNODES",
            help="With --from: with such nodes added, as H200-141GB:8x4 (repeatable).",
        ),
    ] = None,
    remove_node: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="With --from: without this node (repeatable)."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="With --from: keep what was found there in a file.")
    ] = None,
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
    output: Annotated[
        Output, typer.Option(help="text or json; json goes to stdout.")
    ] = Output.TEXT,
) -> None:
    """Try policies on simulated GPUs before they are used: same seeds, same requests.

    With --from: ask what if, of the fleet that is there, by its own policy or another.
    """
    _belonging_together(context, origin)
    if origin:
        answer = answered(
            source(origin, Where(desk, token, ca, kubeconfig)),
            policy=policy if _given(context, "policy") else "",
            adding=add_node or (),
            removing=remove_node or (),
            mix=mix if _given(context, "mix") else "",
            seeds=range(first_seed, first_seed + seeds),
            save=save,
        )
        if output is Output.JSON:
            typer.echo(msgspec.json.encode(answer))
        else:
            _console().print(*shown(answer), sep="\n")
        return
    scenario = Scenario(
        model=model,
        gpus=gpus,
        gpus_per_node=gpus_per_node,
        mix=mix,
        then=then,
        load=load,
        lifetime=lifetime,
        arrivals=arrivals,
        warmup=warmup,
        queueing=queue,
        trace=trace,
        rule=rule,
        shared_only=shared_only,
        resampled=resample,
    )
    if record is not None:
        for name, why in NOT_RECORDED.items():
            if _given(context, name):
                raise typer.BadParameter(f"{why}: leave it out", param_hint=f"--{name}")
        written(record, scenario, policy, first_seed)
        return
    recorded = bool(trace) and not resample
    numbers = range(first_seed, first_seed + (1 if recorded else seeds))
    if queue and REPACK in compare.split(","):
        raise typer.BadParameter(f"{REPACK} knows no queue", param_hint="--compare")
    others = [name.strip() for name in compare.split(",") if name.strip()]
    found = _simulated(scenario, policy, others, numbers)
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(found))
    else:
        show(_console(), found)


def _console() -> Console:
    # Without a terminal there is no width to keep to, and the tables are some 110 wide.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def _given(context: typer.Context, option: str) -> bool:
    """Tell whether an option was given on the command line."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _belonging_together(context: typer.Context, origin: str) -> None:
    for name in ABOUT_WHAT_IS if not origin else DESCRIBING:
        if _given(context, name):
            option = f"--{name.replace('_', '-')}"
            why = (
                f"--from takes the GPUs and the demand of {origin}: leave it out"
                if origin
                else f"it is about a fleet that is there: give --from {CLUSTER}, a log or a file"
            )
            raise typer.BadParameter(why, param_hint=option)


def _simulated(scenario: Scenario, policy: str, others: list[str], seeds: range) -> Outcome:
    started = time.perf_counter()
    options = dict.fromkeys(others, "--compare") | {policy: "--policy"}
    names = list(dict.fromkeys((policy, *others)))
    own = {name: found for name in names if (found := _from_file(name, options[name])) is not None}
    if policy == REPACK:
        raise typer.BadParameter(f"{REPACK} is a reference, not a policy", param_hint="--policy")
    try:
        on = stage(scenario)
        entered = lineup(names, own, on, scenario.load)
    except (UnknownModel, UnknownMix, UnknownLifetime, MalformedTrace) as error:
        raise typer.BadParameter(str(error), param_hint=OPTION[type(error)]) from error
    except UnknownContender as error:
        raise typer.BadParameter(str(error), param_hint=options[error.name]) from error
    measured: dict[str, list[Measures]] = {name: [] for name in names}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("replays", total=len(seeds) * len(names))
        for _, name, each in play(on, entered.contenders, seeds, clock_ns=time.perf_counter_ns):
            measured[name].append(each)
            progress.advance(task)
    return outcome(
        scenario,
        seeds,
        policy,
        entered,
        measured,
        bound=known_bound(scenario, on),
        seconds=time.perf_counter() - started,
    )


def _from_file(name: str, option: str) -> Policy | None:
    """Return the policy of a file; None for what is no path."""
    path = Path(name)
    if not path.suffix and not path.is_file():
        return None
    return policies.policy(name, option=option)
