"""The agent's command line: ``tangram-agent``."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
import uvloop

from nodeagent import discover
from nodeagent.api import keys
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.protocol import Refused
from nodeagent.apiserver.rest import RestApi
from nodeagent.assembly import Parts, Simulation, WrongUsage, check_resource
from nodeagent.deviceplugin import Places
from nodeagent.driver import DriverError, Host, LibraryNotFound
from nodeagent.logs import LEVELS, Format, log_to_stderr
from nodeagent.nvml import Location, NvmlDriver
from nodeagent.nvml.table import table
from nodeagent.ownership import observe
from nodeagent.purview import Purview
from nodeagent.real_node import RealNode
from nodeagent.serving import serve

PLACES = Places()
"""Where a kubelet and a container runtime have their directories, unless told otherwise."""

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


class Manage(StrEnum):
    """Which GPUs are used where nobody has said it of single ones."""

    ALL = "all"
    NONE = "none"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tangram-agent {version('tangram-vgpu')}")
        raise typer.Exit


@app.callback()
def configure(
    log_level: Annotated[
        str, typer.Option(help="Least severe log event shown: debug, info, warning, error.")
    ] = "info",
    log_format: Annotated[
        Format, typer.Option(help="Log events as JSON objects, or for people.")
    ] = Format.JSON,
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
    log_to_stderr(log_level, log_format)


@app.command()
def run(
    node: Annotated[
        list[str],
        typer.Option(
            help="The Node to serve; with --simulate it may be repeated.", envvar="NODE_NAME"
        ),
    ],
    mode: Annotated[
        Mode | None,
        typer.Option(help="How GPU instances are handed out; to be said for real GPUs."),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where to keep a node's journal and what it told; may be left out when simulating."
        ),
    ] = None,
    manage: Annotated[
        Manage,
        typer.Option(
            help=f"Which GPUs may be used where the GpuNode's annotation {keys.GPUS_ANNOTATION}"
            " does not say it. Those cut by hand with Harvester are not among all: name them there."
        ),
    ] = Manage.ALL,
    resource: Annotated[
        list[str] | None,
        typer.Option(help="Hand out this resource; may be repeated. All there are if left out."),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="Otherwise the pod's service account, or what kubectl would use."),
    ] = None,
    library: Annotated[
        Path | None, typer.Option(help="The driver's libnvidia-ml.so.1; otherwise searched for.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Root of a driver container, such as /run/nvidia/driver, to search in."),
    ] = None,
    host_root: Annotated[
        Path, typer.Option(help="Where the node's /proc, /sys and /dev are, if not here.")
    ] = Path("/"),
    kubelet_dir: Annotated[
        Path, typer.Option(help="The kubelet's device-plugins directory.")
    ] = PLACES.device_plugins,
    pod_resources: Annotated[
        Path, typer.Option(help="The socket of the kubelet's pod-resources API.")
    ] = PLACES.pod_resources,
    cdi_dir: Annotated[
        Path, typer.Option(help="Where CDI specifications of containers' devices are written.")
    ] = PLACES.cdi,
    enable_mig: Annotated[
        bool, typer.Option("--enable-mig", help="Turn MIG mode on on idle GPUs that lack it.")
    ] = False,
    enable_sriov: Annotated[
        bool,
        typer.Option("--enable-sriov", help="Enable the virtual functions of idle GPUs, for VMs."),
    ] = False,
    simulate: Annotated[
        str, typer.Option(metavar="MODEL", help=f"Simulate GPUs: {', '.join(MODELS)}.")
    ] = "",
    gpus: Annotated[int, typer.Option(min=0, max=16, help="Simulated GPUs on each node.")] = 8,
    create_latency: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="How long a simulated creation takes.")
    ] = 0.0,
    alive_file: Annotated[
        Path | None,
        typer.Option(
            help="Touch this file every ten seconds for as long as the agent is not stuck, for a"
            " probe that looks at its age."
        ),
    ] = None,
) -> None:
    """Serve one node, or several simulated ones, until told to stop (SIGTERM or Ctrl-C).

    The Nodes must exist. With --simulate the agent plays their kubelets, too: it advertises the
    devices, runs the pods bound to them, and ends these when they are deleted. Told to stop, it
    first waits, not for long, until the pods it has made something for have it; told again, it
    stops at once.
    """
    purview = Purview(all_gpus=manage is Manage.ALL, resources=frozenset(resource or ()))
    parts: Parts
    try:
        for name in purview.resources:
            check_resource(name)
        if simulate:
            parts = Simulation(
                nodes=tuple(node),
                model=simulate,
                gpus=gpus,
                mode=mode or Mode.VGPU_VFIO,
                state_dir=state_dir,
                create_seconds=create_latency,
                preparing=enable_mig or enable_sriov,
            )
        else:
            parts = RealNode(
                nodes=tuple(node),
                mode=mode,
                state_dir=state_dir,
                location=Location(library, root),
                host_root=host_root,
                places=Places(kubelet_dir, pod_resources, cdi_dir),
                enable_mig=enable_mig,
                enable_sriov=enable_sriov,
            )
        parts.check()
        if alive_file is not None and not alive_file.parent.is_dir():
            raise WrongUsage(f"--alive-file: there is no directory {alive_file.parent}")
    except WrongUsage as error:
        _end(WRONG_USAGE, str(error))
    try:
        api = RestApi(kubeconfig=kubeconfig, connections=parts.connections)
        uvloop.run(_serve(parts, purview, api, alive_file))
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
    host_root: Annotated[
        Path, typer.Option(help="Where the node's /proc, /sys and /dev are, if not here.")
    ] = Path("/"),
) -> None:
    """Print what this node has: GPUs, GPU instances, profiles, vGPU types. Changes nothing."""
    try:
        host = asyncio.run(_looked_at(Location(library, root), host_root))
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


async def _looked_at(location: Location, host_root: Path) -> Host:
    async with NvmlDriver(location, Mode.CONTAINER, root=host_root) as driver:
        return await driver.discover()


async def _serve(parts: Parts, purview: Purview, api: RestApi, alive: Path | None) -> None:
    async with api, parts.assembled(api, purview) as agents:
        await serve(agents, alive)


def _end(status: int, reason: str) -> NoReturn:
    typer.echo(f"tangram-agent: {reason}", err=True)
    raise typer.Exit(status)


if __name__ == "__main__":
    main()
