"""The kubelet of a real node, as the agent sees it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from nodeagent.api.gpunode import Mode
from nodeagent.deviceplugin import cdi
from nodeagent.deviceplugin.accounts import Accounts, GpuPods
from nodeagent.deviceplugin.desk import Desk
from nodeagent.deviceplugin.places import Places, Timing
from nodeagent.deviceplugin.registry import Registry
from nodeagent.kubelet import Device, Holder, KubeletError, Offer

log = structlog.get_logger()

SOON_SECONDS = 0.02
"""How soon to look again for a claim that must show at any moment."""


class DevicePlugins:
    """A :class:`~nodeagent.kubelet.Kubelet`: the one whose directories *places* names.

    *pods* tells which pods are there at all. Nothing is served before the first offer, nor after
    :meth:`run` has been cancelled.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        pods: GpuPods,
        places: Places | None = None,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if mode is Mode.HARVESTER:
            raise ValueError("Harvester serves its devices itself")
        self._mode = mode
        self._places = places or Places()
        self._timing = timing or Timing()
        self._clock = clock
        self._given = asyncio.Event()
        self._desk = Desk(mode, clock=clock)
        self._accounts = Accounts(self._places, self._timing, pods)
        self._registry = Registry(
            self._desk,
            self._places,
            self._timing,
            rivals=self._accounts.rivals,
            allocated=self._given.set,
            clock=clock,
        )
        self._complaint = ""

    async def run(self, changed: Callable[[], None]) -> None:
        """Stay registered until cancelled; call *changed* whenever the kubelet's account has."""
        audit = self._clock() + self._timing.audit_seconds
        try:
            while True:
                lost: Collection[Path] = ()
                with self._complaining():
                    if await self._accounts.moved():
                        changed()
                    if self._clock() >= audit:
                        audit = self._clock() + self._timing.audit_seconds
                        lost = await self._lost()
                    await self._registry.keep(lost)
                await self._pause()
        finally:
            await self._registry.close()

    async def offer(self, offer: Offer) -> None:
        """Put *offer* in place of the one before.

        Raises:
            KubeletError: the one before may still be served, or the kubelet does not know this one.
        """
        if self._mode is Mode.CONTAINER:
            before = self._desk.offer.devices if self._desk.offer else {}
            await self._describe({**before, **offer.devices})
        self._desk.offer = offer
        self._registry.offered()
        if self._mode is Mode.CONTAINER:
            await self._describe(offer.devices)
        await self._registry.keep()

    async def claims(self) -> Mapping[str, str]:
        """Return the UID of the pod to which each slot has been given.

        Slots given out just now may be in neither of the kubelet's accounts; so long as they may
        still come, they are waited for.

        Raises:
            KubeletError: it is not known who has what.
        """
        pause = SOON_SECONDS
        while True:
            found = await self._accounts.claims()
            if not self._desk.open(found, within=self._timing.settle_seconds):
                return found
            await asyncio.sleep(pause)
            pause *= 2

    async def holders(self) -> Sequence[Holder]:
        """Return the running pods that have devices for our resources which are no slots.

        Raises:
            KubeletError: it is not known who has what.
        """
        return await self._accounts.holders()

    async def rivals(self) -> Mapping[str, str]:
        """Say, for each of our resources that somebody else advertises too, how that shows.

        Raises:
            KubeletError: the kubelet does not tell.
        """
        return await self._accounts.rivals()

    async def _lost(self) -> Collection[Path]:
        """Return the sockets of the endpoints that the kubelet has dropped, though it follows them.

        Where another plugin has taken the resource over, nothing is gained by taking it back.
        """
        settled = self._registry.settled
        if not settled:
            return ()
        devices = await self._accounts.devices()
        return [socket for resource, socket in settled.items() if not devices.get(resource)]

    async def _describe(self, devices: Mapping[str, Device]) -> None:
        await asyncio.to_thread(cdi.publish, self._places.cdi, devices)

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        """Log what is wrong with the kubelet, once for as long as it stays the same."""
        complaint = ""
        try:
            yield
        except KubeletError as error:
            complaint = str(error)
            if complaint != self._complaint:
                log.warning("kubelet_unusable", error=complaint)
        self._complaint = complaint

    async def _pause(self) -> None:
        """Wait for the next look: a short time while a claim is about to show."""
        soon = self._given.is_set()
        self._given.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOON_SECONDS if soon else self._timing.poll_seconds):
                await self._given.wait()
