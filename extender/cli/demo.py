"""``tangram demo``: a simulated cluster, from the first arrival to the last departure."""

from __future__ import annotations

import asyncio
import signal
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from extender.cli import decision_logs, policies
from extender.cli.decision_logs import Kept
from extender.decision_log import DecisionLog
from extender.demo.outcome import Outcome
from extender.demo.run import Options, run
from extender.demo.view import show
from extender.demo.world import requestable
from extender.policy import PolicyName
from extender.settings import Settings
from extender.simulation.mixes import NAMED, UnknownMix
from extender.simulation.mixes import mix as read_mix
from nodeagent.api.catalog import MODELS

ModelName = StrEnum("ModelName", {name: name for name in MODELS})  # type: ignore[misc]


class Output(StrEnum):
    """How the outcome is printed."""

    TEXT = "text"
    JSON = "json"


def demo(
    nodes: Annotated[int, typer.Option(min=1, max=1000, help="Simulated nodes.")] = 4,
    gpus: Annotated[int, typer.Option(min=1, max=16, help="GPUs in each node.")] = 8,
    model: Annotated[ModelName, typer.Option(help="GPU model from the catalog.")] = ModelName[
        "H100-80GB"
    ],
    vms: Annotated[int, typer.Option(min=1, max=100_000, help="VMs that arrive.")] = 300,
    mix: Annotated[
        str, typer.Option(help=f"{', '.join(NAMED)}, or profiles: 7g.80gb=.3,1g.10gb=.7.")
    ] = "mid",
    load: Annotated[
        float, typer.Option(min=0.01, max=10.0, help="Demand as a share of all memory slices.")
    ] = 0.85,
    burst: Annotated[
        int, typer.Option(min=0, help="So many of the VMs, the last, come at once.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="The same seed brings the same VMs.")] = 1,
    policy: Annotated[
        str, typer.Option(metavar="NAME|FILE", help=policies.HELP)
    ] = PolicyName.DEFAULT.value,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="After the last arrival, go on in slow time until Ctrl-C, with a page to watch.",
        ),
    ] = False,
    lifetime: Annotated[
        float,
        typer.Option(
            min=1.0, help="With --serve: seconds that a VM lives from then on, on average."
        ),
    ] = 90.0,
    page_port: Annotated[
        int, typer.Option(min=0, max=65535, help="With --serve: the page's port; 0: a free one.")
    ] = 0,
    decision_log: decision_logs.Folder = None,
    output: Annotated[
        Output, typer.Option(help="text or json; json goes to stdout.")
    ] = Output.TEXT,
) -> None:
    """Let VMs come and go on simulated GPUs, placed through the real hooks."""
    in_force, _ = policies.in_force(policy)
    options = Options(
        model=MODELS[model.value],
        nodes=nodes,
        gpus=gpus,
        vms=vms,
        mix=mix,
        load=load,
        seed=seed,
        policy=in_force,
        burst=min(burst, vms),
        lifetime=lifetime,
        page_port=page_port,
    )
    try:
        read_mix(mix, options.model.geometry, frozenset(requestable(options.model)))
    except UnknownMix as error:
        raise typer.BadParameter(str(error), param_hint="--mix") from error
    errors = Console(stderr=True)
    # As in a cluster weights have to prove themselves first, which takes longer than most demos.
    ranking = in_force.policy.effective
    judged = ranking is PolicyName.LEARNED
    until = "; until a simulation of what is asked for says it is better, default" if judged else ""
    errors.print(
        f"Tangram demo: simulated {model.value}, {gpus} in each node, nodes: {nodes}."
        f" VMs: {vms} (mix {mix}, load {load:g}), each tried once."
        f" Policy: {ranking}{until}, version {in_force.version}.",
        highlight=False,
    )
    try:
        with decision_logs.opened(Kept(decision_log), policy=in_force, settings=Settings()) as log:
            outcome = _played(options, errors, serve=serve, log=log)
    except OSError as error:
        raise typer.BadParameter(
            f"cannot listen on {page_port}: {error.strerror}", param_hint="--page-port"
        ) from error
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(outcome))
    else:
        show(Console(highlight=False, soft_wrap=True), outcome, options.model.geometry)
    if not outcome.sound:
        raise typer.Exit(1)


def _played(options: Options, console: Console, *, serve: bool, log: DecisionLog | None) -> Outcome:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[refused]} refused"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("VMs", total=options.vms, refused=0)

        def advance(placed: int, refused: int) -> None:
            progress.update(task, completed=placed + refused, refused=refused)

        async def linger(hooks: str, page: str) -> None:
            interrupted = _interrupted()  # from here on, for whoever reads the next line may do so
            progress.stop()
            console.print(f"Watch it at {page}/", highlight=False)
            console.print(f"The hooks answer at {hooks}/filter, …; Ctrl-C ends.", highlight=False)
            await interrupted.wait()

        story = run(options, progress=advance, linger=linger if serve else None, decision_log=log)
        return uvloop.run(story)


def _interrupted() -> asyncio.Event:
    """Return what is set once the process is told to end."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
