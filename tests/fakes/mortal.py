"""An API server as a process reaches it that is killed at one of its writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from nodeagent.apiserver.protocol import (
    PODS,
    ApiServer,
    Body,
    Kind,
    Page,
    PatchType,
    WatchEvent,
)


class MortalApi:
    """Lets so many *writes* be made; nothing comes of anything after that.

    The last of them is *dropped* on its way, or it is made and its answer is lost.
    """

    def __init__(self, api: ApiServer, *, writes: int, dropped: bool) -> None:
        self._api = api
        self._left = writes
        self._dropped = dropped
        self.written: list[str] = []
        self.dead = asyncio.Event()

    async def get(self, kind: Kind, name: str, **options: Any) -> bytes:
        await self._lives()
        return await self._api.get(kind, name, **options)

    async def list(self, kind: Kind, **options: Any) -> Page:
        await self._lives()
        return await self._api.list(kind, **options)

    def watch(self, kind: Kind, **options: Any) -> AsyncGenerator[WatchEvent, None]:
        return self._api.watch(kind, **options)

    async def create(
        self, kind: Kind, body: Body, *, dry_run: bool = False, **options: Any
    ) -> bytes:
        if dry_run:
            await self._lives()
            return await self._api.create(kind, body, dry_run=True, **options)
        async with self._writing(f"create {kind.plural} {options.get('subresource', '')}".strip()):
            return await self._api.create(kind, body, **options)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Body | Sequence[Body],
        *,
        patch_type: PatchType,
        **options: Any,
    ) -> bytes:
        if kind == PODS:  # kube-scheduler is woken by that: nothing is lost with it
            await self._lives()
            return await self._api.patch(kind, name, patch, patch_type=patch_type, **options)
        async with self._writing(f"patch {kind.plural}"):
            return await self._api.patch(kind, name, patch, patch_type=patch_type, **options)

    async def delete(self, kind: Kind, name: str, **options: Any) -> None:
        async with self._writing(f"delete {kind.plural}"):
            await self._api.delete(kind, name, **options)

    @contextlib.asynccontextmanager
    async def _writing(self, what: str) -> AsyncIterator[None]:
        await self._lives()
        self.written.append(what)
        last = len(self.written) >= self._left
        if last:
            self.dead.set()
        if last and self._dropped:
            await self._lives()
        yield
        if last:
            await self._lives()

    async def _lives(self) -> None:
        if self.dead.is_set():
            await asyncio.Event().wait()  # until whoever waits is ended, too
