"""The Lease that decides which extender leads, in the API server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from extender.cluster.outcome import outcome
from extender.service.leadership import Claim, Record
from extender.service.ports import LeaseTaken
from nodeagent.api import keys, rfc3339
from nodeagent.apiserver.protocol import LEASES, ApiServer, Conflict, NotFound, PatchType
from nodeagent.apiserver.reflector import Replaced, Upserted, reflect


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str
    annotations: dict[str, str] = {}


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None


class _Lease(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


_LEASE = msgspec.json.Decoder(_Lease)


class ApiLease:
    """The service's :class:`~extender.service.ports.LeaseLock` over an API server.

    What times it writes (*utc_now*) is for people; nobody decides by them.
    """

    def __init__(
        self, api: ApiServer, *, utc_now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._api = api
        self._utc_now = utc_now

    async def read(self, *, timeout: float) -> Record | None:
        """Return the Lease as it is now."""
        try:
            with outcome(NotFound):
                return _record(
                    await self._api.get(
                        LEASES,
                        keys.LEADER_LEASE,
                        namespace=keys.SYSTEM_NAMESPACE,
                        timeout=timeout,
                    )
                )
        except NotFound:
            return None

    async def write(self, claim: Claim, *, timeout: float) -> Record:
        """Create the Lease, or patch it if it still has the claim's version."""
        try:
            with outcome(Conflict, NotFound):
                if claim.version:
                    return _record(await self._patch(claim, timeout))
                return _record(await self._create(claim, timeout))
        except (Conflict, NotFound) as error:
            raise LeaseTaken(error.message) from error

    async def releases(self) -> AsyncGenerator[None, None]:
        """Yield whenever the Lease is seen without a holder."""
        changes = reflect(
            self._api,
            LEASES,
            namespace=keys.SYSTEM_NAMESPACE,
            field_selector=f"metadata.name={keys.LEADER_LEASE}",
        )
        async with contextlib.aclosing(changes):
            async for change in changes:
                match change:
                    case Replaced(objects=found):
                        raws = [each.raw for each in found]
                    case Upserted(object=found):
                        raws = [found.raw]
                    case _:
                        raws = []
                if any(_free(raw) for raw in raws):
                    yield

    async def _create(self, claim: Claim, timeout: float) -> bytes:
        body = {
            "apiVersion": f"{LEASES.group}/{LEASES.version}",
            "kind": "Lease",
            "metadata": {"name": keys.LEADER_LEASE} | _noted(claim),
            "spec": self._spec(claim),
        }
        return await self._api.create(
            LEASES, body, namespace=keys.SYSTEM_NAMESPACE, timeout=timeout
        )

    async def _patch(self, claim: Claim, timeout: float) -> bytes:
        return await self._api.patch(
            LEASES,
            keys.LEADER_LEASE,
            {
                "metadata": {"resourceVersion": claim.version} | _noted(claim),
                "spec": self._spec(claim),
            },
            patch_type=PatchType.MERGE,
            namespace=keys.SYSTEM_NAMESPACE,
            timeout=timeout,
        )

    def _spec(self, claim: Claim) -> dict[str, Any]:
        now = rfc3339.microseconds(self._utc_now())
        spec = {
            "holderIdentity": claim.holder,
            "leaseDurationSeconds": claim.duration,
            "leaseTransitions": claim.transitions,
            "renewTime": now,
        }
        return spec if claim.renews else spec | {"acquireTime": now}


def _noted(claim: Claim) -> dict[str, Any]:
    """Return the metadata with which a claim leaves its note."""
    if claim.note is None:
        return {}
    return {"annotations": {keys.DEMAND_ANNOTATION: claim.note}}


def _record(raw: bytes) -> Record:
    lease = _LEASE.decode(raw)
    return Record(
        version=lease.metadata.resource_version,
        holder=lease.spec.holder_identity or "",
        duration=float(lease.spec.lease_duration_seconds or 0),
        transitions=lease.spec.lease_transitions or 0,
        note=lease.metadata.annotations.get(keys.DEMAND_ANNOTATION, ""),
    )


def _free(raw: bytes) -> bool:
    """Tell whether a Lease can be had; one that cannot be read is looked at, too."""
    try:
        return not _record(raw).holder
    except msgspec.MsgspecError:
        return True
