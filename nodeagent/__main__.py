"""The agent's command line: ``tangram-agent``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import structlog
import typer
import uvloop

from nodeagent import discover
from nodeagent.agent import Agent
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.protocol import Refused
from nodeagent.apiserver.rest import RestApi
from nodeagent.driver import DriverError, Host, LibraryNotFound
from nodeagent.journal_file import FileJournal
from nodeagent.logs import LEVELS, log_to_stderr
from nodeagent.nvml import Location, NvmlDriver
from nodeagent.nvml.table import table
from nodeagent.ownership import observe
from nodeagent.simulated.driver import SimulatedDriver
from nodeagent.simulated.hardware import Hardware
from nodeagent.simulated.kubelet import SimulatedKubelet

log = structlog.get_logger()

WRONG_USAGE = 2
API_SERVER_UNUSABLE = 1
NO_DRIVER = 1
"""Exit statuses."""

app = typer.Typer(
    help="Tangram's node agent: reports a node's GPUs and makes the planned GPU instances exist.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tangram-agent {version('tangram-vgpu')}")
        raise typer.Exit


@app.callback()
def configure(
    log_level: Annotated[
        str, typer.Option(help="Least severe log event shown: debug, info, warning, error.")
    ] = "info",
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Set up logs for the command that follows."""
    if log_level.lower() not in LEVELS:
        raise typer.BadParameter(
            f"{log_level} is none of {', '.join(LEVELS)}", param_hint="--log-level"
        )
    log_to_stderr(log_level)


@app.command()
def run(
    node: Annotated[
        list[str], typer.Option(help="The Node to serve; with --simulate it may be repeated.")
    ],
    simulate: Annotated[
        str, typer.Option(metavar="MODEL", help=f"Simulate GPUs: {', '.join(MODELS)}.")
    ] = "",
    gpus: Annotated[int, typer.Option(min=0, max=16, help="Simulated GPUs on each node.")] = 8,
    mode: Annotated[Mode, typer.Option(help="How GPU instances are handed out.")] = Mode.VGPU_VFIO,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="Otherwise the pod's service account, or what kubectl would use."),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Where to keep each node's journal; not kept if left out."),
    ] = None,
    create_latency: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="How long a creation takes.")
    ] = 0.0,
) -> None:
    """Serve one node, or several simulated ones, until told to stop (SIGTERM or Ctrl-C).

    The Nodes must exist. With --simulate the agent plays their kubelets, too: it advertises the
    devices, runs the pods bound to them, and ends these when they are deleted.
    """
    if not simulate:
        _end(WRONG_USAGE, "real GPUs can only be listed yet (inventory): use --simulate MODEL")
    if simulate not in MODELS:
        _end(WRONG_USAGE, f"no such GPU model: {simulate}; known are {', '.join(MODELS)}")
    if mode is Mode.HARVESTER:
        _end(WRONG_USAGE, "Harvester's own device plugin cannot be simulated yet")
    if len(set(node)) < len(node):
        _end(WRONG_USAGE, "a node is named twice")
    hardware = [
        Hardware(name, [MODELS[simulate]] * gpus, mode, power_on=str(uuid.uuid4())) for name in node
    ]
    try:
        uvloop.run(_serve(hardware, kubeconfig, state_dir, create_latency))
    except Refused as error:
        _end(API_SERVER_UNUSABLE, f"the API server cannot be used: {error}")


class Output(StrEnum):
    """How an inventory is printed."""

    TABLE = "table"
    JSON = "json"


@app.command()
def inventory(
    output: Annotated[
        Output, typer.Option(help="For people, or as the status of a GpuNode.")
    ] = Output.TABLE,
    library: Annotated[
        Path | None, typer.Option(help="The driver's libnvidia-ml.so.1; otherwise searched for.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Root of a driver container, such as /run/nvidia/driver, to search in."),
    ] = None,
) -> None:
    """Print what this node has: GPUs, GPU instances, profiles, vGPU types. Changes nothing."""
    try:
        host = asyncio.run(_looked_at(Location(library, root)))
    except LibraryNotFound as error:
        reason = f"{error.meaning} ({error.detail}); give --library or --root"
        _end(NO_DRIVER, f"no NVIDIA driver: {reason}")
    except DriverError as error:
        _end(NO_DRIVER, f"the NVIDIA driver cannot be asked: {error}")
    if output is Output.TABLE:
        typer.echo(table(host))
    else:
        observed = {gpu.uuid: observe(gpu, (), host) for gpu in host.gpus}
        status = msgspec.json.encode(discover.inventory(host, observed, ()))
        typer.echo(msgspec.json.format(status))


def main() -> None:
    """Run the command line."""
    app(prog_name="tangram-agent")


async def _looked_at(location: Location) -> Host:
    async with NvmlDriver(location, Mode.CONTAINER) as driver:
        return await driver.discover()


async def _serve(
    nodes: Sequence[Hardware],
    kubeconfig: Path | None,
    state_dir: Path | None,
    create_seconds: float,
) -> None:
    """Run an agent for each node until SIGTERM or SIGINT."""
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    # Each node watches its plan and its pods, and makes a request now and then.
    connections = 4 * len(nodes) + 4
    with contextlib.suppress(asyncio.CancelledError):
        async with (
            RestApi(kubeconfig=kubeconfig, connections=connections) as api,
            asyncio.TaskGroup() as tasks,
        ):
            for hardware in nodes:
                agent = Agent(
                    hardware.node,
                    api=api,
                    driver=SimulatedDriver(hardware, create_seconds=create_seconds),
                    kubelet=SimulatedKubelet(api, hardware),
                    journal=FileJournal(state_dir and state_dir / hardware.node / "journal.json"),
                    epoch=str(uuid.uuid4()),
                )
                tasks.create_task(agent.run(), name=f"agent-{hardware.node}")
            log.info("agents_started", nodes=[hardware.node for hardware in nodes])
    log.info("agents_stopped")


def _end(status: int, reason: str) -> NoReturn:
    typer.echo(f"tangram-agent: {reason}", err=True)
    raise typer.Exit(status)


if __name__ == "__main__":
    main()
