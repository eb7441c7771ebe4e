"""``tangram harvester bootstrap``: let VMs of Harvester ask for types that nobody has made yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from extender import bootstrap as wanted
from extender.bootstrap import KUBEVIRTS, PCI_DEVICES, VGPU_DEVICES, Stand
from nodeagent.api import gpunode
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    VIRTUAL_MACHINES,
    ApiError,
    ApiServer,
    Body,
    Conflict,
    Kind,
    NotFound,
    PatchType,
)
from nodeagent.apiserver.rest import RestApi

NAMESPACE, KUBEVIRT = "harvester-system", "kubevirt"
"""Where Harvester has its KubeVirt."""

UNUSABLE = 2
"""Exit status."""

_ATTEMPTS = 5
"""How often the KubeVirt is read again when somebody else has written it meanwhile."""

app = typer.Typer(name="harvester", help="Harvester (SUSE Virtualization).", no_args_is_help=True)


@app.callback()
def _harvester() -> None:
    """Harvester (SUSE Virtualization)."""


@app.command()
def bootstrap(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take back what this command has written.")
    ] = False,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="Credentials for the API server; otherwise what kubectl would use."),
    ] = None,
) -> None:
    """Let VMs ask for every vGPU type that the cluster's GPUs could make, taking no slice for it.

    Run it again when GPUs of another model have come: what is there already stays as it is.
    """
    asyncio.run(_run(kubeconfig, dry_run=dry_run, remove=remove))


async def _run(kubeconfig: Path | None, *, dry_run: bool, remove: bool) -> None:
    would = "would be " if dry_run else ""
    try:
        async with RestApi(kubeconfig=kubeconfig) as api:
            count = 0
            async for line in (taken_back if remove else provided)(api, dry_run=dry_run):
                typer.echo(f"{would}{line}")
                count += 1
    except ApiError as error:
        _end(f"the API server: {error}")
    except NoTypes as error:
        _end(str(error))
    if not count:
        typer.echo("nothing to do")


class NoTypes(Exception):
    """No agent has reported which types its GPUs could make."""


async def provided(api: ApiServer, *, dry_run: bool = False) -> AsyncIterator[str]:
    """Write what is missing, and yield a line for each thing written.

    Raises:
        ApiError: the API server refuses; what was written stays, and is found the next time.
        NoTypes: nothing is known yet.
    """
    types = wanted.types_of([gpunode.decode(raw) async for raw in _raw(api, GPU_NODES)])
    if not types:
        raise NoTypes("no agent in mode harvester has reported a vGPU type yet: kubectl get gn")
    for stand in wanted.stands(types):
        if await _differs(api, stand):
            if not dry_run:
                await _stand(api, stand)
            yield f"written: {stand.kind.plural} {stand.name}"
    for resource in await _kubevirt_patched(
        api, lambda kubevirt: wanted.permitting(kubevirt, types), dry_run=dry_run
    ):
        yield f"permitted to KubeVirt: {resource}"


async def taken_back(api: ApiServer, *, dry_run: bool = False) -> AsyncIterator[str]:
    """Remove what was written, and yield a line for each thing removed.

    Resources that a VirtualMachine asks for stay permitted.
    """
    used = {each async for vm in _listed(api, VIRTUAL_MACHINES) for each in wanted.asked_for(vm)}
    for resource in await _kubevirt_patched(
        api, lambda kubevirt: wanted.withdrawing(kubevirt, used=used), dry_run=dry_run
    ):
        yield f"permitted to KubeVirt no more: {resource}"
    for kind in (VGPU_DEVICES, PCI_DEVICES):
        names = [
            each["metadata"]["name"]
            async for each in _listed(api, kind, label_selector=f"{wanted.LABEL}=true")
        ]
        for name in names:
            if not dry_run:
                await api.delete(kind, name)
            yield f"removed: {kind.plural} {name}"


async def _differs(api: ApiServer, stand: Stand) -> bool:
    """Tell whether an object is not there, or does not show what it is to show."""
    try:
        found = msgspec.json.decode(await api.get(stand.kind, stand.name))
    except NotFound:
        return True
    return not stand.status.items() <= (found.get("status") or {}).items()


async def _stand(api: ApiServer, stand: Stand) -> None:
    with contextlib.suppress(Conflict):  # cut off before its status was written
        await api.create(stand.kind, stand.body)
    await api.patch(
        stand.kind,
        stand.name,
        {"status": stand.status},
        patch_type=PatchType.MERGE,
        subresource="status",
    )


async def _kubevirt_patched(
    api: ApiServer, change: Callable[[Body], Body | None], *, dry_run: bool
) -> Collection[str]:
    """Patch the KubeVirt by what *change* makes of it, and return the resources that are affected.

    The list is replaced whole, so it is written only onto the state it was made of.
    """
    attempts = _ATTEMPTS
    while True:
        attempts -= 1
        raw = await api.get(KUBEVIRTS, KUBEVIRT, namespace=NAMESPACE)
        kubevirt = msgspec.json.decode(raw)
        patch = change(kubevirt)
        if patch is None:
            return ()
        affected = sorted(_resources(kubevirt) ^ _resources(patch))
        if dry_run:
            return affected
        version = kubevirt["metadata"]["resourceVersion"]
        metadata = {**patch["metadata"], "resourceVersion": version}
        try:
            await api.patch(
                KUBEVIRTS,
                KUBEVIRT,
                {**patch, "metadata": metadata},
                patch_type=PatchType.MERGE,
                namespace=NAMESPACE,
            )
        except Conflict:
            if not attempts:
                raise
        else:
            return affected


def _resources(kubevirt: Mapping[str, Any]) -> set[str]:
    configuration = kubevirt["spec"].get("configuration") or {}
    permitted = configuration.get("permittedHostDevices") or {}
    return {each["resourceName"] for each in permitted.get("mediatedDevices") or ()}


async def _listed(
    api: ApiServer, kind: Kind, *, label_selector: str = ""
) -> AsyncIterator[dict[str, Any]]:
    async for raw in _raw(api, kind, label_selector=label_selector):
        yield msgspec.json.decode(raw)


async def _raw(api: ApiServer, kind: Kind, *, label_selector: str = "") -> AsyncIterator[bytes]:
    token = ""
    while True:
        page = await api.list(kind, label_selector=label_selector, continue_token=token)
        for raw in page.items:
            yield raw
        token = page.continue_token
        if not token:
            return


def _end(reason: str) -> NoReturn:
    typer.echo(f"tangram harvester bootstrap: {reason}", err=True)
    raise typer.Exit(UNUSABLE)
