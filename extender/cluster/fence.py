"""The API server as a process may use it that leads for a time: every write ends with its time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

from extender.service.ports import TRANSIT_SECONDS
from extender.service.tenure import Tenure
from nodeagent.apiserver.protocol import (
    ApiError,
    ApiServer,
    Body,
    Kind,
    Page,
    PatchType,
    Unavailable,
    WatchEvent,
)


class Fenced:
    """An :class:`~nodeagent.apiserver.protocol.ApiServer` that lets nothing be written too late.

    No write begins after the tenure's end. One that begins before has no more time than is left
    until then, and the server is told so: it commits nothing that has been there for longer. That
    time counts from when the write has come there; another can lead only after the gap that
    follows, which is there for one that was long on its way. A dry run writes nothing, and is not
    held up.
    """

    def __init__(self, api: ApiServer, tenure: Tenure, clock: Callable[[], float]) -> None:
        self._api = api
        self._tenure = tenure
        self._clock = clock
        self._unsettled: dict[object, float] = {}

    async def settled(self) -> None:
        """Wait until nothing that was begun can be committed any more."""
        while self._unsettled:
            ends = max(self._unsettled.values())
            await asyncio.sleep(max(0.0, ends - self._clock()))
            self._forget_settled()

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
        """Return one page of the objects."""
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
        """Yield what changes after *resource_version*."""
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
        """Create an object, while there is time; in a dry run at any time."""
        with contextlib.nullcontext(timeout) if dry_run else self._admitted(timeout) as seconds:
            return await self._api.create(
                kind,
                body,
                namespace=namespace,
                name=name,
                subresource=subresource,
                dry_run=dry_run,
                timeout=seconds,
            )

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
        """Patch an object, while there is time."""
        with self._admitted(timeout) as seconds:
            return await self._api.patch(
                kind,
                name,
                patch,
                patch_type=patch_type,
                namespace=namespace,
                subresource=subresource,
                timeout=seconds,
            )

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
        """Delete an object, while there is time."""
        with self._admitted(timeout) as seconds:
            await self._api.delete(
                kind,
                name,
                namespace=namespace,
                uid=uid,
                resource_version=resource_version,
                grace_seconds=grace_seconds,
                timeout=seconds,
            )

    @contextlib.contextmanager
    def _admitted(self, timeout: float) -> Iterator[float]:
        """Give a write the time it has; one of unknown outcome stays unsettled until its end."""
        seconds = min(timeout, self._tenure.seconds_left)
        if seconds <= 0:
            raise Unavailable(0, "this process does not lead: nothing was sent")
        self._forget_settled()
        write, known = object(), False
        self._unsettled[write] = self._clock() + seconds + TRANSIT_SECONDS
        try:
            yield seconds
            known = True
        except ApiError as error:
            known = not isinstance(error, Unavailable)
            raise
        finally:
            if known:
                self._unsettled.pop(write, None)

    def _forget_settled(self) -> None:
        now = self._clock()
        self._unsettled = {write: ends for write, ends in self._unsettled.items() if ends > now}
