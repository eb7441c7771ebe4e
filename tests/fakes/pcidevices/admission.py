"""An API server's door with Harvester's webhooks behind it, which notes what comes through."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from nodeagent.apiserver import patches
from nodeagent.apiserver.protocol import (
    NODES,
    ApiServer,
    Body,
    Kind,
    NotFound,
    Page,
    PatchType,
    Refused,
    WatchEvent,
)
from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices import webhooks
from tests.fakes.pcidevices.log import Log
from tests.fakes.pcidevices.names import (
    MIG_CONFIGURATIONS,
    PCI_CLAIMS,
    PCI_DEVICES,
    SRIOV_GPUS,
    VGPUS,
    VMS,
    Version,
)

_JUDGED = (VGPUS, MIG_CONFIGURATIONS, SRIOV_GPUS, VMS)
_NOTED = (SRIOV_GPUS, VGPUS, MIG_CONFIGURATIONS, PCI_DEVICES, PCI_CLAIMS, VMS)


class Admission:
    """An :class:`~nodeagent.apiserver.protocol.ApiServer` over *api*, for the client *actor*.

    Where *api* runs the webhooks itself, *judges* is False and it only takes notes. The controller
    is a client of it like any other. *is_empty* tells of a GPU, by its objects' name, whether it
    holds no GPU instance.
    """

    def __init__(
        self,
        api: ApiServer,
        log: Log,
        actor: str,
        version: Version,
        *,
        judges: bool = True,
        is_empty: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._api = api
        self._log = log
        self._actor = actor
        self._version = version
        self._judges = judges
        self._is_empty = is_empty

    async def get(
        self, kind: Kind, name: str, *, namespace: str = "", timeout: float = 10.0
    ) -> bytes:
        """Return the object's JSON."""
        return await self._api.get(kind, name, namespace=namespace, timeout=timeout)

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        continue_token: str = "",
        timeout: float = 30.0,
    ) -> Page:
        """Return one page."""
        return await self._api.list(
            kind,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
            continue_token=continue_token,
            timeout=timeout,
        )

    def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout: float = 300.0,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what changes."""
        return self._api.watch(
            kind,
            resource_version=resource_version,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            timeout=timeout,
        )

    async def create(
        self,
        kind: Kind,
        body: Body,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
        timeout: float = 10.0,
    ) -> bytes:
        """Create an object, unless a webhook refuses."""
        if kind == VMS and not subresource and self._judges:
            body = webhooks.vm_rewritten(self._version, body)
            refusal = webhooks.vm_written(
                self._version, body, await self._all(VGPUS), await self._all(PCI_DEVICES)
            )
            self._check(kind, str(body["metadata"]["name"]), refusal)
        made = await self._api.create(
            kind,
            body,
            namespace=namespace,
            name=name,
            subresource=subresource,
            dry_run=dry_run,
            timeout=timeout,
        )
        self._note(kind, msgspec.json.decode(made)["metadata"]["name"], "create", body)
        return made

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Body | Sequence[Body],
        *,
        patch_type: PatchType,
        namespace: str = "",
        subresource: str = "",
        timeout: float = 10.0,
    ) -> bytes:
        """Patch an object, unless a webhook refuses; none sees writes of a status."""
        blind = frozen = False
        if not subresource and self._judges and kind in _JUDGED:
            old, new = await self._change(kind, name, patch, patch_type, namespace)
            self._check(kind, name, await self._judged(kind, old, new))
            blind = kind == VGPUS and webhooks.is_blind(old, new)
            frozen = kind == MIG_CONFIGURATIONS and webhooks.stays_frozen(
                old, new, empty=self._is_empty(name)
            )
        done = await self._api.patch(
            kind,
            name,
            patch,
            patch_type=patch_type,
            namespace=namespace,
            subresource=subresource,
            timeout=timeout,
        )
        self._note(kind, name, f"patch {subresource}".strip(), patch)
        if blind:
            self._log.add(self._actor, deeds.BLIND, f"{kind.plural} {name}")
        if frozen:
            self._log.add(self._actor, deeds.FROZEN, f"{kind.plural} {name}")
        return done

    async def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Delete an object, unless a webhook refuses."""
        if kind in (VGPUS, SRIOV_GPUS) and self._judges:
            self._check(kind, name, await self._deletion_judged(kind, name))
        await self._api.delete(
            kind,
            name,
            namespace=namespace,
            uid=uid,
            resource_version=resource_version,
            grace_seconds=grace_seconds,
            timeout=timeout,
        )
        self._note(kind, name, "delete", {})

    # -- the webhooks ------------------------------------------------------------------------------

    async def _change(
        self,
        kind: Kind,
        name: str,
        patch: Body | Sequence[Body],
        patch_type: PatchType,
        namespace: str,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return an object as it is, and as the patch would have it."""
        raw = await self._api.get(kind, name, namespace=namespace)
        old, new = msgspec.json.decode(raw), msgspec.json.decode(raw)
        change = msgspec.json.decode(msgspec.json.encode(patch))
        if patch_type is PatchType.JSON:
            new = patches.json_patched(new, change)
        else:
            new = patches.merge_patched(new, change)
        new["status"] = old.get("status")
        return old, new

    async def _judged(self, kind: Kind, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
        if kind == VGPUS:
            return webhooks.vgpu_updated(old, new, await self._all(VMS))
        if kind == MIG_CONFIGURATIONS:
            return webhooks.mig_updated(old, new, await self._all(VGPUS))
        if kind == SRIOV_GPUS:
            return webhooks.gpu_updated(old, new, await self._all(VMS))
        return webhooks.vm_written(
            self._version, new, await self._all(VGPUS), await self._all(PCI_DEVICES)
        )

    async def _deletion_judged(self, kind: Kind, name: str) -> str:
        value = msgspec.json.decode(await self._api.get(kind, name))
        try:
            await self._api.get(NODES, (value.get("spec") or {}).get("nodeName") or "")
        except NotFound:
            return ""  # nothing of a node that is gone is in use
        if kind == SRIOV_GPUS:
            return webhooks.gpu_deleted(value)
        return webhooks.vgpu_used(name, await self._all(VMS))

    async def _all(self, kind: Kind) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = ()
        token = ""
        while True:
            page = await self._api.list(kind, continue_token=token)
            found = [*found, *(msgspec.json.decode(raw) for raw in page.items)]
            token = page.continue_token
            if not token:
                return found

    def _check(self, kind: Kind, name: str, refusal: str) -> None:
        if refusal:
            self._log.add(self._actor, deeds.REFUSED, f"{kind.plural} {name}", refusal)
            raise Refused(400, f'admission webhook "pcidevices.harvesterhci.io" denied: {refusal}')

    def _note(self, kind: Kind, name: str, verb: str, what: object) -> None:
        if kind in _NOTED:
            detail = f"{verb} {msgspec.json.encode(what).decode()}"
            self._log.add(self._actor, deeds.WRITE, f"{kind.plural} {name}", detail)
