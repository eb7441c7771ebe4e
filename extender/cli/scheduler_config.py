"""``tangram scheduler-config``: what kube-scheduler has to be told, or was told wrongly."""

from __future__ import annotations

import asyncio
import json
import sys
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import typer
import yaml

from extender.kubescheduler import compose
from extender.kubescheduler.check import check as faults
from extender.kubescheduler.compose import Files, Wanted
from extender.kubescheduler.configuration import MalformedConfiguration, read
from extender.kubescheduler.offered import Offered, of_inventory, of_models
from extender.server.description import HOOKS
from extender.settings import Settings
from nodeagent.api import gpunode, keys, resources
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import GPU_NODES, ApiError
from nodeagent.apiserver.rest import RestApi

SERVICE = f"tangram-extender.{keys.SYSTEM_NAMESPACE}.svc"
"""The Service that manifests/ make, and the name in its certificate."""

SCHEDULER = "tangram"
TLS_DIRECTORY = PurePosixPath("/etc/tangram/tls")
WRONG, UNUSABLE = 1, 2
"""Exit statuses."""

EVERY_MODEL = "all"

PATCH_NOTE = """\
# To be merged into the configuration that kube-scheduler's --config names: percentageOfNodesToScore
# and the entry in extenders. On a control plane of static pods, mount the certificates' directory.
"""
SECOND_NOTE = """\
# For a kube-scheduler beside the default one; VMs name it in their schedulerName.
"""


class Target(StrEnum):
    """Whose configuration is printed."""

    SECOND = "second"
    DEFAULT = "default"


class Output(StrEnum):
    """How it is printed."""

    YAML = "yaml"
    JSON = "json"


def scheduler_config(
    target: Annotated[
        Target,
        typer.Option(
            "--for",
            help="A second scheduler's whole configuration, or a patch for the default one's.",
        ),
    ] = Target.SECOND,
    check: Annotated[
        str,
        typer.Option(metavar="FILE", help="Say what is wrong with this one instead; - is stdin."),
    ] = "",
    name: Annotated[
        str, typer.Option(help="The second scheduler's name, as in a VM's schedulerName.")
    ] = SCHEDULER,
    url: Annotated[
        str, typer.Option(help="Where the scheduler reaches the extender, --prefix included.")
    ] = f"https://{SERVICE}:8443",
    server_name: Annotated[
        str,
        typer.Option(
            help="The name in the extender's certificate.",
            show_default=f"{SERVICE}, if --url has an address or another name",
        ),
    ] = "",
    http_timeout: Annotated[
        float, typer.Option(min=4.0, help="The extender's --http-timeout, in seconds.")
    ] = Settings().http_timeout_seconds,
    weight: Annotated[
        int, typer.Option(min=1, help="How much the extender's scores count.")
    ] = compose.WEIGHT,
    tls_dir: Annotated[
        str,
        typer.Option(help="Where the scheduler finds ca.crt, tls.crt and tls.key."),
    ] = str(TLS_DIRECTORY),
    resource: Annotated[
        list[str] | None,
        typer.Option(
            help="A resource to manage (repeatable).",
            show_default="what the GpuNodes of the cluster offer",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help=f"All resources of a GPU model (repeatable): {', '.join(MODELS)}, or"
            f" {EVERY_MODEL}."
        ),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="Credentials for the API server; otherwise what kubectl would use."),
    ] = None,
    output: Annotated[Output, typer.Option(help="yaml or json.")] = Output.YAML,
) -> None:
    """Print the KubeSchedulerConfiguration that Tangram needs, or check one."""
    host = urlsplit(url).hostname
    if host is None:
        raise typer.BadParameter(f"{url} is no address", param_hint="--url")
    secured = url.startswith("https:")
    offered = _offered(resource or [], model or [], kubeconfig, needed=not check)
    wanted = Wanted(
        url=url,
        server_name=server_name or (SERVICE if secured and host != SERVICE else ""),
        files=_files(PurePosixPath(tls_dir)) if secured else None,
        http_timeout_seconds=http_timeout,
        verbs=tuple(hook.verb for hook in HOOKS),
        weight=weight,
        resources=offered,
    )
    if check:
        _check(check, wanted)
    else:
        _print(wanted, target, name, output)


def _print(wanted: Wanted, target: Target, name: str, output: Output) -> None:
    second = target is Target.SECOND
    document = compose.second_scheduler(wanted, name) if second else compose.patch(wanted)
    if output is Output.JSON:
        typer.echo(json.dumps(document, indent=2))
    else:
        text = yaml.safe_dump(document, sort_keys=False, width=100)
        typer.echo((SECOND_NOTE if second else PATCH_NOTE) + text, nl=False)


def _check(file: str, wanted: Wanted) -> None:
    """Print each finding and its remedy; what is fatal ends with a status of its own."""
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        found = list(faults(read(text), wanted))
    except OSError as error:
        _end(UNUSABLE, f"{file} cannot be read: {error.strerror}")
    except MalformedConfiguration as error:
        _end(
            UNUSABLE, f"{file} is no KubeSchedulerConfiguration that kube-scheduler takes: {error}"
        )
    for each in found:
        typer.echo(f"{'error' if each.fatal else 'warning'}: {each.field} {each.problem}")
        typer.echo(f"  remedy: {each.remedy}")
    if any(each.fatal for each in found):
        raise typer.Exit(WRONG)
    if not found:
        typer.echo(f"{file}: nothing is wrong")


def _files(directory: PurePosixPath) -> Files:
    return Files(*(str(directory / name) for name in ("ca.crt", "tls.crt", "tls.key")))


def _offered(
    named: list[str], models: list[str], kubeconfig: Path | None, *, needed: bool
) -> Offered:
    """Return the resources to manage: those named, those of models, else those in the cluster.

    Where they are not *needed*, not to know them is no error.
    """
    for each in named:
        if not resources.ours(each):
            raise typer.BadParameter(
                f"{each} is nothing Tangram serves: nvidia.com/mig-1g.10gb or"
                " nvidia.com/NVIDIA_A100-1-5C would be",
                param_hint="--resource",
            )
    unknown = [each for each in models if each != EVERY_MODEL and each not in MODELS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]} is no known GPU model", param_hint="--model")
    if named or models:
        every = MODELS if EVERY_MODEL in models else models
        found = dict(of_models(MODELS[each] for each in every)) if models else {}
        return dict(sorted((found | dict.fromkeys(named, False)).items()))
    try:
        offered = of_inventory(asyncio.run(_gpu_nodes(kubeconfig)))
    except ApiError as error:
        if needed:
            _end(UNUSABLE, f"the GpuNodes cannot be read: {error}; or give --resource or --model")
        typer.echo(f"resources are not compared: the GpuNodes cannot be read: {error}", err=True)
        return {}
    if not offered and needed:
        _end(UNUSABLE, "no GpuNode reports a GPU yet: give --resource or --model")
    return offered


async def _gpu_nodes(kubeconfig: Path | None) -> list[GpuNode]:
    found: list[GpuNode] = []
    async with RestApi(kubeconfig=kubeconfig) as api:
        token = ""
        while True:
            page = await api.list(GPU_NODES, continue_token=token)
            found += [gpunode.decode(raw) for raw in page.items]
            token = page.continue_token
            if not token:
                return found


def _end(status: int, reason: str) -> NoReturn:
    typer.echo(f"tangram scheduler-config: {reason}", err=True)
    raise typer.Exit(status)
